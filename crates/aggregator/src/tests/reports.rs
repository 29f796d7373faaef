//! Reports of whole runs: what they hold, when they are made, and that they are never state.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::*;

/// The data of a page, with the sum of the requests in its time line.
fn data(world: &World, file: &str) -> (Value, u64) {
    let page = fs::read_to_string(world.analytics().join(file)).unwrap();
    let (_, rest) = page.split_once(" id=\"data\">").unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    let lines = data["hours"].as_array().unwrap().iter();
    let sum = lines
        .flat_map(|line| unpack(&line[1]).into_iter().skip(1).step_by(2))
        .sum();
    (data, sum)
}

fn unpack(text: &Value) -> Vec<u64> {
    let bytes = BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap();
    let numbers = bytes.split_inclusive(|byte| byte & 0x80 == 0);
    let number = |bytes: &[u8]| {
        let bytes = bytes.iter().rev();
        bytes.fold(0, |sum, byte| (sum << 7) | u64::from(byte & 0x7f))
    };
    numbers.map(number).collect()
}

/// Requests by name in a table of a page, over all days.
fn table(data: &Value, name: &str) -> BTreeMap<String, u64> {
    let table = &data["tables"][name];
    let mut sums = BTreeMap::new();
    for day in table["days"].as_array().unwrap() {
        let mut numbers = unpack(day).into_iter();
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
