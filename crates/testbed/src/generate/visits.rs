//! Who visits which pages, and how often.

use fastrand::Rng;

use crate::clock::Millis;

struct Visitor {
    agent: &'static str,
    /// Share of the traffic, of a thousand.
    share: u32,
    habit: Habit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// By day, pages and what belongs to them.
    Person,
    /// Pages at any hour, and now and then robots.txt.
    Crawler,
    /// One page, again and again.
    Monitor,
    Feed,
}

const VISITORS: [Visitor; 18] = [
    person(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36",
        230,
    ),
    person(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
        160,
    ),
    person(
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Mobile Safari/537.36",
        110,
    ),
    person(
        "Mozilla/5.0 (X11; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0",
        60,
    ),
    person(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
        80,
    ),
    crawler(
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        90,
    ),
    crawler(
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        45,
    ),
    crawler(
        "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
        15,
    ),
    crawler(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        60,
    ),
    crawler(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; ChatGPT-User/1.0; +https://openai.com/bot",
        20,
    ),
    crawler(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)",
        40,
    ),
    crawler(
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; PerplexityBot/1.0; +https://perplexity.ai/perplexitybot)",
        15,
    ),
    crawler("CCBot/2.0 (https://commoncrawl.org/faq/)", 10),
    crawler(
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        25,
    ),
    Visitor {
        agent: "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        share: 15,
        habit: Habit::Monitor,
    },
    Visitor {
        agent: "Feedly/1.0 (+https://feedly.com/poller.html; 41 subscribers)",
        share: 10,
        habit: Habit::Feed,
    },
    Visitor {
        agent: "curl/8.14.1",
        share: 5,
        habit: Habit::Monitor,
    },
    Visitor {
        agent: "-",
        share: 10,
        habit: Habit::Crawler,
    },
];

pub const SITES: [(&str, &[&str]); 3] = [
    (
        "shop.example",
        &[
            "/",
            "/products",
            "/products/kettle",
            "/products/lamp",
            "/cart",
            "/checkout",
            "/search?q=lamp",
        ],
    ),
    (
        "news.example",
        &[
            "/",
            "/politics",
            "/science/orbits",
            "/sport",
            "/archive/2015",
            "/author/editors",
        ],
    ),
    (
        "docs.example",
        &[
            "/",
            "/install",
            "/reference/config",
            "/reference/http",
            "/tutorial/first-steps",
            "/changelog",
        ],
    ),
];
const ASSETS: [&str; 5] = [
    "/style.css",
    "/app.js",
    "/favicon.ico",
    "/logo.svg",
    "/fonts/text.woff2",
];

const fn person(agent: &'static str, share: u32) -> Visitor {
    Visitor {
        agent,
        share,
        habit: Habit::Person,
    }
}

const fn crawler(agent: &'static str, share: u32) -> Visitor {
    Visitor {
        agent,
        share,
        habit: Habit::Crawler,
    }
}

/// One request to one site.
pub struct Visit {
    pub time: Millis,
    pub site: &'static str,
    pub path: String,
    pub agent: &'static str,
    pub status: u16,
    pub bytes: u64,
    pub duration_ms: u32,
    pub client: String,
    pub referer: &'static str,
}

/// A request by one of the visitors, as likely as its share of the traffic.
pub fn visit(rng: &mut Rng, site: Option<usize>, time: Millis) -> Visit {
    let (site, pages) = SITES[site.unwrap_or_else(|| rng.usize(0..SITES.len()))];
    let mut ticket = rng.u32(0..VISITORS.iter().map(|visitor| visitor.share).sum());
    let mut visitor = &VISITORS[0];
    for candidate in &VISITORS {
        visitor = candidate;
        if ticket < candidate.share {
            break;
        }
        ticket -= candidate.share;
    }
    let path = match visitor.habit {
        Habit::Person if rng.u8(0..10) < 4 => ASSETS[rng.usize(0..ASSETS.len())].to_owned(),
        Habit::Crawler if rng.u8(0..20) == 0 => "/robots.txt".to_owned(),
        Habit::Monitor => "/".to_owned(),
        Habit::Feed => "/feed.xml".to_owned(),
        // The first pages of a site are read more than the last ones.
        _ if rng.u8(0..12) == 0 => format!("/p/{}", rng.u32(1..400)),
        _ => pages[rng.usize(0..pages.len()).min(rng.usize(0..pages.len()))].to_owned(),
    };
    let status = match rng.u32(0..100) {
        0..84 => 200,
        84..92 => 304,
        92..97 => 404,
        97..99 => 301,
        _ => 500,
    };
    let referer = if visitor.habit == Habit::Person && rng.bool() {
        "https://www.google.com/"
    } else {
        "-"
    };
    Visit {
        time,
        site,
        path,
        agent: visitor.agent,
        status,
        bytes: if status == 304 {
            0
        } else {
            rng.u64(200..60_000)
        },
        duration_ms: rng.u32(1..40) * rng.u32(1..12),
        client: format!("198.51.100.{}", rng.u8(1..255)),
        referer,
    }
}
