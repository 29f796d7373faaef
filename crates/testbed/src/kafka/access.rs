//! How this crate's own clients get to a broker that wants TLS or SASL: as the services of a stand,
//! by the same lines of configuration. SCRAM by hand (RFC 5802), as the rest of the protocol.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    num::NonZeroU32,
    path::Path,
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ring::{digest, hmac, pbkdf2};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;

use super::wire::{Rest, exchange, put_text};

/// The broker of a test run, and what its section `kafka` says besides.
const BROKER: &str = "SLUICE_TEST_KAFKA";
const CONFIG: &str = "SLUICE_TEST_KAFKA_CONFIG";

const SASL_HANDSHAKE: (u16, u16) = (17, 1);
const SASL_AUTHENTICATE: (u16, u16) = (36, 0);

/// Both ways, whatever is between.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection to `host:port` that takes requests, by what this test run says of that broker.
///
/// # Errors
/// When there is none.
pub fn connect(broker: &str) -> Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(broker)?;
    match of(stream.peer_addr()?) {
        Some((host, access)) => access.secure(&host, stream),
        None => Ok(Box::new(stream)),
    }
}

/// What `kafka.tls` and `kafka.sasl` are to say.
#[derive(Clone, Debug)]
pub struct Access(Value);

impl Access {
    /// From a file with lines of the section `kafka`.
    ///
    /// # Errors
    /// When it cannot be read, or is no section.
    pub fn read(file: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let section: Value = serde_yaml::from_str(&text)?;
        ensure!(section.is_object(), "{} is no section", file.display());
        Ok(Self(section))
    }

    /// The one of this test run.
    ///
    /// # Panics
    /// When its file cannot be used.
    pub fn from_env() -> Option<&'static Self> {
        static ACCESS: OnceLock<Option<Access>> = OnceLock::new();
        let read = || {
            let file = std::env::var_os(CONFIG).filter(|file| !file.is_empty())?;
            Some(Self::read(Path::new(&file)).expect(CONFIG))
        };
        ACCESS.get_or_init(read).as_ref()
    }

    /// Paths below `kafka` and their values, as YAML.
    pub fn settings(&self) -> Vec<(String, String)> {
        let entries = self.0.as_object().into_iter().flatten();
        entries
            .map(|(key, value)| (format!("kafka.{key}"), value.to_string()))
            .collect()
    }

    /// What a file says that `KCAT_CONFIG` names; with `mechanism` instead of the one that the
    /// services use, where it is given.
    ///
    /// # Errors
    /// When the password cannot be read.
    pub fn kcat_config(&self, mechanism: Option<&str>) -> Result<String> {
        let protocol = match (self.0.get("tls"), self.0.get("sasl")) {
            (Some(_), Some(_)) => "sasl_ssl",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (None, None) => "plaintext",
        };
        let mut lines = format!("security.protocol={protocol}\n");
        let password = self.0.get("sasl").map(|_| self.password()).transpose()?;
        for (key, value) in [
            ("ssl.ca.location", self.text("/tls/caFile")),
            ("ssl.certificate.location", self.text("/tls/certFile")),
            ("ssl.key.location", self.text("/tls/keyFile")),
            (
                "sasl.mechanism",
                self.text("/sasl/mechanism")
                    .map(|its| mechanism.unwrap_or(its)),
            ),
            ("sasl.username", self.text("/sasl/username")),
            ("sasl.password", password.as_deref()),
        ] {
            if let Some(value) = value {
                lines.push_str(&format!("{key}={value}\n"));
            }
        }
        Ok(lines)
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.0.pointer(path).and_then(Value::as_str)
    }

    fn password(&self) -> Result<String> {
        if let Some(password) = self.text("/sasl/password") {
            return Ok(password.to_owned());
        }
        let file = self.text("/sasl/passwordFile").context("no password")?;
        Ok(fs::read_to_string(file)?.trim_end().to_owned())
    }

    /// Goes through TLS and logs in, as far as these are asked for.
    pub(super) fn secure(&self, host: &str, stream: TcpStream) -> Result<Box<dyn Stream>> {
        let mut stream: Box<dyn Stream> = match self.0.get("tls") {
            Some(_) => Box::new(self.tls(host, stream)?),
            None => Box::new(stream),
        };
        if self.0.get("sasl").is_some() {
            self.log_in(&mut *stream)?;
        }
        Ok(stream)
    }

    fn tls(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut roots = RootCertStore::empty();
        let ca = self.text("/tls/caFile").context("no tls.caFile")?;
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match (self.text("/tls/certFile"), self.text("/tls/keyFile")) {
            (Some(cert), Some(key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert)?.collect();
                builder.with_client_auth_cert(chain?, PrivateKeyDer::from_pem_file(key)?)?
            }
            _ => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from(host.to_owned())?;
        let connection = ClientConnection::new(Arc::new(config), name)?;
        Ok(StreamOwned::new(connection, stream))
    }

    fn log_in(&self, stream: &mut dyn Stream) -> Result<()> {
        let mechanism = self.text("/sasl/mechanism").context("no sasl.mechanism")?;
        let user = self.text("/sasl/username").context("no sasl.username")?;
        let mut body = Vec::new();
        put_text(&mut body, mechanism)?;
        let answer = exchange(stream, SASL_HANDSHAKE, &body)?;
        let code = Rest(&answer).i16()?;
        ensure!(code == 0, "SASL handshake: error {code}");
        let password = self.password()?;
        let (mac, kdf, hash) = match mechanism {
            "PLAIN" => {
                authenticate(stream, &format!("\0{user}\0{password}"))?;
                return Ok(());
            }
            "SCRAM-SHA-256" => (
                hmac::HMAC_SHA256,
                pbkdf2::PBKDF2_HMAC_SHA256,
                &digest::SHA256,
            ),
            "SCRAM-SHA-512" => (
                hmac::HMAC_SHA512,
                pbkdf2::PBKDF2_HMAC_SHA512,
                &digest::SHA512,
            ),
            other => bail!("no such mechanism: {other}"),
        };
        let nonce: String = (0..24).map(|_| fastrand::alphanumeric()).collect();
        let bare = format!("n={user},r={nonce}");
        let first = authenticate(stream, &format!("n,,{bare}"))?;
        let field = |at: usize| {
            let field = first.split(',').nth(at).and_then(|field| field.get(2..));
            field.with_context(|| format!("no SCRAM message: {first}"))
        };
        let salt = BASE64.decode(field(1)?)?;
        let rounds: NonZeroU32 = field(2)?.parse()?;
        let mut salted = vec![0; hash.output_len()];
        pbkdf2::derive(kdf, rounds, &salt, password.as_bytes(), &mut salted);
        let sign = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(mac, key), data);
        let key = sign(&salted, b"Client Key");
        let last = format!("c=biws,r={}", field(0)?);
        let signed = format!("{bare},{first},{last}");
        let signature = sign(
            digest::digest(hash, key.as_ref()).as_ref(),
            signed.as_bytes(),
        );
        let pairs = key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = pairs.map(|(a, b)| a ^ b).collect();
        authenticate(stream, &format!("{last},p={}", BASE64.encode(proof)))?;
        Ok(())
    }
}

fn authenticate(stream: &mut dyn Stream, message: &str) -> Result<String> {
    let mut body = u32::try_from(message.len())?.to_be_bytes().to_vec();
    body.extend(message.as_bytes());
    let answer = exchange(stream, SASL_AUTHENTICATE, &body)?;
    let mut rest = Rest(&answer);
    let (code, words) = (rest.i16()?, rest.text()?);
    ensure!(code == 0, "SASL: error {code} {words}");
    let len = rest.count()?;
    Ok(String::from_utf8(rest.take(len)?.to_vec())?)
}

/// How to get to this address, if it is one of the test run's broker and wants more than TCP; with
/// the host that it was resolved from.
pub(super) fn of(address: SocketAddr) -> Option<(String, &'static Access)> {
    let access = Access::from_env()?;
    let brokers = std::env::var(BROKER).ok()?;
    let mut hosts = brokers.split(',');
    let broker = hosts.find(|broker| {
        let mut found = broker.to_socket_addrs().into_iter().flatten();
        found.any(|found| found == address)
    })?;
    let host = broker.rsplit_once(':')?.0;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host.to_owned(), access))
}
