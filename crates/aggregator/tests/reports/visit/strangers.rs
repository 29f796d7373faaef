//! What comes from strangers: hostile text, made-up links, and what leaves the page.

use std::{fs, path::Path};

use serde_json::json;

use super::Visit;
use crate::sample::{HOSTILE_AGENT, HOSTILE_PATH};

impl Visit {
    pub fn hostile_text_is_text(&mut self) {
        self.set("section[aria-label=Paths] input", "onerror");
        assert_eq!(self.rows("Paths")[0][0], HOSTILE_PATH);
        self.set("section[aria-label='User agents'] input", "calc");
        assert_eq!(self.rows("User agents")[0][0], HOSTILE_AGENT);
        assert_eq!(self.browser.eval("document.images.length"), json!(0));
        assert_eq!(self.browser.eval("document.scripts.length"), json!(2));
        assert_eq!(
            self.browser.eval("typeof window.hacked"),
            json!("undefined")
        );
        // Were something to get through after all, the policy would still stop it.
        let inject = "{ const one = document.createElement('div');
            one['inner' + 'HTML'] = '<img src=x onerror=\"window.hacked=3\"><style>h1{color:red}</style>';
            document.body.append(one);
            const two = document.createElement('script');
            two.textContent = 'window.hacked=4';
            document.body.append(two); }
            new Promise(done => setTimeout(() => done(typeof window.hacked), 50))";
        assert_eq!(self.browser.eval(inject), json!("undefined"));
        let (_, refused) = self.browser.seen();
        assert!(
            refused
                .iter()
                .any(|one| one.contains("Content Security Policy")),
            "{refused:?}"
        );
        self.click("#reset");
    }

    pub fn carries_filters_in_links(&mut self, file: &Path) {
        self.set("select[name=bot]", "GPTBot");
        self.click("[data-days='7']");
        let (hash, requests) = (self.hash(), self.total("Requests"));
        self.browser.open(file, &hash);
        assert_eq!(self.total("Requests"), requests);
        assert_eq!(self.hash(), hash);
        let back = self
            .browser
            .eval("document.querySelector('#home').getAttribute('href')");
        assert_eq!(back, json!(format!("../report.html{hash}")));
        // What nobody can have meant is taken for nothing.
        self.browser.open(
            file,
            "#from=2026-99-99&to=x&status=%3Cimg%3E&sort.paths=zzz",
        );
        assert_eq!(self.total("Requests"), 0);
        self.browser.open(file, "");
    }

    pub fn downloads(&mut self, dir: &Path) {
        let to = json!({"behavior": "allow", "downloadPath": dir, "eventsEnabled": true});
        self.browser.call("Browser.setDownloadBehavior", to);
        self.set("section[aria-label='User agents'] input", "calc");
        self.click("section[aria-label='User agents'] .head button");
        loop {
            let event = self.browser.wait("Browser.downloadProgress");
            if event["params"]["state"] == "completed" {
                break;
            }
        }
        let csv = fs::read_to_string(dir.join("shop.example-agents.csv")).unwrap();
        let mut lines = csv.trim_start_matches('\u{feff}').lines();
        assert_eq!(lines.next(), Some("name,requests,share,requestsBefore"));
        // A spreadsheet must not take it for a formula.
        let row = lines.next().unwrap();
        assert!(row.starts_with(&format!("'{HOSTILE_AGENT},")), "{row}");
        assert_eq!(lines.next(), None);
        self.click("#reset");
    }
}
