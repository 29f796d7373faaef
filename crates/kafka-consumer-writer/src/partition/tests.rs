//! The states one by one; `tests/schedules` drives them all at once.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use pipeline_core::store::{ChainEnd, Draft, Fate, FateRun, Totals};

use super::*;
use crate::{
    batcher::{Content, Trigger},
    budget::Budget,
    window::Window,
};

const SETTINGS: Settings = Settings {
    flush: FlushLimits {
        flush_size: 10,
        flush_interval: Duration::from_millis(500),
        batch_records_max: 100,
        batch_bytes_max: 1_000,
    },
    persist_timeout: Duration::from_secs(5),
};

fn memory(next: i64) -> Box<Memory> {
    Box::new(Memory {
        window: Window::new(10),
        end: ChainEnd {
            next: Offset(next),
            last: None,
            totals: Totals::default(),
            last_message: None,
        },
        aside: BTreeSet::new(),
    })
}

fn gap(next: i64, now: Instant, bytes: u64) -> Chunk {
    let budget = Budget::new(u64::MAX);
    Chunk {
        bytes,
        ..Chunk::gap(Content::Skipped, Offset(next), now, &budget)
    }
}

fn running(next: i64, now: Instant) -> PartitionCore {
    let mut core = PartitionCore::new(SETTINGS, 1);
    assert!(matches!(core.poll(now), Some(Action::Load)));
    core.loaded(LoadOutcome::Ready(memory(next)), now);
    let claim = core.commit_due(now).expect("the claim");
    core.committed(claim, true, now);
    assert!(core.is_running());
    core
}

fn save(core: &mut PartitionCore, now: Instant) -> Option<Box<SaveJob>> {
    match core.poll(now) {
        Some(Action::Save(job)) => Some(job),
        None => None,
        other => panic!("{other:?}"),
    }
}

fn landed(job: &SaveJob) -> SaveOutcome {
    SaveOutcome::Landed(memory(job.batch.next.0))
}

#[test]
fn nothing_is_read_or_saved_before_the_claim_is_acknowledged() {
    let now = Instant::now();
    let mut core = PartitionCore::new(SETTINGS, 1);
    assert!(core.commit_due(now).is_none(), "nothing is known yet");
    assert!(matches!(core.poll(now), Some(Action::Load)));
    assert!(core.poll(now).is_none(), "asked once");
    core.loaded(LoadOutcome::Ready(memory(7)), now);
    assert_eq!(core.fetch_from(u64::MAX), None);
    let claim = core.commit_due(now).expect("the claim");
    assert_eq!(claim.offset, Offset(7));
    // A claim that fails is made again, after a pause.
    core.committed(claim, false, now);
    assert!(!core.is_running() && core.wake_at().is_some());
    let later = now + Duration::from_secs(10);
    let claim = core.commit_due(later).expect("the claim again");
    core.committed(claim, true, later);
    assert_eq!(core.fetch_from(u64::MAX), Some(Offset(7)));
    assert!(core.commit_due(later).is_none());
}

#[test]
fn a_commit_sent_before_the_chain_was_read_anew_is_no_claim() {
    let now = Instant::now();
    let mut core = running(0, now);
    core.fetched(Offset(0), [gap(5, now, 1)]);
    let later = now + Duration::from_secs(1);
    let job = save(&mut core, later).expect("due");
    core.saved(job.serial, landed(&job), later);
    let old = core.commit_due(later).expect("what has landed");
    core.reload(later);
    let later = later + Duration::from_secs(10);
    assert!(matches!(core.poll(later), Some(Action::Load)));
    core.loaded(LoadOutcome::Ready(memory(5)), later);
    core.committed(old, true, later);
    assert!(!core.is_running());
    let claim = core.commit_due(later).expect("a claim of its own");
    core.committed(claim, true, later);
    assert!(core.is_running());
}

#[test]
fn a_save_that_comes_back_after_the_chain_was_read_anew_changes_nothing() {
    let now = Instant::now();
    let mut core = running(0, now);
    core.fetched(Offset(0), [gap(5, now, 1)]);
    let later = now + Duration::from_secs(1);
    let old = save(&mut core, later).expect("due");
    core.reload(later);
    let later = later + Duration::from_secs(10);
    assert!(matches!(core.poll(later), Some(Action::Load)));
    core.loaded(LoadOutcome::Ready(memory(9)), later);
    let claim = core.commit_due(later).expect("the claim");
    core.committed(claim, true, later);
    core.fetched(Offset(9), [gap(12, later, 1)]);
    let later = later + Duration::from_secs(1);
    let new = save(&mut core, later).expect("due");
    core.saved(old.serial, landed(&old), later);
    assert!(core.commit_due(later).is_none(), "nothing has landed");
    core.saved(new.serial, landed(&new), later);
    assert_eq!(core.commit_due(later).expect("landed").offset, Offset(12));
}

#[test]
fn the_next_batch_fills_while_one_save_is_in_flight_up_to_its_share() {
    let now = Instant::now();
    let mut core = running(0, now);
    core.fetched(Offset(0), [gap(5, now, 40)]);
    let later = now + Duration::from_secs(1);
    let job = save(&mut core, later).expect("due");
    assert_eq!(core.fetch_from(100), Some(Offset(5)));
    core.fetched(Offset(5), [gap(6, later, 60)]);
    assert_eq!(core.fetch_from(100), None, "paused");
    let later = later + Duration::from_secs(1);
    assert!(save(&mut core, later).is_none(), "one save at a time");
    core.saved(job.serial, landed(&job), later);
    let job = save(&mut core, later).expect("the one that filled");
    assert_eq!((job.batch.first, job.batch.next), (Offset(5), Offset(6)));
    assert_eq!(core.fetch_from(100), Some(Offset(6)), "goes on");
}

#[test]
fn a_late_save_is_reported_once_and_still_counts() {
    let now = Instant::now();
    let mut core = running(0, now);
    core.fetched(Offset(0), [gap(5, now, 1)]);
    let later = now + Duration::from_secs(1);
    let job = save(&mut core, later).expect("due");
    assert_eq!(core.wake_at(), None, "it waits for its turn");
    core.saving(job.serial, later);
    let late = later + SETTINGS.persist_timeout;
    assert_eq!(core.wake_at(), Some(late));
    assert!(matches!(core.poll(late), Some(Action::Late(_))));
    assert!(core.poll(late).is_none() && core.wake_at().is_none());
    core.saved(job.serial, landed(&job), late + Duration::from_secs(60));
    let due = core.commit_due(late).expect("landed");
    assert_eq!(due.offset, Offset(5));
}

#[test]
fn a_failed_save_is_tried_again_with_the_same_bytes_until_it_lands() {
    let now = Instant::now();
    let mut core = running(0, now);
    core.fetched(Offset(0), [gap(5, now, 1)]);
    let mut later = now + Duration::from_secs(1);
    let mut job = save(&mut core, later).expect("due");
    let draft = Draft {
        first: Offset(0),
        next: Offset(5),
        previous: None,
        writer: [0; 16],
        fates: vec![FateRun {
            fate: Fate::Skipped,
            count: 5,
        }],
        stored: Vec::new(),
        totals_before: Totals::default(),
        last: None,
    };
    job.encoded = Some(Arc::new(draft.encode(b"", 1)));
    let hash = job.encoded.as_ref().expect("just made").hash;
    for attempt in 1..20 {
        let serial = job.serial;
        core.saved(serial, SaveOutcome::Unknown(job), later);
        assert!(core.commit_due(later).is_none());
        later = core.wake_at().expect("a pause");
        job = save(&mut core, later).expect("again");
        assert_eq!(job.attempt, attempt);
        assert_eq!(job.encoded.as_ref().expect("kept").hash, hash);
    }
    core.saved(job.serial, landed(&job), later);
    assert_eq!(core.commit_due(later).expect("landed").offset, Offset(5));
}

#[test]
fn a_name_taken_drops_everything_and_reads_the_chain_anew() {
    let now = Instant::now();
    let mut core = running(0, now);
    core.fetched(Offset(0), [gap(5, now, 1)]);
    let later = now + Duration::from_secs(1);
    let job = save(&mut core, later).expect("due");
    core.fetched(Offset(5), [gap(9, later, 1)]);
    core.saved(job.serial, SaveOutcome::Taken, later);
    assert_eq!(core.buffered_bytes(), 0);
    assert_eq!(core.fetch_from(u64::MAX), None);
    assert!(core.commit_due(later).is_none());
    let later = core.wake_at().expect("a pause");
    assert!(matches!(core.poll(later), Some(Action::Load)));
}

#[test]
fn what_is_saved_is_flushed_at_the_deadline_also_without_its_commit() {
    let now = Instant::now();
    let deadline = now + Duration::from_secs(2);
    let mut core = running(0, now);
    core.fetched(Offset(0), [gap(5, now, 1)]);
    core.drain(deadline, Trigger::Revoke);
    let job = save(&mut core, now).expect("forced");
    assert_eq!(core.drain_state(deadline), DrainState::OutOfTime);
    core.saved(job.serial, landed(&job), now);
    let due = core.commit_due(now).expect("what has landed");
    core.committed(due, false, now);
    assert_eq!(core.drain_state(now), DrainState::Going);
    assert_eq!(core.drain_state(deadline), DrainState::Flushed);
}

#[test]
fn a_halted_partition_is_looked_at_again_and_goes_on_once_it_is_well() {
    let now = Instant::now();
    let mut core = PartitionCore::new(SETTINGS, 1);
    assert!(matches!(core.poll(now), Some(Action::Load)));
    core.loaded(LoadOutcome::Halt, now);
    assert!(core.is_halted() && core.poll(now).is_none());
    let later = core.wake_at().expect("a rest");
    assert!(matches!(core.poll(later), Some(Action::Load)));
    core.loaded(LoadOutcome::Ready(memory(3)), later);
    assert!(!core.is_halted() && core.commit_due(later).is_some());
}

/// Saves of which some fail and some never come back: a drain ends with everything saved and
/// committed, or at its deadline, and reads nothing more.
#[test]
fn a_drain_ends_with_everything_committed_or_at_its_deadline() {
    let mut seen = [0; 2];
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let start = Instant::now();
        let mut core = running(0, start);
        let chunks = random.i64(0..200);
        core.fetched(Offset(0), (1..=chunks).map(|n| gap(n, start, 100)));
        let deadline = start + Duration::from_secs(2);
        core.drain(deadline, Trigger::Revoke);
        assert_eq!(core.fetch_from(u64::MAX), None);
        let mut now = start;
        let mut coming: VecDeque<(Instant, Box<SaveJob>)> = VecDeque::new();
        let mut committed = Offset(0);
        let end = loop {
            while let Some(action) = core.poll(now) {
                match action {
                    Action::Save(job) => {
                        core.saving(job.serial, now);
                        let takes = match random.u32(0..40) {
                            0 => Duration::from_secs(3_600),
                            _ => Duration::from_millis(random.u64(1..200)),
                        };
                        coming.push_back((now + takes, job));
                    }
                    Action::Late(_) => {}
                    Action::Load => panic!("seed {seed}: a drain reads no chain"),
                }
            }
            if let Some(due) = core.commit_due(now) {
                let ok = random.u32(0..4) > 0;
                if ok {
                    committed = due.offset;
                }
                core.committed(due, ok, now);
            }
            match core.drain_state(now) {
                DrainState::Going => {}
                ended => break ended,
            }
            let back = coming.front().map(|(at, _)| *at);
            let wake = core.wake_at().filter(|at| *at > now);
            now = [back, wake].into_iter().flatten().min().expect("something");
            if back == Some(now)
                && let Some((_, job)) = coming.pop_front()
            {
                let serial = job.serial;
                let outcome = if random.u32(0..8) == 0 {
                    SaveOutcome::Unknown(job)
                } else {
                    landed(&job)
                };
                core.saved(serial, outcome, now);
            }
        };
        assert!(now <= deadline, "seed {seed}");
        if end == DrainState::Flushed {
            assert!(core.all_saved(), "seed {seed}");
            // At the deadline, the commit alone is not waited for.
            assert!(
                committed == Offset(chunks) || now == deadline,
                "seed {seed}"
            );
            seen[0] += 1;
        } else {
            assert!(!core.all_saved() && now == deadline, "seed {seed}");
            seen[1] += 1;
        }
    }
    assert!(seen[0] > 50 && seen[1] > 50, "both ends are met: {seen:?}");
}

#[test]
fn it_waits_from_the_first_try_of_a_save_or_a_load_until_that_has_come_to_something() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let mut core = PartitionCore::new(SETTINGS, 1);
    assert_eq!(core.waiting_since(), None);
    assert!(matches!(core.poll(now), Some(Action::Load)));
    assert_eq!(core.waiting_since(), Some(now));
    core.loaded(LoadOutcome::Ready(memory(0)), now);
    let claim = core.commit_due(now).expect("the claim");
    core.committed(claim, true, now);
    assert_eq!(core.waiting_since(), None);
    core.fetched(Offset(0), [gap(5, now, 1)]);
    assert_eq!(core.waiting_since(), None, "nothing is due yet");
    let begun = now + second;
    let job = save(&mut core, begun).expect("due");
    core.saved(job.serial, SaveOutcome::Unknown(job), begun + second);
    assert_eq!(core.waiting_since(), Some(begun), "while it rests");
    let again = save(&mut core, begun + 60 * second).expect("tried again");
    assert_eq!(core.waiting_since(), Some(begun), "in a further try");
    core.saved(again.serial, landed(&again), begun + 61 * second);
    assert_eq!(core.waiting_since(), None);
}
