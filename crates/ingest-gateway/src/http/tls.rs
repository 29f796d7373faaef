//! TLS of the gateway's own listener: certificate and key from their files, read anew at each
//! hangup. What cannot be used changes nothing; connections that run go on with what they have.

use std::{
    io,
    path::Path,
    sync::{Arc, RwLock},
};

use pipeline_core::{
    config::{Fault, ServerTls},
    lifecycle::Hangups,
    pem,
};
use rustls::{InconsistentKeys, ServerConfig, crypto::ring};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::{JoinError, spawn_blocking},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::telemetry::{self, Reload};

const CERT_PATH: &str = "server.tls.certFile";
const KEY_PATH: &str = "server.tls.keyFile";
/// The first byte of a TLS handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// To who speaks plain HTTP here.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 27\r\nConnection: close\r\n\r\nthis listener speaks HTTPS\n";

#[derive(Debug)]
pub struct Tls {
    files: ServerTls,
    /// For new connections.
    current: RwLock<Arc<ServerConfig>>,
}

/// What the files hold.
struct Usable {
    config: Arc<ServerConfig>,
    /// When the first certificate of the chain ends, seconds since 1970.
    ends: i64,
}

impl Tls {
    /// # Errors
    /// Each file that cannot be used.
    pub async fn load(files: &ServerTls) -> Result<Self, Vec<Fault>> {
        let usable = read_aside(files).await?;
        telemetry::tls_certificate_ends(usable.ends);
        Ok(Self {
            files: files.clone(),
            current: RwLock::new(usable.config),
        })
    }

    /// Reads the files at each hangup, until `stop`.
    pub async fn keep(self: Arc<Self>, mut hangups: Hangups, stop: CancellationToken) {
        loop {
            let read = async {
                hangups.next().await;
                read_aside(&self.files).await
            };
            let read = tokio::select! {
                // A disk that hangs holds no shutdown up.
                () = stop.cancelled() => return,
                read = read => read,
            };
            match read {
                Ok(usable) => {
                    telemetry::tls_reloaded(Reload::Applied);
                    telemetry::tls_certificate_ends(usable.ends);
                    *self.current.write().expect("no panic under this lock") = usable.config;
                    tracing::info!("TLS: new connections get the certificate read now");
                }
                Err(faults) => {
                    telemetry::tls_reloaded(Reload::Refused);
                    for fault in faults {
                        tracing::error!("TLS: the former certificate stays: {fault}");
                    }
                }
            }
        }
    }

    /// # Errors
    /// Where the handshake fails, also because the client does not speak TLS.
    pub async fn accept(&self, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            if first[0].is_ascii_alphabetic() {
                let _ = stream.try_read(&mut [0; 4096]);
                stream.write_all(PLAIN_ANSWER).await?;
                stream.shutdown().await?;
            }
            return Err(io::Error::other("the client does not speak TLS"));
        }
        TlsAcceptor::from(self.current()).accept(stream).await
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().expect("no panic under this lock"))
    }
}

/// What is wrong with the files, for a check of the configuration.
#[must_use]
pub fn faults(files: &ServerTls) -> Vec<Fault> {
    read(files).err().unwrap_or_default()
}

/// Where a disk that hangs keeps nobody else waiting.
async fn read_aside(files: &ServerTls) -> Result<Usable, Vec<Fault>> {
    let files = files.clone();
    let path = files.cert_file.clone();
    let ended = |error: JoinError| vec![cert_fault(&path, &error.to_string())];
    spawn_blocking(move || read(&files)).await.map_err(ended)?
}

fn read(files: &ServerTls) -> Result<Usable, Vec<Fault>> {
    let chain = pem::read(&files.cert_file)
        .and_then(|bytes| pem::certificates(&bytes))
        .map_err(|why| cert_fault(&files.cert_file, &why));
    let key = pem::read(&files.key_file)
        .and_then(|bytes| pem::private_key(&bytes))
        .map_err(|why| key_fault(&files.key_file, &why));
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
    };
    let ends = pem::ends(&chain);
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need");
    let built = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config = built.map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            vec![key_fault(&files.key_file, "it is of another certificate")]
        }
        // Whatever else there is to say of a key is said of its kind.
        rustls::Error::General(why) => vec![key_fault(&files.key_file, &why)],
        error => vec![cert_fault(&files.cert_file, &error.to_string())],
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Usable {
        config: Arc::new(config),
        ends,
    })
}

fn cert_fault(file: &Path, why: &str) -> Fault {
    Fault {
        path: CERT_PATH.to_owned(),
        found: format!("{} ({why})", file.display()),
        allowed: "a PEM file with the certificate chain, the server's own first".to_owned(),
    }
}

fn key_fault(file: &Path, why: &str) -> Fault {
    Fault {
        path: KEY_PATH.to_owned(),
        found: format!("{} ({why})", file.display()),
        allowed: format!(
            "a PEM file with the private key of the first certificate in {CERT_PATH}, not encrypted"
        ),
    }
}
