//! Signs: by what an agent that no list knows gives itself away as a program, and what browsers
//! look like. Each word was held against some 200,000 agents of browsers (`cargo xtask bots check`).

use std::ops::Range;

use super::{
    Purpose,
    words::{Builder, Meaning},
};

/// In the order in which they count where several stand in one agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sign {
    Feed,
    Monitor,
    Bot,
    Library,
    Client,
}

impl Sign {
    pub const ALL: [Self; 5] = [
        Self::Feed,
        Self::Monitor,
        Self::Bot,
        Self::Library,
        Self::Client,
    ];

    /// Under which name those are counted that no list knows.
    pub fn bot(self) -> (&'static str, Purpose) {
        match self {
            Self::Feed => ("Other feed reader", Purpose::Feed),
            Self::Monitor => ("Other monitor", Purpose::Monitor),
            Self::Bot => ("Other bot", Purpose::Other),
            Self::Library => ("Other library", Purpose::HttpLibrary),
            Self::Client => ("Other client", Purpose::Other),
        }
    }
}

#[rustfmt::skip]
const SIGNS: &[(Sign, &[&str])] = &[
    (Sign::Feed, &["feed", "rss/", "rssreader", "podcatcher"]),
    (Sign::Monitor, &["monitor", "uptime", "healthcheck", "health-check", "webpagetest", "synthetic"]),
    (Sign::Bot, &[
        "bot", "b0t", "crawl", "spider", "spyder", "slurp", "scrap", "fetcher", "archiv", "indexer",
        "validat", "checker", "scanner", "extractor", "parser", "verifier", "analyzer", "analyser",
        "screenshot", "thumbnail", "favicon", "webhook", "transcoder", "headless", "preview",
        "insights", "http://", "https://", "www.", "@", "robot", "compatible; ", "google-", "wkhtmlto",
    ]),
    (Sign::Library, &[
        "python", "java/", "perl", "php/", "ruby/", "libwww", "httpclient", "http-client", "go-http",
        "node.js", "node-fetch", "powershell", "httprequest",
    ]),
];

#[rustfmt::skip]
const BROWSERS: &[&str] = &[
    "AppleWebKit", "Gecko/", "like Gecko", "Trident/", "MSIE", "MSPIE", "Presto/", "KHTML", "Goanna/",
    "browser", "Opera", "Firefox/", "Chrome/", "Safari/", "UCWEB",
    "NetFront", "BlackBerry", "Nokia", "SonyEricsson", "SAMSUNG-", "MIDP", "HbbTV", "NetCast",
    "Lynx/", "Links (", "ELinks", "w3m/", "Konqueror/", "NetSurf", "Dillo/", "Netscape", "IEMobile",
    "Obigo", "Teleca", "Dolfin/", "iCab", "Galeon/", "Epiphany/",
    "SeaMonkey/", "rv:1.", "OmniWeb", "Amaya/", "Mosaic/", "AmigaVoyager", "IBrowse", "NetPositive", "Charon;",
    "OPR/", "Polaris", "DoCoMo/", "KDDI-", "J-PHONE/", "Vodafone/", "Palmscape", "Xiino/", "WebPro/",
    "ANTGalio", "ANTFresco", "OffByOne",
];

#[rustfmt::skip]
const PLATFORMS: &[&str] = &[
    "Windows", "Macintosh", "Mac OS X", "Mac_PowerPC", "Android", "iPhone", "iPad", "iPod", "iOS/",
    "iOS ", "Darwin/", "CFNetwork/", "Dalvik/", "X11;", "PlayStation", "Nintendo", "Xbox", "Tizen",
    "SmartTV", "Smart-TV", "webOS", "Roku", "AppleTV", "watchOS", "Symbian", "Alamofire",
    "GOGGalaxy",
];

pub fn add(words: &mut Builder) {
    for (sign, all) in SIGNS {
        for word in *all {
            words.add(word.as_bytes(), Meaning::Sign(*sign));
        }
    }
    for word in BROWSERS {
        words.add(word.as_bytes(), Meaning::Browser);
    }
    for word in PLATFORMS {
        words.add(word.as_bytes(), Meaning::Platform);
    }
}

/// Whether the sign `word`, found at `at`, is one there.
pub fn stands(word: &[u8], agent: &[u8], at: Range<usize>) -> bool {
    let before = &agent[..at.start];
    let after = &agent[at.end..];
    let letter_follows = after.first().is_some_and(u8::is_ascii_alphabetic);
    let letter_before = before.last().is_some_and(u8::is_ascii_alphabetic);
    match word {
        // Some browsers from before 2010 name their maker's page.
        b"http://" | b"https://" | b"www." => !is_old_browser(agent),
        b"@" => letter_before && is_host(after) && !is_old_browser(agent),
        b"bot" | b"b0t" => {
            let plural = after.first().is_some_and(|byte| byte | 32 == b's');
            (!letter_follows || plural) && !is_phone(before, after)
        }
        b"spider" | b"scanner" | b"crawl" | b"monitor" => !is_phone(before, after),
        // Safari's own "Technology%20Preview".
        b"preview" => !before.ends_with(b"%20") && !is_phone(before, after),
        b"perl" | b"python" => !letter_before && !letter_follows,
        b"compatible; " => stranger_follows(before, after),
        _ => true,
    }
}

/// Phones are sold under names with "bot": CUBOT, "M bot 60", "IDbot553". So the name of a model
/// is no sign: what stands in the parentheses behind `Android` up to the next semicolon and
/// is no product (`Name/1.0`) of its own.
fn is_phone(before: &[u8], after: &[u8]) -> bool {
    if before.len() >= 2 && before[before.len() - 2..].eq_ignore_ascii_case(b"cu") {
        return true;
    }
    let Some(opened) = before.iter().rposition(|byte| *byte == b'(') else {
        return false;
    };
    let inside = &before[opened..];
    if inside.contains(&b')') || !contains(inside, b"Android") {
        return false;
    }
    let end = after.iter().position(|byte| matches!(byte, b';' | b')'));
    let rest = &after[..end.unwrap_or(after.len())];
    match rest.iter().position(|byte| *byte == b'/') {
        None => true,
        Some(slash) => rest[..slash].ends_with(b"Build"),
    }
}

/// `compatible; Name` behind an engine: a bot's name, where old browsers had their own before it.
fn stranger_follows(before: &[u8], after: &[u8]) -> bool {
    let engine = contains(before, b"AppleWebKit") || contains(before, b"Gecko/");
    engine && !names_system(after)
}

/// `Mozilla/5.0 (compatible; Name…)` and no browser in it.
pub fn is_compatible(agent: &[u8]) -> bool {
    [&b"(compatible; "[..], b"(Compatible; "]
        .iter()
        .any(|word| {
            let at = agent.windows(word.len()).position(|part| part == *word);
            at.is_some_and(|at| !names_system(&agent[at + word.len()..]))
        })
}

fn names_system(text: &[u8]) -> bool {
    const SYSTEMS: [&[u8]; 7] = [
        b"Windows",
        b"Linux",
        b"Ubuntu",
        b"Android",
        b"U;",
        b"en",
        b"compatible",
    ];
    SYSTEMS.iter().any(|name| text.starts_with(name))
}

/// Whether `text` begins as the second half of an address does: not `android@62.0` (Ecosia's
/// browser), not `en_SA@calendar`.
fn is_host(text: &[u8]) -> bool {
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let end = text.iter().position(|byte| !part(byte));
    let host = &text[..end.unwrap_or(text.len())];
    let top = host
        .rsplit(|byte| *byte == b'.')
        .find(|label| !label.is_empty());
    contains(host, b".") && top.is_some_and(|label| label.iter().all(u8::is_ascii_alphabetic))
}

fn is_old_browser(agent: &[u8]) -> bool {
    [&b"MSIE "[..], b"Browser", b"K-Meleon"]
        .iter()
        .any(|name| contains(agent, name))
}

/// Whether an agent without any browser in it is the name of a program, as `Name/1.0 (what; ever)`,
/// rather than noise or an attack.
pub fn is_product(agent: &[u8]) -> bool {
    let first = agent[0].is_ascii_alphanumeric() || agent[0] == b'_';
    let plain = agent.iter().all(|byte| {
        matches!(byte, b' '..=b'~') && !matches!(byte, b'<' | b'>' | b'{' | b'$' | b'\\')
    });
    // `Mozilla/4.7 [en] (Win95; U)` was Netscape, and a bare `Mozilla/5.0` is nobody; but there are
    // `Mozilla/5.0 Name` and `Mozilla/5.0 (Name)`.
    let named = match agent.strip_prefix(b"Mozilla/") {
        None => agent,
        Some(rest) => {
            let version = rest.iter().position(|byte| *byte == b' ');
            let rest = version.map_or(&[][..], |end| rest[end..].trim_ascii());
            match rest.strip_prefix(b"(") {
                Some(inside) if !inside.contains(&b';') && !names_system(inside) => inside,
                _ => rest,
            }
        }
    };
    let name = named.first().is_some_and(u8::is_ascii_alphanumeric);
    first && plain && name && named.iter().any(u8::is_ascii_alphabetic)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}
