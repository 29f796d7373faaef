//! What `kafka.tls` and `kafka.sasl` make of a new connection: their files are read anew for each
//! one, so that certificates and passwords change without a restart; and a connection that was made
//! with some lasts no longer than [`FILES_AGE_MAX`], so that the change reaches all of them. While
//! they cannot be used, what was read before goes on being used, and that is said once.

use std::{
    path::PathBuf,
    sync::{Arc, Once},
    time::{Duration, Instant},
};

use pipeline_core::{
    config::{Fault, KafkaSasl, KafkaSecurity, Password, SaslMechanism, Secret},
    pem,
    telemetry::catalog,
};
use ring::digest;
use rustls::{ClientConfig, RootCertStore};
use tokio::{sync::Mutex, time::timeout_at};

use super::{CallError, tls};

const PASSWORD_FILE: &str = "kafka.sasl.passwordFile";
const PASSWORD_BYTES_MAX: usize = 1_024;
/// A handshake every few minutes costs nothing beside what a connection carries.
pub(crate) const FILES_AGE_MAX: Duration = Duration::from_secs(600);

/// Who we are.
pub(super) struct Login {
    pub mechanism: SaslMechanism,
    pub username: String,
    pub password: Secret,
}

/// What a new connection uses.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    pub tls: Option<Arc<ClientConfig>>,
    /// When our certificate ends, seconds since 1970, if we have one to show.
    pub certificate_ends: Option<i64>,
    pub login: Option<Arc<Login>>,
}

impl Credentials {
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    fn say_when_they_end(&self) {
        let at = self.certificate_ends.unwrap_or_default();
        metrics::gauge!(catalog::KAFKA_CLIENT_CERTIFICATE_ENDS).set(at as f64);
    }
}

#[derive(Default)]
pub(crate) struct Security {
    config: Arc<KafkaSecurity>,
    kept: Arc<Mutex<Kept>>,
}

/// What was read last.
#[derive(Default)]
struct Kept {
    credentials: Option<Credentials>,
    /// Of the files that they were made of.
    fingerprint: Vec<u8>,
    /// The system's, read once.
    roots: Option<Arc<RootCertStore>>,
    /// What was said of files that cannot be used.
    said: Option<String>,
}

impl Security {
    pub(crate) fn new(config: KafkaSecurity) -> Self {
        static WARNED: Once = Once::new();
        let sasl = config.sasl.as_ref();
        if config.tls.is_none() && sasl.is_some_and(|it| it.mechanism == SaslMechanism::Plain) {
            WARNED.call_once(|| {
                tracing::warn!(
                    "kafka.sasl.mechanism is PLAIN and kafka.tls is off: everybody on the way to \
                     the brokers can read the password"
                );
            });
        }
        Self {
            config: Arc::new(config),
            kept: Arc::default(),
        }
    }

    /// Whether anything of it can change while we run.
    pub(super) fn uses_files(&self) -> bool {
        let tls = self.config.tls.as_ref();
        let of_tls = tls.is_some_and(|tls| tls.ca_file.is_some() || tls.client.is_some());
        let sasl = self.config.sasl.as_ref();
        of_tls || sasl.is_some_and(|sasl| matches!(sasl.password, Password::File(_)))
    }

    /// For a connection that is being made now.
    pub(super) async fn credentials(&self, deadline: Instant) -> Result<Credentials, CallError> {
        if self.config.tls.is_none() && self.config.sasl.is_none() {
            return Ok(Credentials::default());
        }
        let read = async {
            let mut kept = Arc::clone(&self.kept).lock_owned().await;
            let config = Arc::clone(&self.config);
            // The lock goes along: of a disk that hangs there waits one thread.
            tokio::task::spawn_blocking(move || kept.renew(&config)).await
        };
        match timeout_at(deadline.into(), read).await {
            Ok(Ok(Ok(credentials))) => Ok(credentials),
            Ok(Ok(Err(why))) => Err(CallError::refused(why)),
            Ok(Err(error)) => Err(CallError::unsent(error.to_string())),
            Err(_) => Err(CallError::unsent(
                "no time left to read the files of kafka.tls and kafka.sasl: the disk hangs",
            )),
        }
    }
}

/// What is wrong with the files, for a check of the configuration.
#[must_use]
pub fn security_faults(config: &KafkaSecurity) -> Vec<Fault> {
    let mut kept = Kept::default();
    let faults = Files::read(config).and_then(|files| kept.make(config, &files).map(|_| ()));
    faults.err().unwrap_or_default()
}

impl Kept {
    fn renew(&mut self, config: &KafkaSecurity) -> Result<Credentials, String> {
        let made = Files::read(config).and_then(|files| {
            let fingerprint = files.fingerprint();
            if let Some(kept) = &self.credentials
                && fingerprint == self.fingerprint
            {
                return Ok(kept.clone());
            }
            let made = self.make(config, &files)?;
            if self.credentials.is_some() {
                tracing::info!(
                    "new connections to Kafka use the certificates and password read now"
                );
            }
            self.fingerprint = fingerprint;
            made.say_when_they_end();
            Ok(made)
        });
        match made {
            Ok(made) => {
                self.credentials = Some(made.clone());
                self.said = None;
                Ok(made)
            }
            Err(faults) => {
                let faults: Vec<_> = faults.iter().map(Fault::to_string).collect();
                let faults = faults.join("; ");
                let Some(kept) = &self.credentials else {
                    return Err(faults);
                };
                if self.said.as_ref() != Some(&faults) {
                    tracing::error!("what was read before goes on being used: {faults}");
                    self.said = Some(faults);
                }
                Ok(kept.clone())
            }
        }
    }

    fn make(&mut self, config: &KafkaSecurity, files: &Files) -> Result<Credentials, Vec<Fault>> {
        let mut credentials = Credentials::default();
        if let Some(of_tls) = &config.tls {
            let roots = match (&of_tls.ca_file, &files.ca) {
                (Some(file), Some(pem)) => tls::roots(file, pem)?,
                _ => self.system_roots()?,
            };
            let client = of_tls.client.as_ref().zip(files.client.as_ref());
            let client = client.map(|(paths, (cert, key))| (paths, &**cert, &**key));
            let (config, ends) = tls::client_config(roots, client)?;
            credentials.tls = Some(Arc::new(config));
            credentials.certificate_ends = ends;
        }
        if let Some(sasl) = &config.sasl {
            credentials.login = Some(Arc::new(Login {
                mechanism: sasl.mechanism,
                username: sasl.username.clone(),
                password: password(sasl, files)?,
            }));
        }
        Ok(credentials)
    }

    fn system_roots(&mut self) -> Result<Arc<RootCertStore>, Vec<Fault>> {
        if let Some(roots) = &self.roots {
            return Ok(Arc::clone(roots));
        }
        let roots = tls::system_roots()?;
        self.roots = Some(Arc::clone(&roots));
        Ok(roots)
    }
}

/// What the files hold.
#[derive(Default)]
struct Files {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
    password: Option<Vec<u8>>,
}

impl Files {
    fn read(config: &KafkaSecurity) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut read = |path: &str, file: &PathBuf| {
            pem::read(file)
                .map_err(|why| faults.push(tls::fault(path, file, &why)))
                .unwrap_or_default()
        };
        let tls = config.tls.as_ref();
        let files = Self {
            ca: tls
                .and_then(|tls| tls.ca_file.as_ref())
                .map(|file| read(tls::CA_FILE, file)),
            client: tls.and_then(|tls| tls.client.as_ref()).map(|client| {
                (
                    read(tls::CERT_FILE, &client.cert_file),
                    read(tls::KEY_FILE, &client.key_file),
                )
            }),
            password: match config.sasl.as_ref().map(|sasl| &sasl.password) {
                Some(Password::File(file)) => Some(read(PASSWORD_FILE, file)),
                Some(Password::Given(_)) | None => None,
            },
        };
        if faults.is_empty() {
            Ok(files)
        } else {
            Err(faults)
        }
    }

    fn fingerprint(&self) -> Vec<u8> {
        let (cert, key) = self.client.as_ref().map_or((None, None), |(cert, key)| {
            (Some(cert.as_slice()), Some(key.as_slice()))
        });
        let all = [self.ca.as_deref(), cert, key, self.password.as_deref()];
        let hashes = all.map(|file| digest::digest(&digest::SHA256, file.unwrap_or_default()));
        hashes
            .iter()
            .flat_map(|hash| hash.as_ref().to_vec())
            .collect()
    }
}

fn password(sasl: &KafkaSasl, files: &Files) -> Result<Secret, Vec<Fault>> {
    let (file, bytes) = match (&sasl.password, &files.password) {
        (Password::Given(password), _) => return Ok(password.clone()),
        (Password::File(file), bytes) => (file, bytes.as_deref().unwrap_or_default()),
    };
    let wrong = |why: &str| vec![tls::fault(PASSWORD_FILE, file, why)];
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.len() > PASSWORD_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(wrong("it does not hold one line with a password"));
    }
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests;
