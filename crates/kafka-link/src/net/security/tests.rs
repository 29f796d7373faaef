//! Connections over TLS and through SASL to a broker that plays along, and to each that does not.

mod stage;
mod system;

use std::{net::SocketAddr, path::Path, time::Duration};

use kafka_protocol::{
    messages::{SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse},
    protocol::{Request, StrBytes},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use pipeline_core::config::KafkaTls;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio::{io::AsyncReadExt, net::TcpListener};

use self::stage::{Answer, Authority, Say, Scene, Signed, broker, server};
use super::*;
use crate::net::{
    connection::{Connection, Limits},
    trouble::Trouble,
};

fn silent(_: i16, _: &[u8]) -> Answer {
    panic!("nobody logs in here");
}

fn limits(security: KafkaSecurity) -> Limits {
    Limits {
        client_id: "test".to_owned(),
        connect_timeout: Duration::from_secs(20),
        files_age_max: FILES_AGE_MAX,
        response_bytes_max: 1 << 20,
        security: Arc::new(Security::new(security)),
    }
}

async fn open(address: SocketAddr, security: KafkaSecurity) -> Result<Connection, CallError> {
    Connection::open(&address.to_string().into(), &limits(security)).await
}

/// Waits until it gets no new request.
async fn spent(connection: &Connection) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !connection.is_spent() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("it is spent some time");
}

/// The one error, which is ours to tell and names the broker.
async fn refused(address: SocketAddr, security: KafkaSecurity) -> String {
    let Err(error) = open(address, security).await else {
        panic!("it is let in");
    };
    assert_eq!(error.trouble, Trouble::Refused, "{}", error.message);
    assert!(!error.sent);
    assert!(error.message.contains(&address.to_string()));
    error.message
}

#[tokio::test]
async fn a_certificate_that_holds_is_taken_and_every_other_refused_with_its_reason() {
    let scene = Scene::new();
    let ca = &scene.authority;
    let good = ca.sign("127.0.0.1", |_| {});
    let address = broker(Some(server(&good, None)), silent).await;
    assert!(open(address, scene.tls()).await.is_ok());

    let ended = ca.sign("127.0.0.1", |it| it.not_after = date_time_ymd(2020, 1, 1));
    let early = ca.sign("127.0.0.1", |it| it.not_before = date_time_ymd(4000, 1, 1));
    let elsewhere = ca.sign("kafka.example", |_| {});
    let stranger = Authority::new().sign("127.0.0.1", |_| {});
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = Signed {
        cert: params.self_signed(&key).unwrap(),
        key,
    };
    for (signed, why) in [
        (ended, "has expired"),
        (early, "not valid yet"),
        (elsewhere, "kafka.example"),
        (stranger, "kafka.tls.caFile"),
        (own, "kafka.tls.caFile"),
    ] {
        let address = broker(Some(server(&signed, None)), silent).await;
        let said = refused(address, scene.tls()).await;
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[tokio::test]
async fn a_broker_that_asks_for_a_certificate_gets_ours_and_says_when_it_will_not_do() {
    let scene = Scene::new();
    let ca = &scene.authority;
    let listens = server(&ca.sign("127.0.0.1", |_| {}), Some(ca));
    let address = broker(Some(listens), silent).await;
    let ours = scene.with_client(&ca.sign("client", |_| {}));
    assert!(open(address, ours).await.is_ok());

    let said = refused(address, scene.tls()).await;
    assert!(said.contains("wants a client certificate"), "{said}");
    let stranger = scene.with_client(&Authority::new().sign("client", |_| {}));
    let said = refused(address, stranger).await;
    assert!(said.contains("refuses our certificate"), "{said}");
    let ended = ca.sign("client", |it| it.not_after = date_time_ymd(2020, 1, 1));
    let said = refused(address, scene.with_client(&ended)).await;
    assert!(said.contains("refuses our certificate"), "{said}");
}

#[tokio::test]
async fn tls_that_meets_none_and_none_that_meets_tls_are_told_apart() {
    let scene = Scene::new();
    let signed = scene.authority.sign("127.0.0.1", |_| {});
    let address = broker(Some(server(&signed, None)), silent).await;
    let said = refused(address, KafkaSecurity::default()).await;
    assert!(said.contains("it speaks TLS: set kafka.tls"), "{said}");

    // As brokers do: a ClientHello is a request that is too long.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_i32().await;
        }
    });
    let Err(error) = open(address, scene.tls()).await else {
        panic!("it is let in");
    };
    assert!(
        error.message.contains("remove kafka.tls"),
        "{}",
        error.message
    );
    // As does a broker that stops.
    assert_eq!(error.trouble, Trouble::Network);
}

fn user(mechanism: SaslMechanism) -> KafkaSecurity {
    KafkaSecurity {
        tls: None,
        sasl: Some(KafkaSasl {
            mechanism,
            username: "sluice".to_owned(),
            password: Password::Given(Secret::new("hunter2".to_owned())),
        }),
    }
}

fn welcome() -> Answer {
    Answer::Handshake(SaslHandshakeResponse::default())
}

fn session(lifetime_ms: i64) -> Answer {
    let answer = SaslAuthenticateResponse::default().with_session_lifetime_ms(lifetime_ms);
    Answer::Authenticate(answer)
}

#[tokio::test]
async fn a_session_that_ends_spends_its_connection_before() {
    let address = broker(None, |key, request| {
        if key == SaslHandshakeRequest::KEY {
            return welcome();
        }
        assert!(request.ends_with(b"\0sluice\0hunter2"));
        session(600)
    })
    .await;
    let began = Instant::now();
    let connection = open(address, user(SaslMechanism::Plain)).await.unwrap();
    spent(&connection).await;
    assert!(!connection.is_closed(), "what is on its way goes on");
    assert!(began.elapsed() >= Duration::from_millis(420));

    let address = broker(None, |key, _| {
        if key == SaslHandshakeRequest::KEY {
            welcome()
        } else {
            session(0)
        }
    })
    .await;
    let connection = open(address, user(SaslMechanism::Plain)).await.unwrap();
    assert!(!connection.is_spent(), "a session without an end");
}

/// So that a new certificate or password is in use everywhere soon, without a restart.
#[tokio::test]
async fn a_connection_made_with_files_is_spent_after_a_while_and_no_other_is() {
    let scene = Scene::new();
    let signed = scene.authority.sign("127.0.0.1", |_| {});
    let over_tls = broker(Some(server(&signed, None)), silent).await;
    let over_sasl = broker(None, |key, _| match key {
        SaslHandshakeRequest::KEY => welcome(),
        _ => session(0),
    })
    .await;
    let mut with_file = user(SaslMechanism::Plain);
    with_file.sasl.as_mut().unwrap().password = Password::File(scene.put("password", "hunter2"));
    let open = async |address: SocketAddr, security: KafkaSecurity| {
        let limits = Limits {
            files_age_max: Duration::from_millis(600),
            ..limits(security)
        };
        Connection::open(&address.to_string().into(), &limits)
            .await
            .unwrap()
    };
    let began = Instant::now();
    let given = open(over_sasl, user(SaslMechanism::Plain)).await;
    for made_with_files in [
        open(over_tls, scene.tls()).await,
        open(over_sasl, with_file).await,
    ] {
        spent(&made_with_files).await;
        assert!(!made_with_files.is_closed(), "what is on its way goes on");
        assert!(began.elapsed() >= Duration::from_millis(420));
    }
    assert!(!given.is_spent(), "nothing of it can change");
}

#[tokio::test]
async fn each_refusal_of_a_login_says_what_to_do_and_no_password() {
    let cases: [(Say, &[&str]); 4] = [
        (
            |_, _| {
                let answer = SaslHandshakeResponse::default()
                    .with_error_code(33)
                    .with_mechanisms(vec![StrBytes::from_static_str("GSSAPI")]);
                Answer::Handshake(answer)
            },
            &["PLAIN", "kafka.sasl.mechanism", "GSSAPI"],
        ),
        (
            |_, _| Answer::Handshake(SaslHandshakeResponse::default().with_error_code(34)),
            &["does not use SASL", "remove kafka.sasl"],
        ),
        (
            |key, _| {
                if key == SaslHandshakeRequest::KEY {
                    return welcome();
                }
                let answer = SaslAuthenticateResponse::default()
                    .with_error_code(58)
                    .with_error_message(Some(StrBytes::from_static_str("bad\u{1b}[2Jwords")));
                Answer::Authenticate(answer)
            },
            &["user `sluice`", "bad\\u{1b}[2Jwords", "password"],
        ),
        (
            |key, _| match key {
                SaslHandshakeRequest::KEY => welcome(),
                _ => Answer::Authenticate(SaslAuthenticateResponse::default().with_error_code(58)),
            },
            &["no reason given"],
        ),
    ];
    for (say, words) in cases {
        let address = broker(None, say).await;
        let said = refused(address, user(SaslMechanism::Plain)).await;
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_broker_that_does_not_know_the_password_itself_is_not_believed() {
    let address = broker(None, |key, request| {
        if key == SaslHandshakeRequest::KEY {
            return welcome();
        }
        let text = String::from_utf8_lossy(request);
        let words = match text.split_once(",r=") {
            Some((before, nonce)) if before.contains("n,,") => {
                format!("r={nonce}more,s=c2FsdA==,i=4096")
            }
            _ => format!("v={}", "A".repeat(43) + "="),
        };
        let answer = SaslAuthenticateResponse::default().with_auth_bytes(words.into_bytes().into());
        Answer::Authenticate(answer)
    })
    .await;
    let said = refused(address, user(SaslMechanism::ScramSha256)).await;
    assert!(said.contains("does not know the password"), "{said}");
}

#[tokio::test]
async fn files_are_read_anew_and_what_cannot_be_used_changes_nothing() {
    let scene = Scene::new();
    let mut config = scene.tls();
    let file = scene.put("password", "first\n");
    config.sasl = Some(KafkaSasl {
        mechanism: SaslMechanism::Plain,
        username: "u".to_owned(),
        password: Password::File(file),
    });
    assert_eq!(security_faults(&config), []);
    let security = Security::new(config.clone());
    let far = Instant::now() + Duration::from_secs(20);
    let read = async || security.credentials(far).await.unwrap();
    let password = |it: &Credentials| it.login.as_ref().unwrap().password.reveal().to_owned();
    let first = read().await;
    assert_eq!(password(&first), "first");
    let same = read().await;
    let tls = |it: &Credentials| it.tls.clone().unwrap();
    assert!(Arc::ptr_eq(&tls(&first), &tls(&same)), "sessions are kept");
    scene.put("password", "second\r\n");
    assert_eq!(password(&read().await), "second");
    for broken in ["", "\n", "two\nlines\n", "a\tb"] {
        scene.put("password", broken);
        assert_eq!(password(&read().await), "second");
        let faults = security_faults(&config);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].path, PASSWORD_FILE);
    }
    scene.put("password", "third");
    scene.put("ca.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    assert_eq!(password(&read().await), "second");
    scene.put("ca.pem", &Authority::new().cert.pem());
    let renewed = read().await;
    assert_eq!(password(&renewed), "third");
    assert!(!Arc::ptr_eq(&tls(&first), &tls(&renewed)));
}

#[test]
fn when_our_certificate_ends_is_told_and_told_anew_once_another_is_read() {
    let scene = Scene::new();
    let until = |year: i32| {
        let signed = scene.authority.sign("client", |params| {
            params.not_after = date_time_ymd(year, 1, 1);
        });
        scene.with_client(&signed)
    };
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let mut kept = Kept::default();
    let mut told = |config: &KafkaSecurity| {
        metrics::with_local_recorder(&recorder, || kept.renew(config).unwrap());
        let name = catalog::KAFKA_CLIENT_CERTIFICATE_ENDS;
        let text = handle.render();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse::<f64>().unwrap()
    };
    let ends =
        |year: i32| f64::from(i32::try_from(date_time_ymd(year, 1, 1).unix_timestamp()).unwrap());
    let config = until(2031);
    assert_eq!(told(&config), ends(2031));
    until(2033);
    assert_eq!(told(&config), ends(2033));
    // What cannot be used is not used, so its end is nobody's.
    scene.put("client.key", "");
    scene.put("client.crt", &scene.authority.cert.pem());
    assert_eq!(told(&config), ends(2033));
    until(2032);
    assert_eq!(told(&config), ends(2032));
    let mut kept = Kept::default();
    let text = metrics::with_local_recorder(&recorder, || {
        kept.renew(&scene.tls()).unwrap();
        handle.render()
    });
    assert!(text.contains("_timestamp_seconds 0\n"), "{text}");
}

#[test]
fn each_file_that_cannot_be_used_is_named_by_its_key() {
    let scene = Scene::new();
    let signed = scene.authority.sign("client", |_| {});
    let good = scene.with_client(&signed);
    assert_eq!(security_faults(&good), []);
    let fault = |change: &dyn Fn(&mut KafkaTls)| {
        let mut config = good.clone();
        change(config.tls.as_mut().unwrap());
        let faults = security_faults(&config);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.into_iter().next().unwrap()
    };
    let none = Path::new("/nowhere/at/all").to_owned();
    assert_eq!(
        fault(&|tls| tls.ca_file = Some(none.clone())).path,
        tls::CA_FILE
    );
    let other = scene.put("other.key", &KeyPair::generate().unwrap().serialize_pem());
    let found = fault(&|tls| tls.client.as_mut().unwrap().key_file = other.clone());
    assert_eq!(found.path, tls::KEY_FILE);
    assert!(found.found.contains("of another certificate"), "{found}");
    let no_key = scene.put("no.key", &signed.cert.pem());
    let found = fault(&|tls| tls.client.as_mut().unwrap().key_file = no_key.clone());
    assert!(found.found.contains("no private key"), "{found}");
    let empty = scene.put("empty.crt", "");
    let found = fault(&|tls| tls.client.as_mut().unwrap().cert_file = empty.clone());
    assert_eq!(found.path, tls::CERT_FILE);
}
