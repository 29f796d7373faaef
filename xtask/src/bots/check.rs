//! `bots check`: the classifier on agents that its lists did not come from.

use std::{fs, io::Write, process::Stdio, thread};

use anyhow::{Context, Result, bail, ensure};

use super::agents::{self, List};
use crate::shell::{cargo, root, strict};

/// At least so much of each list of bots is found.
const RECALL_MIN: f64 = 0.95;

/// At least so many agents of browsers are looked at.
const BROWSERS_MIN: usize = 10_000;

/// Agents that a list of browsers holds and another list publishes as a bot, or that say so
/// themselves.
const DISPUTED: [(&str, &str); 4] = [
    (" Fluid/0.9.6 ", "an instance of crawler-user-agents"),
    (" splash Version/", "an instance of crawler-user-agents"),
    (
        "; Catchpoint)",
        "Catchpoint's monitor, an instance of crawler-user-agents",
    ),
    ("(compatible; Google)", "says that it is Google"),
];

/// Agents that a list of AI crawlers holds, and what they come for after all.
const NOT_AI: [(&str, &str); 2] = [
    ("ias_crawler", "checks where advertisements stand"),
    ("ias_wombles", "checks where advertisements stand"),
];

/// How well bots are told from people, on the test lists of other projects (needs python3 with pip)
///
/// Fetches CrawlerDetect's, device-detector's and fake-useragent's packages from PyPI into
/// `target/bots`, classifies their agents and fails where less than 95 % of a list of bots is found,
/// any AI crawler is missed or has no AI purpose, or any browser is called a bot. What was missed is listed in
/// `target/bots/missed-*.txt`. Without a package registry it is SKIPPED, except where CI is set.
#[derive(clap::Args)]
pub struct Args {
    /// With optimisation, and say how long an agent takes
    #[arg(long)]
    release: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let lists = match agents::fetch() {
        Ok(lists) => lists,
        Err(error) if !strict() => {
            println!("\nSKIPPED bots check: {error:#}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut faults = Vec::new();
    println!(
        "\n{:<24} {:>8} {:>8} {:>9}",
        "bots", "agents", "missed", "found"
    );
    for (lists, least) in [(&lists.bots, RECALL_MIN), (&lists.ai, 1.0)] {
        for list in lists {
            let missed = classified(args, list, |said| said[0] != "bot")?;
            let found = 1.0 - missed.len() as f64 / list.agents.len() as f64;
            println!(
                "{:<24} {:>8} {:>8} {:>8.2} %",
                list.name,
                list.agents.len(),
                missed.len(),
                100.0 * found
            );
            keep(list.name, &missed)?;
            if found < least {
                faults.push(format!("{}: less than {least} found", list.name));
            }
        }
    }
    for list in &lists.ai {
        let mut other = classified(args, list, |said| !said[3].starts_with("ai-"))?;
        other.retain(|agent| {
            let why = NOT_AI.iter().find(|(part, _)| agent.contains(part));
            if let Some((_, why)) = why {
                println!("  no AI purpose ({why}): {}", agent.escape_debug());
            }
            why.is_none()
        });
        let nobodys = classified(args, list, |said| said[2].is_empty())?;
        println!(
            "{:<24} {:>8} without an AI purpose, {} without an operator",
            list.name,
            other.len(),
            nobodys.len()
        );
        keep(&format!("{} purpose", list.name), &other)?;
        for agent in other {
            println!("  {}", agent.escape_debug());
            faults.push(format!(
                "{}: an AI crawler without an AI purpose",
                list.name
            ));
        }
    }
    println!("\n{:<24} {:>8} {:>8}", "browsers", "agents", "as bots");
    let mut browsers = 0;
    for list in &lists.browsers {
        let mut wrong = classified(args, list, |said| said[0] == "bot")?;
        wrong.retain(|agent| {
            let why = DISPUTED.iter().find(|(part, _)| agent.contains(part));
            if let Some((_, why)) = why {
                println!("  disputed ({why}): {}", agent.escape_debug());
            }
            why.is_none()
        });
        browsers += list.agents.len();
        println!(
            "{:<24} {:>8} {:>8}",
            list.name,
            list.agents.len(),
            wrong.len()
        );
        for agent in &wrong {
            println!("  {}", agent.escape_debug());
            faults.push(format!("{}: a browser is called a bot", list.name));
        }
    }
    ensure!(
        browsers >= BROWSERS_MIN,
        "only {browsers} agents of browsers: {BROWSERS_MIN} are wanted"
    );
    if args.release {
        for list in lists.browsers.iter().chain(&lists.bots) {
            let said = classifier(args, &["--bench"], list)?;
            println!("\n{}: {}", list.name, said.trim());
        }
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(())
}

/// The agents of the list of which is said what is wanted: class, name, operator, purpose.
fn classified(args: &Args, list: &List, wanted: impl Fn([&str; 4]) -> bool) -> Result<Vec<String>> {
    let said = classifier(args, &[], list)?;
    ensure!(
        said.lines().count() == list.agents.len(),
        "{}: {} classes for {} agents",
        list.name,
        said.lines().count(),
        list.agents.len()
    );
    let of = said.lines().zip(&list.agents);
    Ok(of
        .filter(|(line, _)| {
            let mut cells = line.split('\t');
            wanted([(); 4].map(|()| cells.next().unwrap_or_default()))
        })
        .map(|(_, agent)| agent.clone())
        .collect())
}

fn classifier(args: &Args, words: &[&str], list: &List) -> Result<String> {
    let mut command = cargo(&[
        "run",
        "--quiet",
        "--locked",
        "-p",
        "aggregator",
        "--example",
        "agents",
    ]);
    if args.release {
        command.arg("--release");
    }
    let mut child = command
        .arg("--")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut input = child.stdin.take().context("no stdin")?;
    let text = list.agents.join("\n") + "\n";
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output()?;
    let written = writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
    ensure!(
        output.status.success(),
        "the classifier failed: {}",
        output.status
    );
    written.context("cannot write to the classifier")?;
    Ok(String::from_utf8(output.stdout)?)
}

fn keep(name: &str, missed: &[String]) -> Result<()> {
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let path = root().join(format!("target/bots/missed-{name}.txt"));
    fs::write(&path, missed.join("\n") + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}
