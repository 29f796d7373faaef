//! Reports as a person meets them: opened in a browser, clicked and typed into; and their sizes.

mod browser;
mod sample;
mod visit;

use std::{collections::BTreeMap, fs, sync::LazyLock};

use aggregator::{
    hour::Day,
    report::{
        data::{self, SiteLine},
        day::SiteDay,
        page,
    },
};
use browser::Browser;
use sample::{FIRST, Site, Wanted};
use serde_json::Value;
use visit::Visit;

const DAYS: i64 = 90;
const HOURS: i64 = DAYS * 24;
const SITE: &str = "shop.example";

/// 20,000 requests an hour and as many paths a day.
static BUSY: LazyLock<Site> = LazyLock::new(|| Site::new(1, DAYS + 5, 20_000, 20_000));

/// Its page where strangers have chosen the names: as large as one becomes.
static LARGEST: LazyLock<Vec<u8>> =
    LazyLock::new(|| page::page("", &data::site(SITE, &BUSY.with_long_names('<'))));

#[test]
fn a_busy_site_and_a_thousand_sites_have_bounded_pages() {
    let site = &*BUSY;
    let data = data::site(SITE, &site.days);
    let page = page::page("", &data);
    println!(
        "busy site: {} bytes of data, {} of page",
        data.len(),
        page.len()
    );
    assert!(page.len() < 5_000_000, "{}", page.len());
    // No request is missing from the time line, however much was cut from the tables.
    let json: Value = serde_json::from_slice(&data).unwrap();
    let shown = testbed::pages::requests(&json).unwrap();
    let days = json["days"].as_i64().unwrap();
    assert_eq!(days, DAYS);
    let all = site.requests(5 * 24, HOURS + 5 * 24, Wanted::default());
    assert_eq!(shown, all);

    // Six bytes for each that a stranger sent.
    let page = &*LARGEST;
    println!("hostile names: {} bytes of page", page.len());
    assert!(page.len() < 5_000_000, "{}", page.len());

    let page = page::page("", &index_of(&site.days, 1_000));
    println!("1,000 sites: {} bytes of index", page.len());
    assert!(page.len() < 1_000_000, "{}", page.len());
}

#[test]
fn a_person_finds_their_way_in_a_browser() {
    let Some(program) = browser::find() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "no Chromium: `.ci/run` installs it"
        );
        println!("SKIPPED: there is no Chromium on this machine");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let site = Site::new(7, DAYS, 2_500, 4_000);
    fs::create_dir(dir.path().join("reports")).unwrap();
    let file = dir.path().join("reports").join(page::file_name(SITE));
    fs::write(&file, page::page("", &data::site(SITE, &site.days))).unwrap();
    let index = dir.path().join("report.html");
    fs::write(&index, page::page("", &index_of(&site.days, 1_000))).unwrap();

    let mut page = Visit {
        browser: Browser::start(program),
        site,
    };
    page.browser.size(1280, 860);
    page.opens(&file);
    page.filters();
    page.zooms();
    page.sorts_and_searches();
    page.shows_bytes_and_durations();
    page.hostile_text_is_text();
    page.carries_filters_in_links(&file);
    page.downloads(dir.path());
    page.is_used_by_keyboard_and_screen_reader(&file);
    page.fits_a_phone_and_the_dark(&file);
    page.shows_all_sites(&index);
    let busy = dir.path().join("busy.html");
    fs::write(&busy, page::page("", &data::site(SITE, &BUSY.days))).unwrap();
    page.browser.open(&busy, "");
    page.says_how_long_it_took(&busy);
    let worst = dir.path().join("worst.html");
    fs::write(&worst, &*LARGEST).unwrap();
    page.shows_the_largest_page(&worst, &BUSY, 5);
    let (addresses, complaints) = page.browser.seen();
    let foreign = |url: &&String| {
        !["file:", "data:", "about:", "blob:"]
            .iter()
            .any(|own| url.starts_with(own))
    };
    assert_eq!(addresses.iter().find(foreign), None, "asked the network");
    assert!(
        addresses
            .iter()
            .any(|url| url.ends_with("shop.example.html")),
        "it listened"
    );
    assert_eq!(complaints, [""; 0]);
}

/// The data of an index: one site with these days, and `count - 1` with fewer requests.
fn index_of(days: &BTreeMap<Day, SiteDay>, count: usize) -> Vec<u8> {
    let names: Vec<String> = (1..count)
        .map(|i| format!("customer-{i:04}.example"))
        .collect();
    let groups = |less: u64| -> BTreeMap<Day, [u64; 5]> {
        let groups = |(day, of_day): (&Day, &SiteDay)| (*day, of_day.groups().map(|n| n / less));
        days.iter().map(groups).collect()
    };
    let mut lines = vec![SiteLine {
        name: SITE,
        file: Some(page::file_name(SITE)),
        days: groups(1),
    }];
    lines.extend(names.iter().zip(2..).map(|(name, less)| SiteLine {
        name,
        file: Some(page::file_name(name)),
        days: groups(1 + less / 8),
    }));
    data::index(days, &lines)
}

#[test]
fn the_first_day_of_the_sample_is_what_the_tests_say() {
    assert_eq!(FIRST.to_string(), "2026-08-03");
}
