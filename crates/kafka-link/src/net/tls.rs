//! TLS to brokers: what the files make, and the handshake.

use std::{path::Path, sync::Arc, time::Instant};

use pipeline_core::{
    config::{ClientCertificate, Fault},
    pem,
};
use rustls::{ClientConfig, InconsistentKeys, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout_at};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{CallError, refusal};

pub(super) const CA_FILE: &str = "kafka.tls.caFile";
pub(super) const CERT_FILE: &str = "kafka.tls.certFile";
pub(super) const KEY_FILE: &str = "kafka.tls.keyFile";

/// Ends with the broker believed to be `host`, or not at all.
pub(super) async fn handshake(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    host: &str,
    certified: bool,
    deadline: Instant,
) -> Result<TlsStream<TcpStream>, CallError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| CallError::refused(format!("no certificate is for the name `{host}`")))?;
    let connecting = TlsConnector::from(config).connect(name, stream);
    match timeout_at(deadline.into(), connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match refusal::of_tls(&error, certified) {
            Some(why) => CallError::refused(why),
            None if refusal::is_end(&error) => CallError::unsent(refusal::NO_HANDSHAKE),
            None => CallError::unsent(format!("the TLS handshake failed: {error}")),
        }),
        Err(_) => Err(CallError::unsent(
            "it did not answer the TLS handshake in time: is that a TLS listener?",
        )),
    }
}

/// And when our certificate ends, seconds since 1970.
pub(super) fn client_config(
    roots: Arc<RootCertStore>,
    client: Option<(&ClientCertificate, &[u8], &[u8])>,
) -> Result<(ClientConfig, Option<i64>), Vec<Fault>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_root_certificates(roots);
    let Some((files, cert, key)) = client else {
        return Ok((builder.with_no_client_auth(), None));
    };
    let chain = pem::certificates(cert).map_err(|why| fault(CERT_FILE, &files.cert_file, &why));
    let key = pem::private_key(key).map_err(|why| fault(KEY_FILE, &files.key_file, &why));
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err(chain.err().into_iter().chain(key.err()).collect()),
    };
    let ends = pem::ends(&chain);
    let built = builder.with_client_auth_cert(chain, key);
    built.map(|config| (config, Some(ends))).map_err(|error| {
        vec![match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                fault(KEY_FILE, &files.key_file, "it is of another certificate")
            }
            // Whatever else there is to say of a key is said of its kind.
            rustls::Error::General(why) => fault(KEY_FILE, &files.key_file, &why),
            error => fault(CERT_FILE, &files.cert_file, &error.to_string()),
        }]
    })
}

pub(super) fn roots(file: &Path, pem: &[u8]) -> Result<Arc<RootCertStore>, Vec<Fault>> {
    let wrong = |why: &str| vec![fault(CA_FILE, file, why)];
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(pem).map_err(|why| wrong(&why))? {
        roots
            .add(certificate)
            .map_err(|error| wrong(&error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

/// Of what the system has, as much as can be read.
pub(super) fn system_roots() -> Result<Arc<RootCertStore>, Vec<Fault>> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(vec![Fault {
            path: CA_FILE.to_owned(),
            found: "nothing, and the system has no certificates of authorities".to_owned(),
            allowed: "a PEM file with the authorities to trust (or install the system's, as \
                      Debian's package ca-certificates)"
                .to_owned(),
        }]);
    }
    Ok(Arc::new(roots))
}

pub(super) fn fault(path: &str, file: &Path, why: &str) -> Fault {
    Fault {
        path: path.to_owned(),
        found: format!("{} ({why})", file.display()),
        allowed: match path {
            CA_FILE => "a PEM file with the certificates of the authorities to trust",
            CERT_FILE => "a PEM file with the client's certificate chain, its own first",
            KEY_FILE => "a PEM file with the private key of that certificate, not encrypted",
            _ => "a file with one line: the password",
        }
        .to_owned(),
    }
}
