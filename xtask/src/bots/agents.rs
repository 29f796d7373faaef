//! Lists of agents that other projects test themselves with. Never kept in this repository.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use super::packages::{self, Form};

/// Agents of one kind from one project.
pub struct List {
    pub name: &'static str,
    pub agents: Vec<String>,
}

pub struct Lists {
    /// All of these are bots, says who keeps the list.
    pub bots: Vec<List>,
    /// All of these are AI crawlers.
    pub ai: Vec<List>,
    /// All of these are browsers.
    pub browsers: Vec<List>,
}

/// Fixed, so that a run tomorrow finds what one today does.
const CRAWLER_DETECT: (&str, &str) = ("crawlerdetect", "0.4.2");
const DEVICE_DETECTOR: (&str, &str) = ("device-detector", "6.5.1");
const FAKE_USERAGENT: (&str, &str) = ("fake-useragent", "2.2.0");

/// What a list of browsers must name to be one: there are tools and noise in CrawlerDetect's.
const ENGINES: [&str; 5] = ["AppleWebKit/", "Gecko/", "Trident/", "MSIE ", "Presto/"];

/// Files of device-detector's tests that hold browsers on devices of people.
const DEVICES: [&str; 14] = [
    "camera",
    "car",
    "console",
    "desktop",
    "feature_phone",
    "peripheral",
    "phablet",
    "portable",
    "smart_display",
    "smart_speaker",
    "smartphone",
    "tablet",
    "tv",
    "wearable",
];

pub fn fetch() -> Result<Lists> {
    let (name, version) = CRAWLER_DETECT;
    let dir = packages::unpacked(name, Some(version), &Form::Source)?;
    let crawlers = lines(&packages::find(&dir, "user_agent/crawlers.txt")?)?;
    let mut devices = lines(&packages::find(&dir, "user_agent/devices.txt")?)?;
    devices.retain(|agent| ENGINES.iter().any(|engine| agent.contains(engine)));

    let (name, version) = FAKE_USERAGENT;
    let dir = packages::unpacked(name, Some(version), &Form::Wheel)?;
    let mut fake = Vec::new();
    for line in lines(&packages::find(&dir, "data/browsers.jsonl")?)? {
        let value: Value = serde_json::from_str(&line)?;
        fake.extend(value["useragent"].as_str().map(one_line));
    }

    let (name, version) = DEVICE_DETECTOR;
    let dir = packages::unpacked(name, Some(version), &Form::Source)?;
    let fixtures = packages::find(&dir, "tests/fixtures/upstream")?;
    let mut bots = Vec::new();
    let mut ai = Vec::new();
    for entry in entries(&fixtures.join("bots.yml"))? {
        let agent = agent(&entry)?;
        let category = entry["bot"]["category"].as_str();
        if category.is_some_and(|category| category.starts_with("AI ")) {
            ai.push(agent.clone());
        }
        bots.push(agent);
    }
    let mut people = Vec::new();
    let mut files = fs::read_dir(&fixtures)?.collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files {
        let name = file.file_name();
        if DEVICES
            .iter()
            .any(|of| name.to_string_lossy().starts_with(of))
        {
            for entry in entries(&file.path())? {
                if entry["client"]["type"].as_str() == Some("browser") {
                    people.push(agent(&entry)?);
                }
            }
        }
    }

    let list = |name, agents| List { name, agents };
    Ok(Lists {
        bots: vec![
            list("CrawlerDetect", crawlers),
            list("device-detector", bots),
        ],
        ai: vec![list("device-detector, AI", ai)],
        browsers: vec![
            list("device-detector", people),
            list("fake-useragent", fake),
            list("CrawlerDetect", devices),
        ],
    })
}

fn lines(path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect())
}

fn entries(path: &Path) -> Result<Vec<serde_yaml::Value>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("{} is not YAML", path.display()))
}

fn agent(entry: &serde_yaml::Value) -> Result<String> {
    let agent = entry["user_agent"].as_str();
    Ok(one_line(agent.context("an entry without a user_agent")?))
}

/// The classifier is asked by lines.
fn one_line(agent: &str) -> String {
    agent.replace(['\n', '\r'], " ")
}
