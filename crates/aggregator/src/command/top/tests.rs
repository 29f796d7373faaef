//! `top` on summaries of our own.

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    top: Args,
}

fn parse(words: &str) -> Result<Args, clap::Error> {
    Cli::try_parse_from(["top"].into_iter().chain(words.split(' '))).map(|cli| cli.top)
}

fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let summary = serde_json::json!({
        "hour": "2015-05-17T10:00:00Z",
        "manifest": 3,
        "requests": 10,
        "requestsPerPath": {"/b": 3, "/a": 3, "/\u{1b}[2J\u{202e}": 4},
        "requestsPerUserAgent": {"-": 10},
        "requestsPerClient": {"human": 4, "bot": 5, "unknown": 0, "empty": 1},
        "requestsPerBot": {
            "GPTBot": {"operator": "OpenAI", "purpose": "ai-training", "requests": 2},
            "Other bot": {"operator": "", "purpose": "other", "requests": 3},
        },
        "accuracy": {"requestsPerPath": {"exact": false, "other": 1, "errorMax": 2}},
        "sites": {
            "a.example": {"requests": 6, "requestsPerPath": {"/a": 6}},
            "b.example": {"requests": 3, "requestsPerPath": {"/b": 3}},
        },
        "sitesErrorMax": 2,
        "otherSites": {"requests": 1, "requestsPerPath": {"/b": 1}},
    });
    let day = dir.path().join("2015-05-17");
    fs::create_dir(&day).unwrap();
    fs::write(day.join("summary_10.json"), summary.to_string()).unwrap();
    dir
}

fn shown(words: &str) -> Result<String, String> {
    let dir = place();
    let args = parse(words).unwrap();
    let found = args.find(dir.path())?;
    let mut out = Vec::new();
    assert_eq!(args.show(&found, &mut out).unwrap(), exit::OK);
    Ok(String::from_utf8(out).unwrap())
}

fn shown_json(words: &str) -> serde_json::Value {
    serde_json::from_str(&shown(words).unwrap()).unwrap()
}

#[test]
fn a_table_is_sorted_and_obeys_no_log() {
    let lines = [
        "2015-05-17T10: 10 requests (human 4, bot 5, unknown 0, empty 1)",
        "",
        "requests   share  path",
        "       4  40.0 %  /\\u{1b}[2J\\u{202e}",
        "       3  30.0 %  /a",
        "",
        "1 more: --limit 3",
        "",
        "Not exact: a count may be too low by up to 2; 1 of the requests are under \"other\".",
        "",
    ];
    let table = shown("--hour 2015-05-17T10 --limit 2").unwrap();
    assert_eq!(table, lines.join("\n"));
}

#[test]
fn bots_have_operator_and_purpose() {
    let table = shown("--hour 2015-05-17T10 --by bot").unwrap();
    for line in [
        "\nrequests   share  purpose      operator  bot\n",
        "\n       3  30.0 %  other                  Other bot\n",
        "\n       2  20.0 %  ai-training  OpenAI    GPTBot\n",
    ] {
        assert!(table.contains(line), "{line}{table}");
    }
}

#[test]
fn json_has_all_of_it_as_it_is() {
    let paths = shown_json("--hour 2015-05-17T10 --limit 1 --json");
    assert_eq!(paths["hour"], "2015-05-17T10");
    let row = serde_json::json!({"path": "/\u{1b}[2J\u{202e}", "requests": 4});
    assert_eq!(paths["rows"], serde_json::json!([row]));
    assert_eq!(paths["keys"], 3);
    assert_eq!(paths["exact"], false);
    let bots = shown_json("--hour 2015-05-17T10 --by bot --json");
    assert_eq!(bots["rows"][0]["operator"], serde_json::Value::Null);
    assert_eq!(bots["rows"][1]["operator"], "OpenAI");
    assert_eq!(bots["exact"], true);
}

#[test]
fn a_site_is_looked_at_alone() {
    let table = shown("--hour 2015-05-17T10 --site b.example").unwrap();
    let head = "2015-05-17T10: 3 requests of b.example\n";
    assert!(table.starts_with(head), "{table}");
    assert!(table.contains("       3  100.0 %  /b\n"), "{table}");
    let sites = shown("--hour 2015-05-17T10 --by site").unwrap();
    assert!(sites.contains("  a.example\n") && sites.contains("  b.example\n"));
    let one = shown("--hour 2015-05-17T10 --by site --site b.example").unwrap();
    assert!(!one.contains("  a.example\n") && one.contains("  b.example\n"));
}

#[test]
fn sites_that_are_not_all_kept_apart_say_how_wrong_they_may_be() {
    let table = shown("--hour 2015-05-17T10 --by site").unwrap();
    let end = "\nNot exact: a count may be too low by up to 2; 1 of the requests are of sites that are not \
               kept apart.\n";
    assert!(table.ends_with(end), "{table}");
    for words in ["", " --site b.example"] {
        let sites = shown_json(&format!("--hour 2015-05-17T10 --by site --json{words}"));
        assert_eq!(
            (&sites["exact"], &sites["errorMax"]),
            (&false.into(), &2.into())
        );
    }
    // Nor has one that came back all that it had, whatever is listed of it.
    let paths = shown_json("--hour 2015-05-17T10 --by path --json --site b.example");
    assert_eq!(
        (&paths["exact"], &paths["errorMax"]),
        (&false.into(), &2.into())
    );
    let bots = shown_json("--hour 2015-05-17T10 --by bot --json");
    assert_eq!(
        (&bots["exact"], &bots["errorMax"]),
        (&true.into(), &0.into())
    );
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    assert_eq!(
        shown("--hour 2015-05-17T10 --site c.example").unwrap_err(),
        "no record of the site \"c.example\" was counted in 2015-05-17T10; there are a.example, b.example"
    );
    assert_eq!(
        shown("--day 2015-05-18").unwrap_err(),
        "nothing was counted for 2015-05-18; the days with records are 2015-05-17 to 2015-05-17"
    );
    let empty = tempfile::tempdir().unwrap();
    let args = parse("--day 2015-05-18").unwrap();
    let error = args.find(empty.path()).unwrap_err();
    assert!(error.contains("there is no summary at all in"), "{error}");
}

#[test]
fn a_damaged_summary_is_named() {
    let dir = place();
    fs::write(dir.path().join("2015-05-17/summary.json"), "{").unwrap();
    let args = parse("--day 2015-05-17").unwrap();
    let error = args.find(dir.path()).unwrap_err();
    assert!(error.contains("summary.json is no summary: "), "{error}");
}

#[test]
fn one_time_must_be_given_and_it_must_be_one() {
    for words in [
        "--by path",
        "--hour 2015-05-17",
        "--day 2015-05-17T10",
        "--day 2015-05-17 --hour 2015-05-17T10",
        "--day 2015-05-17 --limit 0",
        "--day 2015-05-17 --by x",
    ] {
        assert!(parse(words).is_err(), "{words}");
    }
}
