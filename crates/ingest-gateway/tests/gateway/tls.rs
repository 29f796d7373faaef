//! TLS of the gateway's own listener, with rustls as its client.

use std::{fs, path::Path, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingest_gateway::StartError;
use pipeline_core::{
    config::ServerTls,
    lifecycle::{Hangup, exit},
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    harness::{LONG, Running, Stage, head, hear, records},
    waiting::until,
};

const JSON: (&str, &str) = ("Content-Type", "application/json");

struct Certificate {
    der: CertificateDer<'static>,
    cert_pem: String,
    key_pem: String,
}

fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Certificate {
        der: made.cert.der().clone(),
        cert_pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
    }
}

impl Certificate {
    fn write(&self, dir: &Path) -> ServerTls {
        let files = ServerTls {
            cert_file: dir.join("server.crt"),
            key_file: dir.join("server.key"),
        };
        fs::write(&files.cert_file, &self.cert_pem).unwrap();
        fs::write(&files.key_file, &self.key_pem).unwrap();
        files
    }
}

async fn stage() -> (Stage, Certificate) {
    let mut stage = Stage::new(1).await;
    let certificate = certificate();
    stage.config.server.tls = Some(certificate.write(stage.dir.path()));
    (stage, certificate)
}

/// A connection of a client that trusts `certificate` alone and speaks `protocol`.
async fn connect(
    gateway: &Running,
    certificate: &Certificate,
    version: &'static SupportedProtocolVersion,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(gateway.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(LONG, connected).await.expect("no handshake")
}

async fn post(stream: &mut TlsStream<TcpStream>, path: &str) -> u16 {
    let body = records([path]);
    let request = head("POST", "/logs", &[JSON], body.len()) + &body;
    stream.write_all(request.as_bytes()).await.unwrap();
    hear(stream).await.status
}

#[tokio::test]
async fn http1_is_spoken_over_tls_1_2_and_1_3() {
    let (stage, certificate) = stage().await;
    let gateway = stage.start().await;
    for version in [&TLS12, &TLS13] {
        let connected = connect(&gateway, &certificate, version, "http/1.1").await;
        let mut stream = connected.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(post(&mut stream, "a").await, 202);
        assert_eq!(post(&mut stream, "b").await, 202);
    }
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 4);
}

#[tokio::test]
async fn http2_is_agreed_on_by_alpn_and_answers_several_streams_at_once() {
    let (stage, certificate) = stage().await;
    let gateway = stage.start().await;
    let connected = connect(&gateway, &certificate, &TLS13, "h2").await;
    let stream = connected.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let streams: Vec<_> = (0..20)
        .map(|n| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let request = hyper::Request::post("https://localhost/logs")
                    .header("content-type", "application/json")
                    .body(Full::<bytes::Bytes>::from(records([
                        format!("s{n}").as_str()
                    ])))
                    .unwrap();
                let answer = sender.send_request(request).await.unwrap();
                let status = answer.status();
                answer.into_body().collect().await.unwrap();
                status
            })
        })
        .collect();
    for stream in streams {
        assert_eq!(stream.await.unwrap(), 202);
    }
    drop(sender);
    gateway.stop().await;
    let _ = connection.await;
    let mut values: Vec<_> = stage.stored().await.into_iter().map(|s| s.value).collect();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 20);
}

#[tokio::test]
async fn a_new_certificate_is_served_after_a_hangup_and_a_broken_one_is_not() {
    let (stage, old) = stage().await;
    let gateway = stage.start().await;
    let mut kept = connect(&gateway, &old, &TLS13, "http/1.1").await.unwrap();
    assert_eq!(post(&mut kept, "a").await, 202);

    // A certificate with a key that is not its own, as when only one was put there.
    let new = certificate();
    fs::write(stage.dir.path().join("server.crt"), &new.cert_pem).unwrap();
    let refused = "\ntls_reloads_total{outcome=\"refused\"} ";
    let before = gateway.metric(refused).await;
    gateway.hang_up();
    until("it is refused", async || {
        gateway.metric(refused).await != before
    })
    .await;
    let mut served = connect(&gateway, &old, &TLS13, "http/1.1").await.unwrap();
    assert_eq!(post(&mut served, "b").await, 202);

    new.write(stage.dir.path());
    gateway.hang_up();
    let reloaded = async { while connect(&gateway, &new, &TLS13, "http/1.1").await.is_err() {} };
    timeout(LONG, reloaded).await.expect("never served");
    let other = connect(&gateway, &old, &TLS13, "http/1.1").await;
    assert!(other.is_err(), "the old certificate is still served");
    assert_eq!(post(&mut kept, "c").await, 202);
    assert_eq!(post(&mut served, "d").await, 202);
    gateway.stop().await;
    assert_eq!(stage.stored().await.len(), 4);
}

#[tokio::test]
async fn a_hangup_while_the_gateway_starts_is_heard() {
    let (stage, _) = stage().await;
    // It looks for Kafka for a while.
    stage.broker.pause();
    let hangup = Hangup::manual();
    let new = certificate();
    let changed = async {
        // What it opens after it has read the certificate.
        until("the gateway has begun", async || stage.dlq_dir().exists()).await;
        new.write(stage.dir.path());
        hangup.request();
    };
    let (gateway, ()) = tokio::join!(stage.try_start_with(hangup.clone()), changed);
    let gateway = gateway.unwrap();
    stage.broker.resume();
    let reloaded = async { while connect(&gateway, &new, &TLS13, "http/1.1").await.is_err() {} };
    timeout(LONG, reloaded).await.expect("never served");
    gateway.stop().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_keep_it_from_starting_each_with_its_path() {
    let (mut stage, certificate) = stage().await;
    let dir = stage.dir.path().to_owned();
    let (crt, key) = (dir.join("server.crt"), dir.join("server.key"));
    let other = self::certificate();
    type Spoil<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, Spoil<'_>, &[&str]); 7] = [
        (
            "no files",
            Box::new(|| {
                fs::remove_file(&crt).unwrap();
                fs::remove_file(&key).unwrap();
            }),
            &["certFile", "keyFile"],
        ),
        (
            "empty",
            Box::new(|| fs::write(&crt, "").unwrap()),
            &["certFile"],
        ),
        (
            "the key in its place",
            Box::new(|| {
                fs::write(&crt, &certificate.key_pem).unwrap();
            }),
            &["certFile"],
        ),
        (
            "not a certificate",
            Box::new(|| {
                let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
                fs::write(&crt, pem).unwrap();
            }),
            &["certFile"],
        ),
        (
            "a certificate as key",
            Box::new(|| {
                fs::write(&key, &certificate.cert_pem).unwrap();
            }),
            &["keyFile"],
        ),
        (
            "an encrypted key",
            Box::new(|| {
                fs::write(
                    &key,
                    certificate.key_pem.replace("PRIVATE", "ENCRYPTED PRIVATE"),
                )
                .unwrap();
            }),
            &["keyFile"],
        ),
        (
            "another's key",
            Box::new(|| fs::write(&key, &other.key_pem).unwrap()),
            &["keyFile"],
        ),
    ];
    for (what, spoil, paths) in cases {
        stage.config.server.tls = Some(certificate.write(&dir));
        spoil();
        let Err(StartError::Tls(faults)) = stage.try_start().await else {
            panic!("{what}: it starts");
        };
        let found: Vec<_> = faults.iter().map(|fault| fault.path.clone()).collect();
        let expected: Vec<_> = paths
            .iter()
            .map(|path| format!("server.tls.{path}"))
            .collect();
        assert_eq!(found, expected, "{what}: {faults:?}");
        for fault in &faults {
            assert!(
                fault.found.contains(dir.to_str().unwrap()),
                "{what}: {fault}"
            );
            assert!(!fault.to_string().contains("BEGIN"), "{what}: {fault}");
        }
        assert_eq!(StartError::Tls(faults).exit_code(), exit::CONFIG);
    }
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_and_holds_nobody_up() {
    let (stage, certificate) = stage().await;
    let gateway = stage.start().await;
    // These never begin.
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(gateway.addr).await.unwrap());
    }
    // These begin a handshake and never end it.
    for stream in &mut silent[..25] {
        stream.write_all(&[22, 3, 1]).await.unwrap();
    }
    let mut plain = TcpStream::connect(gateway.addr).await.unwrap();
    let request = head("GET", "/livez", &[], 0);
    plain.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(hear(&mut plain).await.status, 400);
    let mut nonsense = TcpStream::connect(gateway.addr).await.unwrap();
    nonsense.write_all(&[0; 100]).await.unwrap();
    let mut said = Vec::new();
    // Closed, one way or the other.
    let _ = timeout(LONG, nonsense.read_to_end(&mut said))
        .await
        .unwrap();
    assert_eq!(said, b"");
    let connected = connect(&gateway, &certificate, &TLS13, "http/1.1").await;
    assert_eq!(post(&mut connected.unwrap(), "a").await, 202);
    gateway.stop().await;
}

#[tokio::test]
async fn a_drain_ends_handshakes_that_hang() {
    let (mut stage, _) = stage().await;
    stage.config.server.shutdown_timeout = Duration::from_secs(600);
    let gateway = stage.start().await;
    let mut hangs = TcpStream::connect(gateway.addr).await.unwrap();
    hangs.write_all(&[22, 3, 1]).await.unwrap();
    gateway.stop().await;
}
