//! Whoever has no mouse, no large screen, or does not see the page.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;

use super::Visit;
use crate::{HOURS, sample::Wanted};

impl Visit {
    pub fn is_used_by_keyboard_and_screen_reader(&mut self, file: &Path) {
        self.browser.open(file, "");
        self.browser.key("Tab");
        assert_eq!(
            self.browser.eval("document.activeElement.id"),
            json!("skip")
        );
        let seen = "document.activeElement.getBoundingClientRect().left >= 0";
        assert_eq!(self.browser.eval(seen), json!(true));
        self.browser.key("Enter");
        assert_eq!(
            self.browser.eval("document.activeElement.id"),
            json!("main")
        );
        self.tabs_through_all();
        self.chooses_by_keys();
        self.browser
            .eval("document.querySelector('section[aria-label=Paths] thead button').focus()");
        self.browser.key("Enter");
        assert!(self.hash().contains("sort.paths=name"));
        let outline = "getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(self.browser.eval(outline), json!("solid"));
        let tree = self.browser.call("Accessibility.getFullAXTree", json!({}));
        let mut named = BTreeMap::<String, u32>::new();
        for node in tree["nodes"].as_array().unwrap() {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            let roles = [
                "button",
                "combobox",
                "searchbox",
                "link",
                "table",
                "image",
                "region",
                "Date",
            ];
            if node["ignored"] == json!(false) && roles.contains(&role) {
                let name = node["name"]["value"].as_str().unwrap_or_default();
                assert!(!name.trim().is_empty(), "a {role} without a name: {node}");
                *named.entry(role.to_owned()).or_default() += 1;
            }
        }
        assert!(
            named["table"] >= 6 && named["combobox"] >= 5 && named["image"] >= 1,
            "{named:?}"
        );
    }

    /// Tab reaches whatever can be used, once each, in the order in which it is read, and it is seen
    /// where it is.
    fn tabs_through_all(&mut self) {
        let usable = "[...document.querySelectorAll('a[href], button, input, select, summary')]
            .filter(one => one.checkVisibility() && one.id !== 'skip').length";
        let usable = self.browser.eval(usable).as_u64().unwrap();
        self.browser.eval(
            "window.order = [...document.querySelectorAll('*')];
             window.walked = [];
             document.querySelector('#skip').focus()",
        );
        let step = "(() => {
            const one = document.activeElement;
            const end = one === document.body || one.id === 'skip';
            if (!end) walked.push(order.indexOf(one));
            const place = one.getBoundingClientRect();
            return [end, place.width > 0 && place.height > 0,
                    one.type === 'date' || getComputedStyle(one).outlineStyle !== 'none',
                    one.outerHTML.slice(0, 80)]; })()";
        for _ in 0..usable * 3 {
            self.browser.key("Tab");
            let found = self.browser.eval(step);
            if found[0] == json!(true) {
                break;
            }
            assert_eq!(
                (&found[1], &found[2]),
                (&json!(true), &json!(true)),
                "{found}"
            );
        }
        // A field for dates is three stops, and the browser marks the one that has the focus.
        let walked = "[...new Set(walked)]";
        let walked: Vec<u64> = serde_json::from_value(self.browser.eval(walked)).unwrap();
        assert!(walked.is_sorted(), "the focus jumps: {walked:?}");
        assert_eq!(walked.len() as u64, usable);
    }

    /// A filter is chosen without a mouse, and who hears the page is told what it shows then.
    fn chooses_by_keys(&mut self) {
        let said = "document.querySelector('#said').textContent";
        let before = self.browser.eval(said);
        self.browser
            .eval("document.querySelector('select[name=group]').focus()");
        self.browser.key("ArrowDown");
        assert!(self.hash().contains("group=human"), "{}", self.hash());
        let after = self.browser.eval(said);
        let expected = format!("{} requests from", self.card("Requests", ".title"));
        assert!(after.as_str().unwrap().starts_with(&expected), "{after}");
        assert_ne!(before, after);
        let live = self.browser.eval(
            "[document.querySelector('#said').getAttribute('aria-live'), document.documentElement.lang,
              document.querySelectorAll('h1').length, document.querySelectorAll('main').length]",
        );
        assert_eq!(live, json!(["polite", "en", 1, 1]));
        self.click("#reset");
    }

    pub fn fits_a_phone_and_the_dark(&mut self, file: &Path) {
        self.browser.dark(true);
        self.browser.open(file, "");
        self.browser.picture("dark.png");
        let ground = "getComputedStyle(document.body).backgroundColor";
        assert_eq!(self.browser.eval(ground), json!("rgb(16, 21, 28)"));
        self.browser.dark(false);
        assert_eq!(self.browser.eval(ground), json!("rgb(244, 246, 248)"));
        self.browser.size(360, 740);
        self.browser.open(file, "");
        self.browser.picture("phone.png");
        let width = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)";
        assert_eq!(self.browser.eval(width), json!(360));
        // Nothing hides to the right of its panel either.
        let wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length";
        assert_eq!(self.browser.eval(wide), json!(0));
        // A finger finds what it wants, and nothing else beside it.
        let small = "[...document.querySelectorAll('button, input, select')]
            .filter(one => one.checkVisibility() && one.getBoundingClientRect().height < 24)
            .map(one => one.outerHTML.slice(0, 80))";
        assert_eq!(self.browser.eval(small), json!([]));
        let place = "(() => { const one = document.querySelector('[data-days=\"7\"]');
            const place = one.getBoundingClientRect();
            return [place.left + place.width / 2, place.top + place.height / 2]; })()";
        let place: Vec<f64> = serde_json::from_value(self.browser.eval(place)).unwrap();
        self.browser.tap((place[0], place[1]));
        let from = HOURS - 7 * 24;
        let week = self.site.requests(from, HOURS, Wanted::default());
        assert_eq!(self.total("Requests"), week);
        self.click("#reset");
        let top = "document.querySelector('#crawlers').getBoundingClientRect().top";
        assert!(self.browser.eval(top).as_f64().unwrap() < 740.0);
        self.browser
            .eval("document.querySelector('#crawlers').scrollIntoView()");
        self.browser.picture("phone-crawlers.png");
        self.browser.size(1280, 860);
    }
}
