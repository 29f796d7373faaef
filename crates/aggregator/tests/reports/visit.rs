//! What a person does with a page, and what they see then, against sums of the same days.

mod access;
mod strangers;

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    DAYS, HOURS, SITE,
    browser::Browser,
    sample::{Site, Wanted},
};

/// A person at a page of `site`.
pub struct Visit {
    pub browser: Browser,
    pub site: Site,
}

impl Visit {
    /// The number on the card of the totals with this name.
    fn total(&mut self, card: &str) -> u64 {
        number(&json!(self.card(card, ".title")))
    }

    /// A property of what that card shows.
    fn card(&mut self, card: &str, property: &str) -> String {
        let script = format!(
            "[...document.querySelectorAll('#totals > div')]
                .find(one => one.querySelector('dt').textContent === {})
                .querySelector('dd'){property}",
            json!(card)
        );
        self.browser.eval(&script).as_str().unwrap().to_owned()
    }

    /// The cells of a table's rows, as they are seen.
    fn rows(&mut self, title: &str) -> Vec<Vec<String>> {
        let script = format!(
            "[...document.querySelectorAll('section[aria-label={}] tbody tr')]
                .map(row => [...row.children].map(cell => cell.innerText))",
            json!(title)
        );
        serde_json::from_value(self.browser.eval(&script)).unwrap()
    }

    fn click(&mut self, selector: &str) {
        self.browser.eval(&format!(
            "document.querySelector({}).click()",
            json!(selector)
        ));
    }

    /// Chooses or types.
    fn set(&mut self, selector: &str, value: &str) {
        self.browser.eval(&format!(
            "{{ const one = document.querySelector({});
                one.value = {};
                one.dispatchEvent(new Event('input', {{bubbles: true}}));
                one.dispatchEvent(new Event('change', {{bubbles: true}})); }}",
            json!(selector),
            json!(value)
        ));
    }

    fn hash(&mut self) -> String {
        self.browser
            .eval("location.hash")
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn opens(&mut self, file: &Path) {
        self.browser.open(file, "");
        self.browser.picture("light.png");
        assert_eq!(
            self.browser.eval("document.title"),
            json!("shop.example – Sluice report")
        );
        self.says_how_long_it_took(file);
        // The last 30 days, with AI crawlers in sight.
        let from = HOURS - 30 * 24;
        let expected = self.site.requests(from, HOURS, Wanted::default());
        assert_eq!(self.total("Requests"), expected);
        let bottom = "document.querySelector('#crawlers tbody tr:nth-child(5)').getBoundingClientRect().bottom";
        assert!(self.browser.eval(bottom).as_f64().unwrap() < 860.0);
        let rows = self.rows("AI crawlers");
        assert_eq!(rows.len(), 9);
        assert_eq!(rows[0][..3], ["GPTBot", "OpenAI", "AI training"]);
        let bot = Some("GPTBot");
        let gpt = self.site.requests(
            from,
            HOURS,
            Wanted {
                bot,
                ..Wanted::default()
            },
        );
        let before = self.site.requests(
            from - 30 * 24,
            from,
            Wanted {
                bot,
                ..Wanted::default()
            },
        );
        assert_eq!(number(&json!(rows[0][3])), gpt);
        assert_eq!(
            rows[0][4],
            format!("{:.1} %", 100.0 * gpt as f64 / expected as f64)
        );
        let growth = (100.0 * (gpt as f64 / before as f64 - 1.0)).round();
        assert_eq!(rows[0][6].trim(), format!("▲ {growth} %"));
    }

    /// For people: no test depends on it.
    pub fn says_how_long_it_took(&mut self, file: &Path) {
        let loaded = "performance.getEntriesByType('navigation')[0].loadEventEnd";
        println!(
            "opened in {} ms, {} bytes",
            self.browser.eval(loaded),
            fs::metadata(file).unwrap().len()
        );
    }

    /// Of `site`, whose first `days_before` days are older than the page.
    pub fn shows_the_largest_page(&mut self, file: &Path, site: &Site, days_before: i64) {
        let bytes = fs::metadata(file).unwrap().len();
        assert!((4_000_000..5_000_000).contains(&bytes), "{bytes}");
        self.browser.open(file, "");
        self.says_how_long_it_took(file);
        let to = HOURS + days_before * 24;
        let from = to - 30 * 24;
        let all = site.requests(from, to, Wanted::default());
        assert_eq!(self.total("Requests"), all);
        for (name, value, wanted) in [
            (
                "group",
                "ai",
                Wanted {
                    ai: true,
                    ..Wanted::default()
                },
            ),
            (
                "bot",
                "ClaudeBot",
                Wanted {
                    bot: Some("ClaudeBot"),
                    ..Wanted::default()
                },
            ),
            (
                "status",
                "4",
                Wanted {
                    status: Some(4),
                    ..Wanted::default()
                },
            ),
        ] {
            self.set(&format!("select[name={name}]"), value);
            assert_eq!(self.total("Requests"), site.requests(from, to, wanted));
            self.click("#reset");
        }
        self.set("section[aria-label=Paths] input", "ROBOTS");
        assert!(self.rows("Paths")[0][0].starts_with("/robots.txt<<"));
        self.click("#reset");
    }

    pub fn filters(&mut self) {
        let from = HOURS - 30 * 24;
        for (choices, wanted) in [
            (
                vec![("group", "ai")],
                Wanted {
                    ai: true,
                    ..Wanted::default()
                },
            ),
            (
                vec![("status", "4")],
                Wanted {
                    status: Some(4),
                    ..Wanted::default()
                },
            ),
            (
                vec![("bot", "ClaudeBot"), ("status", "3")],
                Wanted {
                    bot: Some("ClaudeBot"),
                    status: Some(3),
                    ..Wanted::default()
                },
            ),
            (
                vec![("purpose", "search")],
                Wanted {
                    purpose: Some("search"),
                    ..Wanted::default()
                },
            ),
        ] {
            for (name, value) in &choices {
                self.set(&format!("select[name={name}]"), value);
                assert!(self.hash().contains(&format!("{name}={value}")));
            }
            assert_eq!(
                self.total("Requests"),
                self.site.requests(from, HOURS, wanted)
            );
            let rows = self.rows("Paths");
            let home = rows.iter().find(|row| row[0] == "/").unwrap();
            let expected = self.site.of_path("/", DAYS - 30, DAYS, wanted);
            assert_eq!(number(&json!(home[1])), expected, "{choices:?}");
            self.click("#reset");
        }
        self.set("select[name=operator]", "OpenAI");
        let names: Vec<String> = self
            .rows("Bots")
            .into_iter()
            .map(|row| row[0].clone())
            .collect();
        assert_eq!(names, ["GPTBot", "OAI-SearchBot", "ChatGPT-User"]);
        self.click("#reset");
        self.set("input[name=from]", "2026-08-10");
        self.set("input[name=to]", "2026-08-11");
        let two = self.site.requests(7 * 24, 9 * 24, Wanted::default());
        assert_eq!(self.total("Requests"), two);
        self.click("#reset");
        assert_eq!(self.hash(), "");
    }

    pub fn zooms(&mut self) {
        let place =
            "(() => { const r = document.querySelector('#chart .u-over').getBoundingClientRect();
                       return [r.left, r.top, r.width]; })()";
        let place: Vec<f64> = serde_json::from_value(self.browser.eval(place)).unwrap();
        let [left, top, width] = place[..] else {
            panic!("{place:?}")
        };
        // Five of thirty days.
        let at = |part: f64| (left + width * part, top + 40.0);
        self.browser.drag(at(0.51), at(0.65));
        let first = "2026-10-17";
        assert_eq!(self.hash(), format!("#from={first}&to=2026-10-21"));
        let from = (DAYS - 30 + 15) * 24;
        let days = self.site.requests(from, from + 5 * 24, Wanted::default());
        assert_eq!(self.total("Requests"), days);
        // Hours now.
        self.browser.drag(at(0.104), at(0.196));
        assert_eq!(self.hash(), format!("#from={first}T12&to={first}T23"));
        let hours = self.site.requests(from + 12, from + 24, Wanted::default());
        assert_eq!(self.total("Requests"), hours);
        self.click("[data-zoom=out]");
        self.click("[data-zoom=later]");
        let moved = self
            .site
            .requests(from + 6 + 12, from + 30 + 12, Wanted::default());
        assert_eq!(self.total("Requests"), moved);
        // The same numbers in words.
        self.browser
            .eval("document.querySelector('#numbers').open = true");
        self.browser
            .eval("new Promise(done => setTimeout(done, 50))");
        let sum = "[...document.querySelectorAll('#numbers tbody tr td:nth-child(2)')]
            .reduce((sum, cell) => sum + Number(cell.textContent.replaceAll(',', '')), 0)";
        assert_eq!(self.browser.eval(sum).as_f64().unwrap() as u64, moved);
        self.click("#reset");
    }

    pub fn sorts_and_searches(&mut self) {
        let header = "section[aria-label=Paths] thead th:nth-child";
        let sorted = |page: &mut Self, column: u32| {
            let sort =
                format!("document.querySelector('{header}({column})').getAttribute('aria-sort')");
            page.browser.eval(&sort)
        };
        assert_eq!(sorted(self, 2), json!("descending"));
        self.click(&format!("{header}(2) button"));
        assert_eq!(sorted(self, 2), json!("ascending"));
        let counts: Vec<u64> = self
            .rows("Paths")
            .iter()
            .map(|row| number(&json!(row[1])))
            .collect();
        assert!(counts.is_sorted() && counts.len() == 12, "{counts:?}");
        self.click(&format!("{header}(1) button"));
        let names: Vec<String> = self
            .rows("Paths")
            .into_iter()
            .map(|row| row[0].clone())
            .collect();
        assert!(
            names.is_sorted() && sorted(self, 2) == Value::Null,
            "{names:?}"
        );
        self.set("section[aria-label=Paths] input", "ROBOTS");
        assert_eq!(self.rows("Paths").len(), 1);
        self.click("section[aria-label=Bots] .more");
        assert_eq!(self.rows("Bots").len(), 14);
        assert!(
            self.hash().contains("sort.paths=name") && self.hash().contains("search.paths=ROBOTS")
        );
        self.click("#reset");
    }

    pub fn shows_bytes_and_durations(&mut self) {
        let from = DAYS - 30;
        let sent = |page: &mut Self| {
            let title = page.card("Sent", ".title");
            let bytes = title.split_once(" bytes").unwrap().0;
            number(&json!(bytes))
        };
        assert_eq!(sent(self), self.site.bytes(from, DAYS, Wanted::default()));
        let near = |text: &str, ms: f64| {
            let digits: String = text.chars().filter(|c| !matches!(c, ',')).collect();
            let found: f64 = digits.trim_end_matches(" ms").parse().unwrap();
            // Its error, and what two digits leave out.
            assert!((found / ms - 1.0).abs() < 0.06, "{text} is not {ms} ms");
        };
        near(&self.card("Response time", ".textContent"), 12.0);
        let rows = self.rows("Sent and response times");
        assert_eq!(rows[0][0], "2026-10-31", "the last day is first");
        for (cell, ms) in rows[0][3..6].iter().zip([12.0, 80.0, 2_400.0]) {
            near(cell, ms);
        }
        let bot = Some("GPTBot");
        let gpt = Wanted {
            bot,
            ..Wanted::default()
        };
        let of_bot = self.site.bytes(from, DAYS, gpt);
        let shown = self.rows("AI crawlers")[0][5].clone();
        let found: f64 = shown
            .trim_end_matches(" MB")
            .trim_end_matches(" GB")
            .parse()
            .unwrap();
        let scale = if shown.ends_with("GB") { 1e9 } else { 1e6 };
        assert!(
            (found * scale / of_bot as f64 - 1.0).abs() < 0.03,
            "{shown}: {of_bot}"
        );
        self.set("select[name=bot]", "GPTBot");
        self.set("input[name=from]", "2026-08-10");
        self.set("input[name=to]", "2026-08-11");
        assert_eq!(sent(self), self.site.bytes(7, 9, gpt));
        assert_eq!(self.rows("Sent and response times").len(), 2);
        let note = "document.querySelector('section[aria-label=\"Sent and response times\"] .note').textContent";
        let note = self.browser.eval(note);
        assert_eq!(note, json!("Response times are those of all requests."));
        self.click("#reset");
        // What a name may have more than is listed: three on each day.
        self.set("section[aria-label=Paths] input", "robots");
        assert_eq!(self.rows("Paths")[0][4], "90");
        self.click("#reset");
    }

    pub fn shows_all_sites(&mut self, index: &Path) {
        self.browser.open(index, "");
        self.browser.picture("index.png");
        let rows = self.rows("Sites");
        assert_eq!(rows.len(), 12);
        self.set("section[aria-label=Sites] input", SITE);
        self.set("select[name=group]", "ai");
        let rows = self.rows("Sites");
        let ai = self.site.requests(
            HOURS - 30 * 24,
            HOURS,
            Wanted {
                ai: true,
                ..Wanted::default()
            },
        );
        assert_eq!((rows.len(), number(&json!(rows[0][1]))), (1, ai));
        self.browser
            .eval("document.querySelector('section[aria-label=Sites] tbody a').click()");
        self.browser.wait("Page.loadEventFired");
        while self.browser.eval("document.documentElement.dataset.ready") != json!("yes") {}
        assert_eq!(
            self.browser
                .eval("document.querySelector('h1').textContent"),
            json!(SITE)
        );
        assert_eq!(
            (self.hash().as_str(), self.total("Requests")),
            ("#group=ai", ai)
        );
    }
}

fn number(text: &Value) -> u64 {
    text.as_str().unwrap().replace(',', "").parse().unwrap()
}
