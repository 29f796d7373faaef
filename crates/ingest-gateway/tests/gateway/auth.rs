//! Who may send, as what, and how much: each refusal before its body is read, sites that a key is
//! bound to, quotas.

use pipeline_core::config::{ApiKey, KeyHash};
use sha2::{Digest, Sha256};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    dead_letters::take_kafka_away,
    harness::{Heard, Running, Stage, head, hear, record, records},
};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const CSV: (&str, &str) = ("Content-Type", "text/csv");
const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");

fn key(id: &str, key: &str) -> ApiKey {
    ApiKey {
        id: id.to_owned(),
        sha256: KeyHash(Sha256::digest(key.as_bytes()).into()),
        site: None,
        records_per_second: None,
    }
}

/// A gateway that takes the keys `slk_free`, `slk_other`, `slk_bound` (to `shop.example`) and
/// `slk_slow` (10 records a second).
pub async fn guarded(mut stage: Stage) -> (Stage, Running) {
    stage.config.auth.enabled = true;
    stage.config.auth.keys = vec![
        key("free", "slk_free"),
        key("other", "slk_other"),
        ApiKey {
            site: Some("shop.example".to_owned()),
            ..key("bound", "slk_bound")
        },
        ApiKey {
            records_per_second: Some(10),
            ..key("slow", "slk_slow")
        },
    ];
    let gateway = stage.start().await;
    (stage, gateway)
}

async fn post(
    gateway: &Running,
    key: &str,
    target: &str,
    media: (&str, &str),
    body: &str,
) -> Heard {
    let headers = [media, ("X-API-Key", key)];
    gateway.ask("POST", target, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn without_a_key_that_is_known_nothing_is_taken() {
    let (stage, gateway) = guarded(Stage::new(1).await).await;
    let body = records(["a"]);
    let refused: &[&[(&str, &str)]] = &[
        &[],
        &[("X-API-Key", "slk_wrong")],
        &[("X-API-Key", "")],
        &[("Authorization", "slk_free")],
        &[("Authorization", "Basic slk_free")],
        &[("X-API-Key", "slk_free"), ("X-API-Key", "slk_free")],
        &[
            ("X-API-Key", "slk_free"),
            ("Authorization", "Bearer slk_other"),
        ],
    ];
    for headers in refused {
        let heard = gateway.post_with(&body, headers).await;
        let expected = (401, "unauthorized".to_owned());
        assert_eq!(heard.problem(), expected, "{headers:?}");
        let challenge = &heard.headers["www-authenticate"];
        assert_eq!(challenge, r#"Bearer realm="sluice""#);
        assert!(!heard.headers.contains_key("retry-after"));
        let said = String::from_utf8(heard.body).unwrap();
        assert!(!said.contains("slk_") && !said.contains("free"), "{said}");
    }
    // Nobody without a key learns what else is wrong, or what there is.
    for target in ["/logs?sight=x", "/elsewhere", "/openapi.json"] {
        let heard = gateway.ask("POST", target, &[JSON], b"[").await;
        assert_eq!(heard.status, 401, "{target}");
    }
    let elsewhere = post(&gateway, "slk_free", "/elsewhere", JSON, "[]").await;
    assert_eq!(elsewhere.status, 404);
    for path in ["/livez", "/readyz", "/openapi.json"] {
        assert_eq!(
            gateway.ask("GET", path, &[], b"").await.status,
            200,
            "{path}"
        );
    }
    assert!(stage.stored().await.is_empty());

    let accepted: &[&[(&str, &str)]] = &[
        &[("X-API-Key", "slk_free")],
        &[("Authorization", "bEARER slk_other")],
        &[
            ("X-API-Key", "slk_free"),
            ("Authorization", "Bearer slk_free"),
        ],
    ];
    for headers in accepted {
        assert_eq!(gateway.post_with(&body, headers).await.status, 202);
    }
    assert_eq!(stage.stored().await.len(), accepted.len());
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(r#"invalid_requests_total{code="unauthorized"}"#));
    gateway.stop().await;
}

#[tokio::test]
async fn who_has_no_key_is_refused_before_the_body_comes_and_never_asked_for_it() {
    let (_stage, gateway) = guarded(Stage::new(1).await).await;
    for headers in [
        &[JSON][..],
        &[JSON, ("Expect", "100-continue")],
        &[JSON, ("Expect", "100-continue"), ("X-API-Key", "slk_wrong")],
    ] {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        let head = head("POST", "/logs", headers, 1_000_000_000);
        stream.write_all(head.as_bytes()).await.unwrap();
        // Not a byte of the body is sent, and no 100 comes: the answer is the first line.
        assert_eq!(hear(&mut stream).await.status, 401, "{headers:?}");
    }
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let headers = [JSON, ("Expect", "100-continue"), ("X-API-Key", "slk_free")];
    let body = records(["a"]);
    let head = head("POST", "/logs", &headers, body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(hear(&mut stream).await.status, 100);
    stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(hear(&mut stream).await.status, 202);
    gateway.stop().await;
}

/// One record in each kind of body; `{site}` is where it may name a site.
fn bodies(site: &str) -> [((&'static str, &'static str), String); 4] {
    let field = match site {
        "" => String::new(),
        site => format!(r#","site":"{site}""#),
    };
    let one = record("a").replace('}', &format!("{field}}}"));
    let host = match site {
        "" => String::new(),
        site => format!("{site}:443 "),
    };
    [
        (JSON, format!("[{one}]")),
        (NDJSON, one),
        (
            CSV,
            format!("timestamp,path,userAgent,site\n2026-01-02T03:04:05Z,/a,test,{site}\n"),
        ),
        (
            TEXT,
            format!(
                r#"{host}192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 7 "-" "x""#
            ),
        ),
    ]
}

#[tokio::test]
async fn a_bound_key_sends_records_of_its_site_alone_in_every_kind_of_body() {
    let (stage, gateway) = guarded(Stage::new(1).await).await;
    let mut sent = 0;
    for target in ["/logs", "/logs?site=SHOP.example"] {
        for site in ["", "shop.example", "Shop.EXAMPLE"] {
            for (media, body) in bodies(site) {
                let heard = post(&gateway, "slk_bound", target, media, &body).await;
                assert_eq!(heard.status, 202, "{target} {media:?} {heard:?}");
                sent += 1;
            }
        }
    }
    for (target, site) in [("/logs", "evil.example"), ("/logs?site=evil.example", "")] {
        for (media, body) in bodies(site) {
            let heard = post(&gateway, "slk_bound", target, media, &body).await;
            let expected = (403, "foreign_site".to_owned());
            assert_eq!(heard.problem(), expected, "{target} {media:?}");
            let json = heard.json();
            assert_eq!(json["rejected"], 1);
            assert_eq!(json["errors"][0]["index"], 0);
            assert_eq!(json["errors"][0]["field"], "site");
            assert_eq!(json["errors"][0]["code"], "foreign_site");
            // Another key may.
            let heard = post(&gateway, "slk_free", target, media, &body).await;
            assert_eq!(heard.status, 202, "{target} {media:?}");
        }
    }
    let stored = stage.stored().await;
    let own = |value: &str| value.contains(r#""site":"shop.example""#);
    let of_the_shop = stored.iter().filter(|stored| own(&stored.value)).count();
    assert_eq!((of_the_shop, stored.len()), (sent, sent + 8));
    gateway.stop().await;
}

#[tokio::test]
async fn foreign_records_are_rejected_and_their_neighbours_are_kept() {
    let (stage, gateway) = guarded(Stage::new(1).await).await;
    let foreign = record("x").replace('}', r#","site":"evil.example"}"#);
    let body = format!("[{foreign},{},{foreign}]", record("a"));
    let heard = post(&gateway, "slk_bound", "/logs", JSON, &body).await;
    assert_eq!(heard.accepted(), (1, 2, "kafka".to_owned()));
    assert_eq!(heard.json()["errors"][1]["code"], "foreign_site");
    assert_eq!(stage.stored().await.len(), 1);
    // Where another fault is among them, it is no question of sites.
    let body = format!("[{foreign},{{}}]");
    let heard = post(&gateway, "slk_bound", "/logs", JSON, &body).await;
    assert_eq!(heard.problem(), (400, "no_valid_record".to_owned()));
    let metrics = gateway.metrics().await;
    let rejected = metrics
        .lines()
        .find_map(|line| line.strip_prefix(r#"log_records_rejected_total{code="foreign_site"} "#))
        .unwrap();
    assert!(rejected.parse::<f64>().unwrap() >= 3.0);
    gateway.stop().await;
}

#[tokio::test]
async fn the_same_idempotency_key_of_two_clients_names_two_batches() {
    let (_stage, gateway) = guarded(Stage::new(1).await).await;
    let body = records(["a"]);
    let send = async |key: &str| {
        let headers = [("X-API-Key", key), ("Idempotency-Key", "k1")];
        gateway.post_with(&body, &headers).await.batch_id()
    };
    let first = send("slk_free").await;
    assert_eq!(send("slk_free").await, first);
    assert_ne!(send("slk_other").await, first);
    gateway.stop().await;
}

#[tokio::test]
async fn who_has_sent_its_share_is_told_when_to_come_again() {
    let (stage, gateway) = guarded(Stage::new(1).await).await;
    // Let in on a full bucket, however much it holds: 500 records are 50 seconds.
    let paths: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    let body = records(paths.iter().map(String::as_str));
    let heard = post(&gateway, "slk_slow", "/logs", JSON, &body).await;
    assert_eq!(heard.accepted(), (500, 0, "kafka".to_owned()));

    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let headers = [JSON, ("X-API-Key", "slk_slow")];
    let head = head("POST", "/logs", &headers, 1_000_000_000);
    stream.write_all(head.as_bytes()).await.unwrap();
    let heard = hear(&mut stream).await;
    assert_eq!(heard.problem(), (429, "quota".to_owned()));
    let wait: u32 = heard.headers["retry-after"].parse().unwrap();
    assert!((10..=50).contains(&wait), "{wait}");
    // It is that key's alone.
    let heard = post(&gateway, "slk_free", "/logs", JSON, &records(["b"])).await;
    assert_eq!(heard.status, 202);
    assert_eq!(stage.stored().await.len(), 501);
    gateway.stop().await;
}

#[tokio::test]
async fn of_two_bodies_that_are_let_in_the_second_finds_the_quota_used_up() {
    let (stage, gateway) = guarded(Stage::new(1).await).await;
    let body = format!("[{}]", vec![record("a"); 500].join(","));
    let headers = [JSON, ("X-API-Key", "slk_slow"), ("Expect", "100-continue")];
    let mut let_in = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
        let head = head("POST", "/logs", &headers, body.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(hear(&mut stream).await.status, 100);
        let_in.push(stream);
    }
    let mut heard = Vec::new();
    for stream in &mut let_in {
        stream.write_all(body.as_bytes()).await.unwrap();
        heard.push(hear(stream).await);
    }
    assert_eq!(heard[0].status, 202);
    assert_eq!(heard[1].problem(), (429, "quota".to_owned()));
    assert!(heard[1].headers.contains_key("retry-after"));
    assert_eq!(stage.stored().await.len(), 500);
    gateway.stop().await;
}

#[tokio::test]
async fn records_that_are_rejected_count_as_sent() {
    let (_stage, gateway) = guarded(Stage::new(1).await).await;
    let invalid = format!("[{}]", vec!["{}"; 500].join(","));
    let heard = post(&gateway, "slk_slow", "/logs", JSON, &invalid).await;
    assert_eq!(heard.problem(), (400, "no_valid_record".to_owned()));
    let heard = post(&gateway, "slk_slow", "/logs", JSON, &invalid).await;
    assert_eq!(heard.problem(), (429, "quota".to_owned()));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_refused_for_our_sake_costs_nothing() {
    let mut stage = Stage::new(1).await;
    stage.config.ingestion.producer_dlq_max_bytes = 64 * 1024;
    let (stage, gateway) = guarded(stage).await;
    // Kafka is away, and the dead letter queue has no room.
    take_kafka_away(&stage);
    let mut random = fastrand::Rng::with_seed(1);
    let long = || (0..1000).map(|_| random.alphanumeric()).collect::<String>();
    let paths: Vec<_> = std::iter::repeat_with(long).take(500).collect();
    let invalid = vec!["{}"; 500].join("\n");
    let valid = paths.iter().map(|path| record(path));
    let body = valid.chain([invalid]).collect::<Vec<_>>().join("\n");
    let heard = post(&gateway, "slk_slow", "/logs", NDJSON, &body).await;
    assert_eq!(heard.problem(), (503, "nowhere_to_keep".to_owned()));
    stage.broker.faults().clear();
    // Had any of them been counted, it would owe most of a minute.
    let heard = post(&gateway, "slk_slow", "/logs", JSON, &records(["a"])).await;
    assert_eq!(heard.status, 202, "{heard:?}");
    gateway.stop().await;
}
