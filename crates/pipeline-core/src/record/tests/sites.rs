//! The site of a record whose sender is bound to one.

use super::*;

const OWN: &str = "Shop.example";

fn bound(default: Option<&str>) -> Rules {
    Rules {
        default_site: default.map(str::to_owned),
        bound_site: Some(OWN.to_owned()),
        ..rules()
    }
}

/// The same record through both ways in; `claimed` is empty where it has no site.
fn both(claimed: &str, rules: &Rules) -> Result<String, RecordError> {
    let site = match claimed {
        "" => GOOD.to_owned(),
        site => good_with(&format!(r#""site":"{site}""#)),
    };
    let json = line(&site, rules);
    let mut out = Vec::new();
    let mut record = TextRecord::<RecordError>::new(rules, &mut out);
    let text = [
        (Known::Timestamp, "2015-05-17T10:05:03Z"),
        (Known::Path, "/a"),
        (Known::UserAgent, "x"),
        (Known::Site, claimed),
    ]
    .into_iter()
    .try_for_each(|(field, text)| record.known(field, text))
    .and_then(|()| record.finish());
    let text = text.map(|()| String::from_utf8(out).expect("UTF-8"));
    assert_eq!(json, text, "JSON and text are judged alike: {claimed}");
    json
}

#[test]
fn records_of_a_bound_sender_have_its_site_in_one_spelling() {
    let expected = good_with(r#""site":"Shop.example""#);
    for default in [None, Some("shop.EXAMPLE"), Some(OWN)] {
        for claimed in ["", OWN, "shop.example", "SHOP.EXAMPLE"] {
            let line = both(claimed, &bound(default));
            assert_eq!(line.as_ref(), Ok(&expected), "{default:?} {claimed}");
        }
    }
    for none in ["null", "\"\""] {
        let input = good_with(&format!(r#""site":{none},"x":1"#));
        assert_eq!(
            line(&input, &bound(None)),
            Ok(good_with(r#""site":"Shop.example","x":1"#))
        );
    }
}

#[test]
fn what_claims_another_site_is_foreign_wherever_it_says_so() {
    for (default, claimed) in [
        (None, "other.example"),
        (None, "www.shop.example"),
        (Some(OWN), "other.example"),
        // Of `?site=`.
        (Some("other.example"), ""),
    ] {
        let error = both(claimed, &bound(default)).expect_err(claimed);
        assert_eq!(error.code, RecordErrorCode::ForeignSite);
        assert_eq!(error.field.as_deref(), Some("site"));
        let foreign = default.filter(|_| claimed.is_empty()).unwrap_or(claimed);
        let expected = format!("site: found {foreign:?}, allowed is the site {OWN:?}");
        assert!(error.message.starts_with(&expected), "{error}");
    }
    // Its own word counts, not what the request says of those that have none.
    assert!(both(OWN, &bound(Some("other.example"))).is_ok());
    let error = both("a b", &bound(None)).expect_err("no host name");
    assert_eq!(error.code, RecordErrorCode::Invalid);
}
