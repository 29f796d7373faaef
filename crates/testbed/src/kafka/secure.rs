//! What the listeners with TLS and SASL of our Kafka need: an authority, certificates, users; and
//! what a client's section `kafka` says to go through each. Made once for each directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::{Cluster, Node};
use crate::clock::{DAY_MS, Millis};

/// Who may do everything, by SASL and by certificate.
pub const USER: &str = "sluice";
/// Who may do nothing until someone allows it; with the same password.
pub const LIMITED: &str = "limited";
/// The mechanism whose sessions end after [`SESSION_MS`].
pub const SHORT_SESSIONS: &str = "SCRAM-SHA-256";
pub const SESSION_MS: u32 = 3_000;

/// The authority's name.
const OURS: &str = "Sluice's tests";
/// Year, month, day.
type Day = (i32, u8, u8);
const LONG_AGO: Day = (2020, 1, 1);

/// Where a client may come in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listener {
    Plaintext,
    /// TLS that wants a client certificate.
    MutualTls,
    /// TLS with each of the mechanisms.
    SaslSsl,
    /// No TLS, and PLAIN alone.
    SaslPlaintext,
    /// TLS with a certificate that has expired.
    Expired,
}

impl Listener {
    pub(super) fn offset(self) -> u16 {
        match self {
            Self::Plaintext => 0,
            Self::MutualTls => 4,
            Self::SaslSsl => 5,
            Self::SaslPlaintext => 6,
            Self::Expired => 7,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::MutualTls => "SSL",
            Self::SaslSsl => "SASL_SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::Expired => "EXPIRED",
        }
    }
}

const LISTENERS: [Listener; 4] = [
    Listener::MutualTls,
    Listener::SaslSsl,
    Listener::SaslPlaintext,
    Listener::Expired,
];

/// The files, in a directory of their own.
#[derive(Clone, Debug)]
pub struct Secure {
    dir: PathBuf,
}

impl Secure {
    /// Of the cluster in `dir`; makes what is missing.
    pub(super) fn made(dir: &Path) -> Result<Self> {
        let secure = Self::open(dir);
        if !secure.password_file().exists() {
            fs::create_dir_all(&secure.dir)?;
            secure.make().context("no certificates")?;
        }
        Ok(secure)
    }

    pub(super) fn open(dir: &Path) -> Self {
        Self {
            dir: dir.join("secure"),
        }
    }

    /// A file of them, as `ca.pem`, `client.crt`, `stranger.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn password_file(&self) -> PathBuf {
        self.file("password")
    }

    /// # Errors
    /// When it cannot be read.
    pub fn password(&self) -> Result<String> {
        Ok(fs::read_to_string(self.password_file())?.trim().to_owned())
    }

    /// For `--kafka-config`: TLS and the user with this mechanism.
    pub fn sasl_config(&self, mechanism: &str) -> PathBuf {
        self.file(&format!("{}.yaml", mechanism.to_lowercase()))
    }

    /// For `--kafka-config`: TLS with a client certificate.
    pub fn mutual_tls_config(&self) -> PathBuf {
        self.file("mutual-tls.yaml")
    }

    /// A client's certificate that the brokers trust, for so many days and as `STEM.crt` and
    /// `STEM.key`. Returns when it ends, in seconds since 1970.
    ///
    /// # Errors
    /// When the files were made by an earlier version, without the authority's key, or cannot be
    /// written.
    pub fn issue(&self, stem: &Path, name: &str, days: i64) -> Result<i64> {
        let key = fs::read_to_string(self.file("ca.key"))
            .context("no authority's key: an older Kafka's directory? Remove it")?;
        let (issuer, _) = authority(OURS, KeyPair::from_pem(&key)?)?;
        let day = Millis(Millis::now().0 + days * DAY_MS).parts();
        let ends = (day.year as i32, day.month as u8, day.day as u8);
        let made = Certified::new(name, &[], &issuer, Some(ends))?;
        fs::write(stem.with_extension("crt"), &made.cert)?;
        fs::write(stem.with_extension("key"), &made.key)?;
        Ok(date_time_ymd(ends.0, ends.1, ends.2).unix_timestamp())
    }

    fn make(&self) -> Result<()> {
        let key = KeyPair::generate()?;
        fs::write(self.file("ca.key"), key.serialize_pem())?;
        let ca = authority(OURS, key)?;
        fs::write(self.file("ca.pem"), &ca.1)?;
        let other = authority("somebody else", KeyPair::generate()?)?;
        fs::write(self.file("other-ca.pem"), other.1)?;
        let good = Certified::new("broker", &["127.0.0.1"], &ca.0, None)?;
        fs::write(self.file("broker.pem"), good.both())?;
        let ended = Certified::new("broker", &["127.0.0.1"], &ca.0, Some(LONG_AGO))?;
        fs::write(self.file("expired.pem"), ended.both())?;
        for (name, issuer, ends) in [
            ("client", &ca.0, None),
            ("stranger", &other.0, None),
            ("former", &ca.0, Some(LONG_AGO)),
        ] {
            let made = Certified::new(USER, &[], issuer, ends)?;
            fs::write(self.file(&format!("{name}.crt")), &made.cert)?;
            fs::write(self.file(&format!("{name}.key")), &made.key)?;
        }
        let tls = |more: &str| format!("tls: {{caFile: {:?}{more}}}\n", self.file("ca.pem"));
        let client = format!(
            ", certFile: {:?}, keyFile: {:?}",
            self.file("client.crt"),
            self.file("client.key")
        );
        fs::write(self.mutual_tls_config(), tls(&client))?;
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let sasl = format!(
                "sasl: {{mechanism: {mechanism}, username: {USER}, passwordFile: {:?}}}\n",
                self.password_file()
            );
            fs::write(self.sasl_config(mechanism), tls("") + &sasl)?;
            if mechanism == "PLAIN" {
                fs::write(self.sasl_config("PLAIN-without-TLS"), sasl)?;
            }
        }
        // Last: where it is, all is.
        let password: String = (0..24).map(|_| fastrand::alphanumeric()).collect();
        fs::write(self.password_file(), password + "\n")?;
        Ok(())
    }
}

/// Lines of each node's settings.
pub(super) fn settings(cluster: &Cluster) -> Result<String> {
    let secure = cluster.secure();
    let (password, pem) = (secure.password()?, |name: &str| {
        secure.file(name).display().to_string()
    });
    let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required";
    let users = format!("user_{USER}=\"{password}\" user_{LIMITED}=\"{password}\";");
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    Ok(format!(
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={plain} {users}
listener.name.sasl_ssl.plain.sasl.jaas.config={plain} {users}
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram}
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}
listener.name.sasl_ssl.{short}.connections.max.reauth.ms={SESSION_MS}
ssl.keystore.type=PEM
ssl.keystore.location={broker}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.ssl.ssl.client.auth=required
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location={expired}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{USER};User:CN={USER}
",
        short = SHORT_SESSIONS.to_lowercase(),
        broker = pem("broker.pem"),
        expired = pem("expired.pem"),
        ca = pem("ca.pem"),
    ))
}

/// For `listeners` and `advertised.listeners`, each behind a comma.
pub(super) fn listeners(node: &Node) -> String {
    let each = LISTENERS.map(|listener| {
        format!(
            ",{}://127.0.0.1:{}",
            listener.name(),
            node.port + listener.offset()
        )
    });
    each.concat()
}

/// For `listener.security.protocol.map`, behind a comma.
pub(super) const PROTOCOLS: &str =
    ",SSL:SSL,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,EXPIRED:SSL";

/// Tells the tool that formats a node of the users.
pub(super) fn add_users(format: &mut Command, secure: &Secure) -> Result<()> {
    let password = secure.password()?;
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for user in [USER, LIMITED] {
            let user = format!("{mechanism}=[name={user},password={password}]");
            format.args(["--add-scram", &user]);
        }
    }
    Ok(())
}

/// What signs, and its certificate.
fn authority(name: &str, key: KeyPair) -> Result<(Issuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), certificate))
}

struct Certified {
    cert: String,
    key: String,
}

impl Certified {
    fn new(
        name: &str,
        hosts: &[&str],
        issuer: &Issuer<'_, KeyPair>,
        ends: Option<Day>,
    ) -> Result<Self> {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some((year, month, day)) = ends {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(year, month, day);
        }
        let key = KeyPair::generate()?;
        Ok(Self {
            cert: params.signed_by(&key, issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }

    fn both(&self) -> String {
        format!("{}{}", self.key, self.cert)
    }
}
