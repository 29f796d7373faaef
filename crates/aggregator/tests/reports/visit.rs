//! What a person does with a page, and what they see then, against sums of the same days.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    DAYS, HOURS, SITE,
    browser::Browser,
    sample::{HOSTILE_AGENT, HOSTILE_PATH, Site, Wanted},
};

/// A person at a page of `site`.
pub struct Visit {
    pub browser: Browser,
    pub site: Site,
}

impl Visit {
    /// The number on the card of the totals with this name.
    fn total(&mut self, card: &str) -> u64 {
        let script = format!(
            "[...document.querySelectorAll('#totals > div')]
                .find(one => one.querySelector('dt').textContent === {})
                .querySelector('dd').title",
            json!(card)
        );
        number(&self.browser.eval(&script))
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
        let loaded = self
            .browser
            .eval("performance.getEntriesByType('navigation')[0].loadEventEnd");
        println!(
            "opened in {loaded} ms, {} bytes",
            fs::metadata(file).unwrap().len()
        );
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
        assert_eq!(rows[0][5].trim(), format!("▲ {growth} %"));
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
        let top = "document.querySelector('#crawlers').getBoundingClientRect().top";
        assert!(self.browser.eval(top).as_f64().unwrap() < 740.0);
        self.browser
            .eval("document.querySelector('#crawlers').scrollIntoView()");
        self.browser.picture("phone-crawlers.png");
        self.browser.size(1280, 860);
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
