use super::*;
use crate::{
    client::{Bot, Client},
    sketch::Sketch,
    table::Place,
};

fn row(key: &'static str, client: Client<'static>, class: u8, count: u64) -> (Place<'static>, u64) {
    let class = StatusClass(class);
    (Place { key, client, class }, count)
}

fn rows(rows: Vec<(Place<'static>, u64)>) -> Table<'static> {
    Table {
        rows,
        ..Table::default()
    }
}

fn content() -> Content<'static> {
    let bot = Client::Bot("Testbot");
    let traffic = |requests, with_bytes, bytes| Traffic {
        requests,
        with_bytes,
        bytes,
    };
    let one = Counts {
        traffic: vec![
            ((10, Client::Human, StatusClass(2)), traffic(2, 1, 12)),
            ((10, bot, StatusClass(4)), traffic(1, 1, 500)),
        ],
        statuses: vec![(200, 1), (204, 1), (404, 1)],
        durations: Sketch {
            buckets: vec![(i32::MIN, 1), (sketch::bucket(100.0), 2)],
        },
        methods: rows(vec![row("GET", Client::Human, 2, 3)]),
        paths: rows(vec![
            row("/", Client::Human, 2, 1),
            row("/\"quoted\"\n", Client::Human, 2, 1),
            row("/\"quoted\"\n", bot, 4, 1),
        ]),
        user_agents: rows(vec![
            row("Testbot/1", bot, 4, 1),
            row("x", Client::Human, 2, 2),
        ]),
        referring_hosts: rows(vec![row("r.example", Client::Human, 2, 1)]),
    };
    let bare = Counts {
        traffic: vec![((10, Client::Unknown, StatusClass(0)), traffic(1, 0, 0))],
        paths: rows(vec![row("/", Client::Unknown, 0, 1)]),
        user_agents: rows(vec![row("Gr\u{fc}n/1.0", Client::Unknown, 0, 1)]),
        ..Counts::default()
    };
    Content {
        classifications: vec!["1", "2"],
        bots: vec![Bot {
            name: "Testbot",
            operator: "Tester",
            purpose: "search",
        }],
        sites: vec![
            (Site::None, bare.clone()),
            (Site::Named("a.example"), one),
            (Site::Named("b.example"), bare),
        ],
        sites_error_max: 0,
    }
}

fn parsed(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_summary_holds_totals_and_each_site() {
    let bytes = hour(Hour::parse("2015-05-17T10").unwrap(), 12, &content());
    let exact = serde_json::json!({
        "requestsPerPath": {"exact": true},
        "requestsPerUserAgent": {"exact": true},
        "requestsPerMethod": {"exact": true},
        "requestsPerReferringHost": {"exact": true},
    });
    let bare = serde_json::json!({
        "requests": 1,
        "requestsPerPath": {"/": 1},
        "requestsPerUserAgent": {"Gr\u{fc}n/1.0": 1},
        "requestsPerClient": {"human": 0, "bot": 0, "unknown": 1, "empty": 0},
        "requestsPerBot": {},
        "accuracy": exact,
    });
    let bot = serde_json::json!({"Testbot": {
        "operator": "Tester",
        "purpose": "search",
        "requests": 1,
        "requestsPerStatusClass": {"4xx": 1},
        "bytes": 500,
    }});
    let durations = serde_json::json!(
        {"requests": 3, "p50": 99.16, "p90": 99.16, "p99": 99.16, "relativeError": 0.01}
    );
    let expected = serde_json::json!({
        "hour": "2015-05-17T10:00:00Z",
        "manifest": 12,
        "classification": ["1", "2"],
        "requests": 5,
        "requestsPerPath": {"/": 3, "/\"quoted\"\n": 2},
        "requestsPerUserAgent": {"Gr\u{fc}n/1.0": 2, "Testbot/1": 1, "x": 2},
        "requestsPerClient": {"human": 2, "bot": 1, "unknown": 2, "empty": 0},
        "requestsPerBot": bot,
        "requestsPerMethod": {"GET": 3},
        "requestsPerReferringHost": {"r.example": 1},
        "requestsPerStatusClass": {"2xx": 2, "4xx": 1},
        "requestsPerStatus": {"200": 1, "204": 1, "404": 1},
        "bytes": 512,
        "durationMs": durations,
        "accuracy": exact,
        "sites": {
            "a.example": {
                "requests": 3,
                "requestsPerPath": {"/": 1, "/\"quoted\"\n": 2},
                "requestsPerUserAgent": {"Testbot/1": 1, "x": 2},
                "requestsPerClient": {"human": 2, "bot": 1, "unknown": 0, "empty": 0},
                "requestsPerBot": bot,
                "requestsPerMethod": {"GET": 3},
                "requestsPerReferringHost": {"r.example": 1},
                "requestsPerStatusClass": {"2xx": 2, "4xx": 1},
                "requestsPerStatus": {"200": 1, "204": 1, "404": 1},
                "bytes": 512,
                "durationMs": durations,
                "accuracy": exact,
            },
            "b.example": bare,
        },
    });
    assert_eq!(parsed(&bytes), expected);
    assert!(bytes.starts_with(b"{\n  \"hour\": \"2015-05-17T10:00:00Z\",\n"));
    assert!(bytes.ends_with(b"\n  }\n}\n"));
}

#[test]
fn a_summary_that_is_not_exact_says_so_and_adds_up() {
    let mut content = content();
    let (_, counts) = &mut content.sites[1];
    counts.paths = Table {
        rows: vec![
            row("/", Client::Human, 2, 1),
            row("other", Client::Human, 2, 1),
        ],
        other: 1,
        error_max: 1,
        missed: vec![("other", 1)],
    };
    let other = counts.clone();
    content.sites_error_max = 3;
    content.sites.insert(1, (Site::Other, other));
    let found = parsed(&day(Day(16_572), 12, &content));
    let site = &found["sites"]["a.example"];
    assert_eq!(
        site["requestsPerPath"],
        serde_json::json!({"/": 1, "other": 2})
    );
    assert_eq!(
        site["accuracy"]["requestsPerPath"],
        serde_json::json!({"exact": false, "other": 1, "errorMax": 1})
    );
    assert_eq!(site["accuracy"]["requestsPerMethod"]["exact"], true);
    assert_eq!(found["sitesErrorMax"], 3);
    assert_eq!(found["otherSites"]["requests"], 3);
    assert_eq!(found["requests"], 8);
    assert_eq!(found["accuracy"]["requestsPerPath"]["errorMax"], 2);
}

#[test]
fn a_summary_without_sites_is_json_too() {
    let found = parsed(&day(Day(0), 1, &Content::default()));
    assert_eq!(found["day"], "1970-01-01");
    assert_eq!(found["sites"], serde_json::json!({}));
}

#[test]
fn the_manifest_is_found_in_a_file_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("summary.json");
    assert_eq!(shown(&path), None);
    std::fs::write(&path, day(Day(16_572), 7, &content())).unwrap();
    assert_eq!(shown(&path), Some(7));
    std::fs::write(&path, hour(Hour(3), u64::MAX, &content())).unwrap();
    assert_eq!(shown(&path), Some(u64::MAX));
    for other in ["", "{}", "{\n  \"manifest\": x,\n", "\u{1f600}"] {
        std::fs::write(&path, other).unwrap();
        assert_eq!(shown(&path), None, "{other}");
    }
}
