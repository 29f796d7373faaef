use super::*;
use crate::table::Place;

fn counts(paths: &[(&'static str, u64)]) -> Counts<'static> {
    let class = StatusClass::of(Some(200));
    let requests = paths.iter().map(|(_, count)| count).sum();
    let row = |key, count| {
        let client = Client::Human;
        (Place { key, client, class }, count)
    };
    Counts {
        traffic: vec![(
            (10, Client::Human, class),
            Traffic {
                requests,
                with_bytes: 1,
                bytes: u128::from(u64::MAX),
            },
        )],
        statuses: vec![(200, requests)],
        paths: Table {
            rows: paths.iter().map(|(key, count)| row(*key, *count)).collect(),
            ..Table::default()
        },
        user_agents: Table {
            rows: vec![row("x", requests)],
            ..Table::default()
        },
        ..Counts::default()
    }
}

fn content(sites: Vec<(Site<'static>, Counts<'static>)>) -> Content<'static> {
    Content {
        classifications: vec!["1"],
        sites,
        ..Content::default()
    }
}

fn paths(counts: &Counts<'static>) -> Vec<(&'static str, u64)> {
    let rows = counts.paths.rows.iter();
    rows.map(|(place, count)| (place.key, *count)).collect()
}

#[test]
fn sums_are_sorted_and_hold_everything_once() {
    let one = counts(&[("/a", 1), ("/c", 2)]);
    let other = counts(&[("/b", 1), ("/c", 1)]);
    let sum = Content::sum(
        &[
            &content(vec![
                (Site::None, one.clone()),
                (Site::Named("b"), other.clone()),
            ]),
            &content(vec![
                (Site::Named("a"), one.clone()),
                (Site::Named("b"), one.clone()),
            ]),
        ],
        Limits::default(),
    );
    sum.check().unwrap();
    let names: Vec<_> = sum.sites.iter().map(|(site, _)| *site).collect();
    assert_eq!(names, [Site::None, Site::Named("a"), Site::Named("b")]);
    assert_eq!(sum.requests(), 11);
    let both = &sum.sites[2].1;
    assert_eq!(paths(both), [("/a", 1), ("/b", 1), ("/c", 3)]);
    assert_eq!(both.statuses, [(200, 5)]);
    assert_eq!(both.total().bytes, 2 * u128::from(u64::MAX));
    assert_eq!(sum.total().requests(), 11);
    assert_eq!(sum.classifications, ["1"]);
}

#[test]
fn what_came_last_says_what_a_bot_is() {
    let bot = |purpose| Content {
        bots: vec![Bot {
            name: "x",
            operator: "y",
            purpose,
        }],
        ..Content::default()
    };
    let sum = Content::sum(&[&bot("search"), &bot("seo")], Limits::default());
    assert_eq!(sum.bots.len(), 1);
    assert_eq!(sum.bot("x").unwrap().purpose, "seo");
    assert_eq!(sum.bot("z"), None);
}

#[test]
fn sites_above_their_bound_are_counted_together() {
    let limits = Limits {
        keys: 100,
        sites: 2,
    };
    let sites = vec![
        (Site::None, counts(&[("/", 1)])),
        (Site::Named("a"), counts(&[("/", 5)])),
        (Site::Named("b"), counts(&[("/", 3), ("/b", 1)])),
        (Site::Named("c"), counts(&[("/", 7)])),
    ];
    let mut sum = Content::sum(&[&content(sites)], limits);
    sum.check().unwrap();
    let names = |sum: &Content<'static>| {
        let names = sum.sites.iter().map(|(site, _)| *site);
        names.collect::<Vec<_>>()
    };
    let two = [Site::None, Site::Other, Site::Named("a"), Site::Named("c")];
    assert_eq!(names(&sum), two);
    assert_eq!((sum.requests(), sum.sites_error_max), (17, 4));
    // It comes again, as large as those that were kept.
    let again = content(vec![(Site::Named("b"), counts(&[("/b", 6)]))]);
    sum = Content::sum(&[&sum, &again], limits);
    assert_eq!(
        names(&sum),
        [Site::None, Site::Other, Site::Named("b"), Site::Named("c")]
    );
    assert_eq!((sum.requests(), sum.sites_error_max), (23, 9));
    assert_eq!(paths(&sum.sites[1].1), [("/", 8), ("/b", 1)]);
}

#[test]
fn keys_of_many_sites_share_one_bound() {
    assert_eq!(share(vec![5, 5, 5], 10, 100), 10);
    assert_eq!(share(vec![5, 50, 50], 50, 65), 30);
    assert_eq!(share(vec![50, 50, 50], 20, 60), 20);
    assert_eq!(share(vec![1; 100], 20, 60), 1, "never nothing at all");
    for (sizes, each, all) in [(vec![3, 9, 200, 1000], 500, 300), (vec![7; 40], 7, 100)] {
        let keys = share(sizes.clone(), each, all);
        let sum: usize = sizes.iter().map(|size| (*size).min(keys)).sum();
        assert!(sum <= all, "{keys}");
    }
}

#[test]
fn what_does_not_add_up_is_found() {
    let mut wrong = counts(&[("/", 2)]);
    wrong.paths.other = 1;
    let content = content(vec![(Site::None, wrong)]);
    assert!(content.check().unwrap_err().contains("requestsPerPath"));
}
