//! The demo's last screen: the books, who read what, and where to look.

use std::collections::BTreeMap;

use anyhow::Result;
use testbed::{
    stand::{CONFIG, Stand},
    summaries,
};

use super::send::Sent;

const REASONS_SHOWN: usize = 12;
const BUSIEST_SHOWN: usize = 8;

pub struct Books<'a> {
    pub sent: &'a Sent,
    pub stored: u64,
    pub counted: u64,
    /// What `verify` says of the chains.
    pub whole: bool,
}

impl Books<'_> {
    pub fn add_up(&self) -> bool {
        let sent = self.sent;
        sent.records == sent.accepted + sent.rejected
            && sent.accepted == self.stored
            && self.stored == self.counted
            && self.whole
    }
}

pub fn print(stand: &Stand, books: &Books<'_>) -> Result<()> {
    let sent = books.sent;
    rejected(sent);
    busiest(stand)?;
    look(stand)?;

    let rule = "─".repeat(64);
    println!("\n{rule}");
    row(
        "sent",
        sent.records,
        &format!("{} bodies, {} bytes", sent.bodies, sent.bytes),
    );
    row("accepted", sent.accepted, &kept(sent));
    row("rejected", sent.rejected, "each with its reason above");
    row(
        "stored",
        books.stored,
        if books.whole {
            "verify: whole"
        } else {
            "verify: DAMAGED"
        },
    );
    row("counted", books.counted, "in the hourly summaries");
    println!("{rule}");
    if books.add_up() {
        println!("accepted = stored = counted: every record is there exactly once");
    } else {
        println!("THE NUMBERS DO NOT ADD UP");
    }
    Ok(())
}

fn row(name: &str, count: u64, note: &str) {
    println!("  {name:<10} {count:>10}   {note}");
}

fn kept(sent: &Sent) -> String {
    if sent.kept_dlq == 0 {
        return "acknowledged by Kafka".to_owned();
    }
    format!(
        "{} acknowledged by Kafka, {} kept in the DLQ",
        sent.kept_kafka, sent.kept_dlq
    )
}

fn rejected(sent: &Sent) {
    if sent.rejected == 0 {
        return;
    }
    println!("\nrejected, with reasons");
    for reason in sent.reasons.iter().take(REASONS_SHOWN) {
        println!("  {reason}");
    }
    let more = sent.reasons.len().saturating_sub(REASONS_SHOWN) as u64 + sent.unnamed;
    if more > 0 {
        println!("  … and {more} more");
    }
}

fn busiest(stand: &Stand) -> Result<()> {
    let hours = summaries::hours(&stand.analytics_dir())?;
    let paths = summaries::add_up(hours.values().map(|hour| &hour.requests_per_path));
    let agents = summaries::add_up(hours.values().map(|hour| &hour.requests_per_user_agent));
    for (what, counts) in [("paths", paths), ("agents", agents)] {
        println!("\nbusiest {what}, over {} hours", hours.len());
        for (name, count) in top(counts) {
            let short: String = name.chars().take(90).collect();
            println!("  {count:>8}  {short}");
        }
    }
    Ok(())
}

fn top(counts: BTreeMap<&str, u64>) -> Vec<(&str, u64)> {
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    sorted.truncate(BUSIEST_SHOWN);
    sorted
}

fn look(stand: &Stand) -> Result<()> {
    let hours = summaries::hours(&stand.analytics_dir())?;
    let (dir, topic) = (stand.dir.display(), &stand.plan.topic);
    let live = format!("{dir}/logs/_live/{topic}");
    println!("\nwhere things are");
    println!("  store         {live}/");
    println!("  analytics     {}/", stand.analytics_dir().display());
    println!("  configuration {}", stand.dir.join(CONFIG).display());
    println!("  service logs  {dir}/services/");
    println!("\nlook at them");
    println!("  zstdcat {live}/p*/*.ndjson.zst | head -3");
    println!("  xdg-open {}/report.html", stand.analytics_dir().display());
    if let Some((day, hour)) = hours.keys().last() {
        println!(
            "  cat {}/{day}/summary_{hour:02}.json",
            stand.analytics_dir().display()
        );
    }
    let writer = stand
        .writers
        .first()
        .map(|writer| writer.binary.display().to_string());
    let config = stand.dir.join(CONFIG);
    println!(
        "  {} verify --config {}",
        writer.unwrap_or_default(),
        config.display()
    );
    Ok(())
}
