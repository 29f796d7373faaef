//! `kafka.tls: {}`: the authorities that the system knows.

use super::*;

const BROKER: &str = "SLUICE_TEST_TLS_BROKER";
const LET_IN: &str = "it is let in";

/// The system's are what rustls-native-certs finds; the environment, which tells it where, is a
/// process's, so the client is a process of its own.
#[tokio::test]
async fn where_no_file_is_named_the_systems_authorities_are_trusted_and_no_other() {
    let scene = Scene::new();
    let signed = scene.authority.sign("127.0.0.1", |_| {});
    let address = broker(Some(server(&signed, None)), silent).await;
    let ours = scene.put("system.pem", &scene.authority.cert.pem());
    let other = scene.put("other.pem", &Authority::new().cert.pem());
    let empty = scene.put("empty.pem", "");
    for (system, words) in [
        (ours, LET_IN),
        (
            other,
            "an authority that is not trusted here: name that authority's certificate in kafka.tls.caFile",
        ),
        (
            empty,
            "kafka.tls.caFile: found nothing, and the system has no certificates",
        ),
    ] {
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "net::security::tests::system::as_a_client_of_that_broker",
            ])
            .args(["--ignored", "--nocapture"])
            .env_remove("SSL_CERT_DIR")
            .env("SSL_CERT_FILE", system)
            .env(BROKER, address.to_string())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let ended = said.lines().any(|line| line.contains(words));
        assert!(output.status.success() && ended, "{words}: {output:?}");
    }
}

#[tokio::test]
#[ignore = "the test above runs it, as a process of its own"]
async fn as_a_client_of_that_broker() {
    let Ok(address) = std::env::var(BROKER) else {
        eprintln!("SKIPPED: only with {BROKER}");
        return;
    };
    let security = KafkaSecurity {
        tls: Some(KafkaTls {
            ca_file: None,
            client: None,
        }),
        sasl: None,
    };
    match open(address.parse().unwrap(), security).await {
        Ok(_) => println!("{LET_IN}"),
        Err(error) => println!("{}", error.message),
    }
}
