//! `dlq discard`: someone has decided that messages are not wanted. They are marked so, durably, and
//! their files go as those of replayed ones do. Never touches a copy of a failed save: its message
//! is still in Kafka, and will be stored.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
};

use pipeline_core::{
    Offset,
    command::{print, say},
    lifecycle::exit,
};

use super::{Which, kind_of_reason, say_damage};
use crate::{
    dead_letters::{
        EntryKind, Place, Survey,
        marks::{MARKS_MAX, Mark, MarksWriter},
        tidy,
    },
    shared::now_ms,
};

#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct How {
    /// Only say what would be thrown away
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Also what a replay that was cut off may have sent: that may be in the store, or come there
    #[arg(long)]
    pub maybe_sent: bool,
}

/// What there is to throw away.
#[derive(Debug, Default)]
pub struct Unwanted {
    /// In the order in which they were found.
    places: Vec<(Place, Vec<Offset>)>,
    /// By topic, partition, kind and kind of reason.
    counts: BTreeMap<(String, i32, &'static str, String), u64>,
    /// Passed over.
    copies: u64,
    /// Passed over too: a replay has them under way.
    maybe_sent: u64,
    survey: Survey,
}

pub(super) fn run(dir: &Path, bytes_max: u64, which: &Which, how: How) -> u8 {
    let lock = match super::lock(dir, how.dry_run) {
        Ok(lock) => lock,
        Err(code) => return code,
    };
    print(dir, |out| {
        let unwanted = Unwanted::find(dir, which, how.maybe_sent)?;
        unwanted.say(how.dry_run, out)?;
        out.flush()?;
        let Some(lock) = lock.as_ref().filter(|_| unwanted.messages() > 0) else {
            return Ok(exit::OK);
        };
        if !how.yes && !confirmed(unwanted.messages(), how.maybe_sent)? {
            say("nothing was changed");
            return Ok(exit::FAILED);
        }
        let discarded = unwanted.discard(dir)?;
        say(&format!("threw {discarded} messages away"));
        if let Err(error) = tidy::tidy(dir, lock, bytes_max) {
            say(&format!("failed to remove what was thrown away: {error}"));
        }
        Ok(exit::OK)
    })
}

impl Unwanted {
    /// What of `dir` is asked for and waits for a decision.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn find(dir: &Path, which: &Which, maybe_sent: bool) -> io::Result<Self> {
        let mut found = Self::default();
        let survey = which.survey(dir, &mut |seen| {
            let (place, entry) = (seen.place, seen.entry);
            if entry.kind == EntryKind::Unsaved {
                found.copies += 1;
                return Ok(());
            }
            if seen.progress.is_done() {
                return Ok(());
            }
            let was_sent = seen.progress.since.is_some() || !seen.marks_are_whole;
            if was_sent && !maybe_sent {
                found.maybe_sent += 1;
                return Ok(());
            }
            match found.places.last_mut() {
                Some((last, offsets)) if last == place => offsets.push(entry.offset),
                _ => found.places.push((place.clone(), vec![entry.offset])),
            }
            let key = (
                place.topic.clone(),
                place.partition.0,
                entry.kind.as_str(),
                kind_of_reason(entry),
            );
            *found.counts.entry(key).or_default() += 1;
            Ok(())
        });
        found.survey = survey?;
        Ok(found)
    }

    #[must_use]
    pub fn messages(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Marks them, durably; gives how many.
    ///
    /// # Errors
    /// As the file system says: some may be marked then.
    pub fn discard(&self, dir: &Path) -> io::Result<u64> {
        let mut marks = MarksWriter::new(dir);
        let mark = Mark::Discarded { at_ms: now_ms() };
        let mut discarded = 0;
        for (place, offsets) in &self.places {
            for part in offsets.chunks(MARKS_MAX) {
                let of_part: Vec<_> = part.iter().map(|offset| (*offset, mark)).collect();
                marks.append(place, &of_part)?;
                discarded += part.len() as u64;
            }
        }
        Ok(discarded)
    }

    fn say(&self, dry_run: bool, out: &mut dyn Write) -> io::Result<()> {
        say_damage(&self.survey);
        if self.copies > 0 {
            let copies = self.copies;
            say(&format!(
                "{copies} copies are passed over: their messages are in kafka"
            ));
        }
        if self.maybe_sent > 0 {
            let maybe_sent = self.maybe_sent;
            say(&format!(
                "{maybe_sent} are passed over: a replay was cut off, or its marks cannot be read, \
                 and it may have sent them; `dlq replay` brings them to an end, --maybe-sent throws \
                 them away too"
            ));
        }
        let would = if dry_run { "would throw" } else { "throwing" };
        for ((topic, partition, kind, reason), count) in &self.counts {
            writeln!(
                out,
                "{would} {count} away of topic {topic} partition {partition}, {kind}: {}",
                pipeline_core::record::shown(reason.as_bytes())
            )?;
        }
        if self.counts.is_empty() {
            writeln!(out, "nothing to throw away")?;
        }
        Ok(())
    }
}

/// Asks whoever sits there; where nobody does, the answer is no.
fn confirmed(messages: u64, maybe_sent: bool) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        say("--yes says that it is meant, where nobody can be asked");
        return Ok(false);
    }
    let mut err = io::stderr();
    let but = if maybe_sent {
        ", but for what a replay has sent"
    } else {
        ""
    };
    write!(
        err,
        "throw these {messages} messages away for ever? They will never be in the store{but}. Type \
         yes: "
    )?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use pipeline_core::PartitionId;

    use super::*;
    use crate::dead_letters::{Aside, DeadLetters, Entry, EntryHeader};

    fn place() -> Place {
        Place {
            topic: "logs".to_owned(),
            topic_id: "id".to_owned(),
            partition: PartitionId(0),
        }
    }

    fn entry(offset: i64, detail: &str) -> Entry<'_> {
        Entry {
            kind: EntryKind::Poison,
            offset: Offset(offset),
            timestamp_ms: 1,
            header: EntryHeader::Absent,
            value: None,
            detail: detail.into(),
        }
    }

    #[test]
    fn reasons_that_differ_in_numbers_and_in_what_was_found_are_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
        let reasons = [
            "since 5 is below the duplicate window's start 11",
            "since 123 is below the duplicate window's start 4567",
            "its batch, all offsets up to 7, decompresses to more than 128 MiB: none of it is read",
            "its batch, all offsets up to 99, decompresses to more than 128 MiB: none of it is read",
            "missing: path",
            "missing: userAgent",
        ];
        let entries: Vec<Entry<'_>> = (0..).zip(reasons).map(|(at, why)| entry(at, why)).collect();
        queue.keep(&place(), &entries).expect("kept");
        let unwanted = Unwanted::find(dir.path(), &Which::default(), false).expect("readable");
        let counts: Vec<(&str, u64)> = unwanted
            .counts
            .iter()
            .map(|((_, _, _, reason), count)| (reason.as_str(), *count))
            .collect();
        let expected = [
            (
                "its batch, all offsets up to N, decompresses to more than N MiB",
                2,
            ),
            ("missing", 2),
            ("since N is below the duplicate window's start N", 2),
        ];
        assert_eq!(counts, expected);
    }

    #[test]
    fn what_a_replay_may_have_sent_is_not_thrown_away_unasked() {
        let dir = tempfile::tempdir().expect("a directory");
        let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
        queue
            .keep(&place(), &[entry(4, "bad"), entry(6, "bad")])
            .expect("kept");
        let sent = Mark::Sent { since: Offset(9) };
        let mut marks = MarksWriter::new(dir.path());
        marks
            .append(&place(), &[(Offset(4), sent)])
            .expect("durable");

        let find = |maybe_sent| {
            Unwanted::find(dir.path(), &Which::default(), maybe_sent).expect("readable")
        };
        let unwanted = find(false);
        assert_eq!((unwanted.messages(), unwanted.maybe_sent), (1, 1));
        assert_eq!(unwanted.discard(dir.path()).expect("marked"), 1);
        let unwanted = find(false);
        assert_eq!((unwanted.messages(), unwanted.maybe_sent), (0, 1));
        assert_eq!(find(true).messages(), 1);
    }
}
