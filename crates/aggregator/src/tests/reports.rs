//! Reports of whole runs: what they hold, when they are made, and that they are never state.

use testbed::pages::{self, unpack};

use super::*;

/// The data of a page, with the sum of the requests in its time line.
fn data(world: &World, file: &str) -> (Value, u64) {
    let page = fs::read_to_string(world.analytics().join(file)).unwrap();
    let data = pages::data(&page).unwrap();
    let requests = pages::requests(&data).unwrap();
    (data, requests)
}

/// Requests by name in a table of a page, over all days.
fn table(data: &Value, name: &str) -> BTreeMap<String, u64> {
    let table = &data["tables"][name];
    let mut sums = BTreeMap::new();
    for day in table["days"].as_array().unwrap() {
        let mut numbers = unpack(day).unwrap().into_iter();
        let mut at = 0;
        while let Some(step) = numbers.next() {
            at += step;
            let sum: &mut u64 = sums
                .entry(table["names"][at as usize].as_str().unwrap().to_owned())
                .or_default();
            for _ in 0..numbers.next().unwrap() {
                numbers.next();
                *sum += numbers.next().unwrap();
            }
        }
    }
    sums
}

fn count_of(world: &World, site: Option<&str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for put in world.put.iter().filter(|put| put.site.as_deref() == site) {
        *counts.entry(put.path.clone()).or_default() += 1;
    }
    counts
}

#[test]
fn each_site_has_a_page_with_its_own_data_alone() {
    let mut world = World::with_records(20);
    let mut secret = world.random_record();
    secret.site = Some("b.example".to_owned());
    secret.path = "/only-of-b</script>".to_owned();
    world.publish(1, vec![secret]);
    world.run().unwrap();
    let mut all = 0;
    for (site, file) in [
        (None, "reports/-.html"),
        (Some("a.example"), "reports/a.example.html"),
        (Some("b.example"), "reports/b.example.html"),
    ] {
        let expected = count_of(&world, site);
        let (data, requests) = data(&world, file);
        assert_eq!(data["site"], json!(site.unwrap_or_default()));
        assert_eq!(table(&data, "paths"), expected, "{file}");
        assert_eq!(requests, expected.values().sum::<u64>(), "{file}");
        all += requests;
        let text = fs::read_to_string(world.analytics().join(file)).unwrap();
        assert_eq!(text.contains("only-of-b"), site == Some("b.example"));
        for other in ["a.example", "b.example"] {
            assert_eq!(text.contains(other), site == Some(other), "{file}");
        }
    }
    let (index, requests) = data(&world, "report.html");
    assert_eq!((requests, all), (all, world.put.len() as u64));
    assert_eq!(index["site"], Value::Null);
    let files = ["-.html", "a.example.html", "b.example.html"];
    let mut found: Vec<&str> = index["tables"]["sites"]["about"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file.as_str().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, files);
    assert!(
        !fs::read_to_string(world.analytics().join("report.html"))
            .unwrap()
            .contains("only-of-b")
    );
}

#[test]
fn of_a_thousand_sites_no_page_holds_anothers_data() {
    const SITES: usize = 1_000;
    let mut world = World::new(23);
    let lines = |day: i64| -> Vec<String> {
        let line = |site: usize| {
            let rest = Rest {
                method: "GET".to_owned(),
                status: 200,
                bytes: 1 + site as u64,
                duration_ms: 1.0,
                referring_host: Some(format!("from-{site:04}-.example")),
            };
            let record = Put {
                hour_ms: BASE_MS - day * 24 * HOUR_MS,
                site: Some(format!("s{site:04}-.example")),
                path: format!("/of-{site:04}-/"),
                agent: format!("Agent-{site:04}-/1.0"),
                rest: Some(rest),
            };
            World::line_at(&record, record.hour_ms)
        };
        (0..SITES).map(line).collect()
    };
    for day in 0..2 {
        world.publish_lines(0, &lines(day));
    }
    world.run().unwrap();
    for site in 0..SITES {
        let file = format!("reports/s{site:04}-.example.html");
        let (data, requests) = data(&world, &file);
        assert_eq!(requests, 2, "{file}");
        for (table, name) in [
            ("paths", format!("/of-{site:04}-/")),
            ("agents", format!("Agent-{site:04}-/1.0")),
            ("hosts", format!("from-{site:04}-.example")),
        ] {
            assert_eq!(data["tables"][table]["names"], json!([name]), "{file}");
        }
        let sent = data["bytes"].as_array().unwrap();
        let sent = sent.iter().flat_map(|line| unpack(&line[1]).unwrap());
        let bytes: u64 = sent.skip(1).step_by(2).sum();
        assert_eq!(bytes, 2 * (1 + site as u64), "{file}");
        // Nor anywhere else in it: what is not packed is text.
        let text = data.to_string();
        let numbers = text.match_indices('-').filter_map(|(at, _)| {
            let number = text.get(at + 1..at + 6)?.strip_suffix('-')?;
            number.parse::<usize>().ok()
        });
        assert!(numbers.clone().count() > 1);
        assert!(numbers.into_iter().all(|number| number == site), "{file}");
    }
    let index = fs::read_to_string(world.analytics().join("report.html")).unwrap();
    assert!(index.len() < 1_000_000, "{}", index.len());
    assert!(!index.contains("/of-") && !index.contains("Agent-") && !index.contains("from-0"));
    assert_eq!(data(&world, "report.html").1, 2 * SITES as u64);
}

/// What a page says of bytes and durations, and of names that may have more than it lists.
#[test]
fn bytes_durations_and_what_a_name_may_miss_are_in_the_pages() {
    let mut world = World::with_records(24);
    let settings = Settings {
        portion: small(),
        limits: Limits { keys: 4, sites: 10 },
        ..Settings::default()
    };
    let mut aggregator = world.aggregator_set(settings);
    for _ in 0..3 {
        aggregator.run(&mut |_| true).unwrap();
        world.publish_random(2, 60);
    }
    aggregator.forget_reports();
    aggregator.run(&mut |_| true).unwrap();
    let mut missed = 0;
    for site in ["a.example", "b.example"] {
        let (data, _) = data(&world, &format!("reports/{site}.html"));
        let rests = world
            .put
            .iter()
            .filter(|put| put.site.as_deref() == Some(site));
        let rests: Vec<&Rest> = rests.filter_map(|put| put.rest.as_ref()).collect();
        let packed = |lines: &Value| -> Vec<u64> {
            let lines = lines.as_array().unwrap().iter();
            lines.flat_map(|line| unpack(line).unwrap()).collect()
        };
        let sent = data["bytes"].as_array().unwrap();
        let sent = sent.iter().flat_map(|line| unpack(&line[1]).unwrap());
        let bytes: u64 = sent.skip(1).step_by(2).sum();
        assert_eq!(bytes, rests.iter().map(|rest| rest.bytes).sum::<u64>());
        let timed = packed(&data["durations"]["days"]).into_iter();
        let timed: u64 = timed.skip(1).step_by(2).sum();
        assert_eq!(timed, rests.len() as u64);

        // Day by day as the states say; no path has more than is listed and may be missed.
        let listed = table(&data, "paths");
        let table = &data["tables"]["paths"];
        let mut may_miss: BTreeMap<String, u64> = BTreeMap::new();
        for day in table["missed"].as_array().into_iter().flatten() {
            let mut at = 0;
            for pair in unpack(day).unwrap().chunks(2) {
                at += pair[0] as usize;
                let name = table["names"][at].as_str().unwrap().to_owned();
                *may_miss.entry(name).or_default() += pair[1];
            }
        }
        missed += may_miss.len();
        assert!(may_miss.keys().all(|name| listed.contains_key(name)));
    }
    assert!(missed > 0, "nothing was ever dropped and came again");
}

#[test]
fn a_damaged_days_file_is_made_again() {
    let mut world = World::with_records(21);
    world.run().unwrap();
    let whole = world.summaries();
    let days = world.analytics().join("_state/reports");
    let names: Vec<String> = files_below(&days).into_keys().collect();
    assert_eq!(names, ["2015-05-16", "2015-05-17"]);
    // Behind the head, so that only who reads the pieces sees it.
    let path = days.join("2015-05-16");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 20..].fill(0);
    fs::write(&path, &bytes).unwrap();
    for page in ["-.html", "a.example.html", "b.example.html"] {
        fs::remove_file(world.analytics().join("reports").join(page)).unwrap();
    }
    world.run().unwrap();
    assert_eq!(world.summaries(), whole);
    fs::remove_dir_all(&days).unwrap();
    world.run().unwrap();
    assert_eq!(world.summaries(), whole);

    // What belongs to nothing goes, what is somebody's stays.
    fs::write(days.join("1999-01-01"), "").unwrap();
    let pages = world.analytics().join("reports");
    fs::copy(
        pages.join("a.example.html"),
        pages.join("gone.example.html"),
    )
    .unwrap();
    fs::write(pages.join("notes.html"), "mine").unwrap();
    world.run().unwrap();
    assert!(!days.join("1999-01-01").exists());
    assert!(pages.join("notes.html").exists());
    fs::remove_file(pages.join("notes.html")).unwrap();
    assert_eq!(world.summaries(), whole);

    // Nor does anything that counts depend on it.
    fs::remove_dir_all(&days).unwrap();
    world.publish_random(0, 5);
    world.run().unwrap();
    world.assert_counted();
    let (_, requests) = data(&world, "report.html");
    assert_eq!(requests, world.put.len() as u64);
}
