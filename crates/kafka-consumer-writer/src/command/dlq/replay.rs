//! `dlq replay`: which messages go to Kafka again, which stay and why. How one goes is `send`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use pipeline_core::{
    PartitionId,
    command::{Progress, Sending, failed, say},
    config::{Config, Telemetry},
    lifecycle::{Readiness, Shutdown, exit},
    record::{self, Rules},
    telemetry::start_logging,
};

use super::{
    Which,
    corrections::{Corrections, Key, corrections, key_of},
    envelope, kind_of_reason, received_ms,
    records::{Records, Role},
    say_damage, send,
};
use crate::{
    dead_letters::{
        EntryKind, Seen, Survey,
        marks::{MARKS_MAX, Marks, MarksWriter},
        tidy,
    },
    shared::record_rules,
};
use send::{End, Item, Sender, Settings};

/// What is on its way when the command is told to stop has this long.
const STOP_MAX: Duration = Duration::from_secs(10);

#[derive(clap::Args, Clone, Debug, Default)]
pub struct How {
    #[command(flatten)]
    pub sending: Sending,
    /// Send the messages of this file alone, with its values: NDJSON as `dlq show` prints it, mended
    #[arg(long, value_name = "FILE")]
    pub corrected: Option<PathBuf>,
    /// Send also what is of an earlier topic of the same name
    #[arg(long)]
    pub new_topic: bool,
}

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub sent: u64,
    /// By topic and partition: what was sent, or of a dry run would be.
    pub places: BTreeMap<(String, PartitionId), u64>,
    /// Not sent, as they are copies of records that were; of a dry run, that would be.
    pub settled: u64,
    /// What stays, by why.
    pub left: BTreeMap<String, u64>,
    /// Copies, of messages that are still in Kafka.
    pub copies: u64,
    /// Corrections of messages that are neither here, among those that are wanted, nor done with.
    pub unmatched: BTreeSet<Key>,
    pub end: Option<End>,
    pub survey: Survey,
}

pub(super) fn run(config: &Config, which: &Which, how: &How) -> u8 {
    let dir = &config.consumer.dlq_dir;
    let lock = match super::lock(dir, how.sending.dry_run) {
        Ok(lock) => lock,
        Err(code) => return code,
    };
    // What a writer would log at each step is said here in sum.
    start_logging(&Telemetry {
        log_level: "warn".to_owned(),
        log_format: config.telemetry.log_format,
    });
    let shutdown = Shutdown::install(Readiness::default(), STOP_MAX);
    let outcome = match replay(config, which, how, &shutdown) {
        Ok(outcome) => outcome,
        Err(error) => return failed(dir, &error),
    };
    if let Some(lock) = &lock
        && let Err(error) = tidy::tidy(dir, lock, config.consumer.dlq_max_bytes)
    {
        say(&format!("failed to remove what has been replayed: {error}"));
    }
    outcome.say(how.sending.dry_run, dir)
}

/// Goes over what is wanted and sends what may go.
///
/// # Errors
/// Where the directory or the file of corrections cannot be read.
pub fn replay(
    config: &Config,
    which: &Which,
    how: &How,
    shutdown: &Shutdown,
) -> io::Result<Outcome> {
    let corrected = how.corrected.as_deref().map(corrections).transpose()?;
    let mut unmatched: BTreeSet<Key> = corrected.iter().flat_map(|it| it.keys().cloned()).collect();
    let dir = &config.consumer.dlq_dir;
    let mut outcome = Outcome::default();
    let mut sender = (!how.sending.dry_run).then(|| {
        Sender::new(Settings {
            kafka: &config.kafka,
            dir,
            rate: how.sending.rate,
            wait: Duration::from_secs(how.sending.wait),
            new_topic: how.new_topic,
            shutdown: shutdown.clone(),
        })
    });
    let rules = record_rules(config);
    let progress = Progress::begin();
    let ended = || io::Error::other("ended");
    let marks = Marks::read(dir)?;
    for (place, offset) in marks.keys() {
        if !unmatched.is_empty() && marks.of(place, offset).is_done() {
            unmatched.remove(&key_of(place, offset));
        }
    }
    let mut records = Records::default();
    let surveyed = which.survey_with(dir, &marks, &mut |seen| {
        let mut line = Vec::new();
        if !unmatched.is_empty() {
            unmatched.remove(&key_of(seen.place, seen.entry.offset));
        }
        let judged = match judge(seen, corrected.as_ref(), &rules, &mut line) {
            Judged::Copy => {
                outcome.copies += 1;
                return Ok(());
            }
            Judged::NotAsked => return Ok(()),
            other => other,
        };
        let (place, offset) = (seen.place, seen.entry.offset);
        let record = envelope(seen.entry).map(|it| (it.batch, it.sequence));
        if let Judged::Stays(why) = judged
            && !Records::has_landed(&marks, place, record)
        {
            *outcome.left.entry(why).or_default() += 1;
            return Ok(());
        }
        let lead = match records.role(&marks, place, offset, record) {
            Role::Goes(lead) => lead,
            Role::Follows => return Ok(()),
        };
        if lead.since.is_none() && !marks.are_whole() {
            let why = "may have been sent: marks cannot be read (above)".to_owned();
            *outcome.left.entry(why).or_default() += 1;
            return Ok(());
        }
        let place = (seen.place.topic.clone(), seen.place.partition);
        *outcome.places.entry(place).or_default() += 1;
        let Some(sender) = &mut sender else {
            return Ok(());
        };
        progress.show(|| format!("replayed {} messages", sender.sent()));
        let item = Item {
            offset,
            lead,
            line,
            // The contract has no negative times, and a broker may have given -1.
            received_ms: received_ms(seen.entry).max(0),
        };
        sender.take(seen.place, item).map_err(|_| ended())
    });
    if let Some(mut sender) = sender {
        if surveyed.is_ok() {
            // Its end is kept.
            let _ = sender.flush();
        }
        sender.finish(&mut outcome);
    }
    progress.end();
    if how.sending.dry_run {
        outcome.settled = records.followers();
    } else if records.followers() > 0 {
        outcome.settle(dir, &records)?;
    }
    if surveyed.is_ok() {
        outcome.unmatched = unmatched;
    }
    match surveyed {
        Ok(survey) => outcome.survey = survey,
        Err(_) if outcome.end.is_some() => {}
        Err(error) => return Err(error),
    }
    Ok(outcome)
}

enum Judged {
    /// Its line may go.
    Goes,
    Stays(String),
    /// Its message is still in Kafka.
    Copy,
    /// Not in the file of corrections.
    NotAsked,
}

fn judge(
    seen: &Seen<'_>,
    corrected: Option<&Corrections>,
    rules: &Rules,
    line: &mut Vec<u8>,
) -> Judged {
    let entry = seen.entry;
    if entry.kind == EntryKind::Unsaved {
        return Judged::Copy;
    }
    if seen.progress.is_done() {
        return Judged::NotAsked;
    }
    let value = match corrected {
        None => entry.value,
        Some(corrected) => match corrected.get(&key_of(seen.place, entry.offset)) {
            Some(value) => Some(value.as_slice()),
            None => return Judged::NotAsked,
        },
    };
    let Some(value) = value else {
        // Null, or one of a batch that was not read.
        let why = kind_of_reason(entry);
        return Judged::Stays(format!("still poison, without a value: {why}"));
    };
    match record::append_json(value, rules, line) {
        Ok(()) => Judged::Goes,
        Err(error) => Judged::Stays(format!("still poison: {}", error.code.as_str())),
    }
}

impl Outcome {
    /// Marks the copies of what has landed.
    fn settle(&mut self, dir: &Path, records: &Records) -> io::Result<()> {
        let marks = Marks::read(dir)?;
        let mut writer = MarksWriter::new(dir);
        for (place, settled) in records.settled(&marks) {
            for part in settled.chunks(MARKS_MAX) {
                writer.append(place, part)?;
                self.settled += part.len() as u64;
            }
        }
        let waiting = records.followers() - self.settled;
        if waiting > 0 {
            self.left.insert("copies of what stays".to_owned(), waiting);
        }
        Ok(())
    }

    fn say(&self, dry_run: bool, dir: &Path) -> u8 {
        say_damage(&self.survey);
        if dry_run {
            let mut out = io::stdout();
            for ((topic, partition), count) in &self.places {
                // A closed stdout is no failure of what was asked.
                let _ = writeln!(
                    out,
                    "would send {count} messages to topic {topic} partition {partition}"
                );
            }
            if self.places.is_empty() {
                let _ = writeln!(out, "nothing to send");
            }
        } else {
            say(&format!("replayed {} messages", self.sent));
        }
        if self.settled > 0 {
            let settled = self.settled;
            let are = if dry_run { "would be" } else { "are" };
            say(&format!(
                "{settled} {are} done with: copies of records that {are} replayed, by batch and \
                 sequence"
            ));
        }
        for (why, count) in &self.left {
            say(&format!("{count} stay: {why}"));
        }
        if self.copies > 0 {
            let copies = self.copies;
            say(&format!(
                "{copies} copies are passed over: their messages are in kafka"
            ));
        }
        if let Some((topic, partition, offset)) = self.unmatched.first() {
            let count = self.unmatched.len();
            say(&format!(
                "{count} corrections are of no message that waits here: the first one is of topic {topic} partition {partition} offset {offset}"
            ));
        }
        match &self.end {
            None => {}
            Some(End::Stopped) => say("stopped; run it again to go on"),
            Some(End::GaveUp(why)) => say(&format!(
                "kafka takes nothing: {why}; run it again to go on"
            )),
            Some(End::Failed(why)) => say(&format!("{}: {why}", dir.display())),
        }
        let all = self.left.is_empty()
            && self.end.is_none()
            && self.unmatched.is_empty()
            && self.survey.damage.is_empty();
        if dry_run || all {
            exit::OK
        } else {
            exit::FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline_core::Offset;

    use super::*;
    use crate::dead_letters::{Entry, EntryHeader, Place, marks::Progress};

    #[test]
    fn what_has_no_value_stays_for_the_reason_that_it_was_put_aside_for() {
        let place = Place {
            topic: "logs".to_owned(),
            topic_id: String::new(),
            partition: PartitionId(0),
        };
        let reasons = [
            ("the value is null", "the value is null"),
            (
                "its batch, all offsets up to 7, decompresses to more than 128 MiB: none of it",
                "its batch, all offsets up to N, decompresses to more than N MiB",
            ),
        ];
        for (detail, why) in reasons {
            let entry = Entry {
                kind: EntryKind::Poison,
                offset: Offset(3),
                timestamp_ms: 1,
                header: EntryHeader::Absent,
                value: None,
                detail: detail.into(),
            };
            let seen = Seen {
                place: &place,
                entry: &entry,
                progress: Progress::default(),
                marks_are_whole: true,
            };
            let rules = Rules {
                record_bytes_max: 1_000,
                default_site: None,
                bound_site: None,
            };
            let Judged::Stays(said) = judge(&seen, None, &rules, &mut Vec::new()) else {
                panic!("there is nothing to send");
            };
            assert_eq!(said, format!("still poison, without a value: {why}"));
        }
    }
}
