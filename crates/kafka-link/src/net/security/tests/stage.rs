//! Certificates of authorities of our own, their files, and a broker that listens with or without TLS
//! and plays through a login.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

use bytes::{BufMut, BytesMut};
use kafka_protocol::{
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, SaslAuthenticateRequest, SaslAuthenticateResponse,
        SaslHandshakeRequest, SaslHandshakeResponse, api_versions_response::ApiVersion,
    },
    protocol::{Encodable, Request},
};
use pipeline_core::config::{ClientCertificate, KafkaSecurity, KafkaTls};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub cert: Certificate,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            cert,
        }
    }

    pub fn sign(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Signed { cert, key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.der().clone()).unwrap();
        roots
    }
}

pub struct Signed {
    pub cert: Certificate,
    pub key: KeyPair,
}

/// Files in a directory, and who may be believed.
pub struct Scene {
    dir: TempDir,
    pub authority: Authority,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self {
            dir: tempfile::tempdir().unwrap(),
            authority: Authority::new(),
        };
        scene.put("ca.pem", &scene.authority.cert.pem());
        scene
    }

    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let file = self.dir.path().join(name);
        fs::write(&file, text).unwrap();
        file
    }

    pub fn tls(&self) -> KafkaSecurity {
        KafkaSecurity {
            tls: Some(KafkaTls {
                ca_file: Some(self.dir.path().join("ca.pem")),
                client: None,
            }),
            sasl: None,
        }
    }

    pub fn with_client(&self, signed: &Signed) -> KafkaSecurity {
        let mut security = self.tls();
        security.tls.as_mut().unwrap().client = Some(ClientCertificate {
            cert_file: self.put("client.crt", &signed.cert.pem()),
            key_file: self.put("client.key", &signed.key.serialize_pem()),
        });
        security
    }
}

pub fn server(signed: &Signed, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.key.serialize_der()));
    let chain = vec![signed.cert.der().clone()];
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// What the broker says to each step of a login.
pub type Say = fn(i16, &[u8]) -> Answer;

pub enum Answer {
    Handshake(SaslHandshakeResponse),
    Authenticate(SaslAuthenticateResponse),
}

/// A broker that takes connections until the test ends.
pub async fn broker(tls: Option<Arc<ServerConfig>>, say: Say) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => serve(stream, say).await,
                    Some(config) => {
                        if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                            serve(stream, say).await;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, say: Say) {
    while let Ok(len) = stream.read_i32().await {
        let mut request = vec![0; len as usize];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let key = i16::from_be_bytes([request[0], request[1]]);
        let mut body = BytesMut::new();
        body.put_slice(&request[4..8]);
        if key == ApiVersionsRequest::KEY {
            let api = |key, version| {
                ApiVersion::default()
                    .with_api_key(key)
                    .with_min_version(0)
                    .with_max_version(version)
            };
            let apis = vec![
                api(SaslHandshakeRequest::KEY, 1),
                api(SaslAuthenticateRequest::KEY, 1),
            ];
            let versions = ApiVersionsResponse::default().with_api_keys(apis);
            versions.encode(&mut body, 3).unwrap();
        } else {
            match say(key, &request) {
                Answer::Handshake(answer) => answer.encode(&mut body, 1).unwrap(),
                Answer::Authenticate(answer) => answer.encode(&mut body, 1).unwrap(),
            }
        }
        stream.write_i32(body.len() as i32).await.unwrap();
        stream.write_all(&body).await.unwrap();
        stream.flush().await.unwrap();
    }
}
