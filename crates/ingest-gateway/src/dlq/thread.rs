//! The one thread that owns the files: takes what waits, makes it durable together, answers.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use pipeline_core::dlq::rate::{SECONDS_LEFT_MAX, WriteRate};
use tokio::sync::watch;

use super::{Command, Entry, Files, Refusal, Totals, files};
use crate::{producer::settle::now_ms, telemetry};

/// After which the thread makes durable what it has taken, whatever else waits.
const GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Between two looks at the clock, while there is something that ages.
const TICK: Duration = Duration::from_secs(1);
/// Between two attempts to cut off or remove what the disk did not let go.
const REMOVE_AGAIN: Duration = Duration::from_secs(5);

/// What the queue says of itself on `/metrics`.
pub(super) struct Gauges {
    rate: WriteRate,
    /// They change without anything happening.
    age: bool,
    /// When what could not be removed is tried again.
    remove_at: Instant,
}

impl Gauges {
    pub(super) fn new(files: &Files) -> Self {
        let mut gauges = Self {
            rate: WriteRate::new(Instant::now()),
            age: false,
            remove_at: Instant::now(),
        };
        gauges.set(files, 0);
        gauges
    }

    fn set(&mut self, files: &Files, written_bytes: u64) {
        let now = Instant::now();
        self.rate.wrote(written_bytes, now);
        let oldest_ms = files.oldest_ms();
        let age_ms = oldest_ms.map_or(0, |oldest| now_ms().saturating_sub(oldest).max(0));
        let seconds_left = self.rate.seconds_left(files.room(), now);
        telemetry::dlq(files.totals(), seconds_left, age_ms);
        self.age = oldest_ms.is_some() || seconds_left < SECONDS_LEFT_MAX;
    }

    /// The next command; `None` when there will be none.
    fn next(&mut self, files: &mut Files, todo: &mpsc::Receiver<Command>) -> Option<Command> {
        while self.age || files.has_done() || files.has_uncut() {
            match todo.recv_timeout(TICK) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Timeout) => {
                    let again = files.has_done() || files.has_uncut();
                    if again && Instant::now() >= self.remove_at {
                        files.take_back();
                        files.remove_all_done();
                        self.remove_at = Instant::now() + REMOVE_AGAIN;
                    }
                    self.set(files, 0);
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        todo.recv().ok()
    }
}

pub(super) fn run(
    mut files: Files,
    mut gauges: Gauges,
    todo: &mpsc::Receiver<Command>,
    totals: &watch::Sender<Totals>,
) {
    let mut entries = Vec::new();
    // With the number of entries that each is about.
    let mut replies = Vec::new();
    let mut stop = None;
    while stop.is_none()
        && let Some(first) = gauges.next(&mut files, todo)
    {
        let mut others = Vec::new();
        let mut bytes = 0;
        // With the marks that will be needed.
        let mut promised = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Store(batch, reply) => {
                    let wanted = batch.iter().map(Entry::encoded_len).sum::<usize>();
                    let needed = batch.iter().map(files::wanted).sum::<u64>();
                    // One entry has its word from the files; of several none may be kept alone.
                    let spare = files::NEXT_FILE_BYTES;
                    if batch.len() > 1 && promised + needed + spare > files.room() {
                        let _ = reply.send(Err(no_room(needed)));
                    } else {
                        promised += needed;
                        bytes += wanted;
                        replies.push((batch.len(), reply));
                        entries.extend(batch);
                    }
                }
                Command::Stop(reply) => {
                    stop = Some(reply);
                    break;
                }
                other => others.push(other),
            }
            next = (bytes < GROUP_BYTES_MAX)
                .then(|| todo.try_recv().ok())
                .flatten();
        }
        let results = files.store(&entries);
        let kept: usize = entries
            .drain(..)
            .zip(&results)
            .filter(|(_, result)| result.is_ok())
            .map(|(entry, _)| entry.record_count())
            .sum();
        telemetry::dlq_written(kept);
        let mut acknowledge = Vec::with_capacity(others.len());
        for command in others {
            acknowledge.push(act(&mut files, command));
        }
        // The books first: what is answered has been counted.
        let written = files.take_written_bytes();
        gauges.set(&files, written);
        let now = files.totals();
        totals.send_if_modified(|seen| std::mem::replace(seen, now) != now);
        let mut results = results.into_iter();
        for (count, reply) in replies.drain(..) {
            // Nobody waits for the entries of a batch whose client has its answer.
            let _ = reply.send(of_batch(results.by_ref().take(count)));
        }
        for reply in acknowledge {
            reply();
        }
    }
    // Another process may have the directory before this one says that it has stopped.
    drop(files);
    if let Some(reply) = stop {
        let _ = reply.send(());
    }
}

fn no_room(wanted: u64) -> Refusal {
    Refusal {
        may_be_kept: false,
        why: format!("the dead letter queue has no room for the {wanted} bytes of a batch"),
    }
}

/// What became of a batch, from what became of its entries. One that was refused while others were
/// kept is not gone for sure.
fn of_batch(results: impl Iterator<Item = Result<(), Refusal>>) -> Result<(), Refusal> {
    let mut kept = false;
    let mut refused = None;
    for result in results {
        match result {
            Ok(()) => kept = true,
            Err(refusal) => _ = refused.get_or_insert(refusal),
        }
    }
    match refused {
        None => Ok(()),
        Some(refusal) => Err(Refusal {
            may_be_kept: refusal.may_be_kept || kept,
            ..refusal
        }),
    }
}

/// Whether a file that has been appended to for so long is worth ending, so that it can be
/// replayed, while so many are stuck: what comes may well be stuck, too, and each look would end a
/// file. So they are about as many as the square root of twice the seconds that it lasts.
fn is_due(age: Duration, stuck: usize) -> bool {
    age.as_secs() >= stuck as u64
}

/// Does what the command says; gives what answers it.
fn act(files: &mut Files, command: Command) -> Box<dyn FnOnce()> {
    // An error of a send: who asked has gone.
    match command {
        Command::Store(..) | Command::Stop(_) => {
            unreachable!("the loop has taken them")
        }
        Command::Sealed(stuck, reply) => {
            let sealed = files.sealed();
            let age = files.current_age(Instant::now());
            if sealed.iter().all(|file| stuck.contains(&file.number)) && is_due(age, sealed.len()) {
                files.seal();
            }
            let mut sealed = files.sealed();
            sealed.retain(|file| !stuck.contains(&file.number));
            Box::new(move || drop(reply.send(sealed)))
        }
        Command::Ended(reply) => {
            let ended = files.sealed();
            Box::new(move || drop(reply.send(ended)))
        }
        Command::MarkSent(number, marks, reply) => {
            let marked = files.mark_sent(number, marks);
            Box::new(move || drop(reply.send(marked)))
        }
        Command::MarkDone(number, marks, reply) => {
            let marked = files.mark_done(number, marks);
            Box::new(move || drop(reply.send(marked)))
        }
        Command::TakeBack(reply) => {
            let gone = files.take_back();
            files.remove_all_done();
            Box::new(move || _ = reply.send(gone))
        }
        Command::Correct(number, seen) => {
            files.correct(number, &seen);
            Box::new(|| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_looks_at_stuck_files_does_not_end_a_file_each() {
        let (mut ended, mut age) = (0, Duration::ZERO);
        assert!(is_due(age, ended), "nothing is stuck");
        for _ in 0..2 * 86_400 {
            age += Duration::from_millis(500);
            if is_due(age, ended) {
                (ended, age) = (ended + 1, Duration::ZERO);
            }
        }
        assert!((100..500).contains(&ended), "{ended}");
    }
}
