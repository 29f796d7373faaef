//! One file of a real directory, cut at any byte or with any bit flipped: the next start succeeds,
//! what is whole is there with its right marks, and what is lost is said.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use pipeline_core::{dlq::HEADER_LEN, telemetry::catalog};

use super::*;
use crate::dlq::{
    load::{Visited, visit},
    names::data_name,
};

/// With a small reserve, as it is written anew for each case.
const SMALL: FileLimits = FileLimits {
    bytes_max: 128 * 1024,
    ..LIMITS
};

/// What an entry looks like to who would send it; by its batch.
type State = BTreeMap<u8, Progress>;

/// A directory as a killed process leaves it, and what is in it.
struct Left {
    dir: TempDir,
    state: State,
    /// Bytes of each entry, by batch: data file and range, done ones too.
    places: Vec<(u8, u64, Range<u64>)>,
}

/// File 1 was ended and replayed in part, by two processes; file 2 was being written.
fn left() -> Left {
    let dir = dir();
    let mut files = Files::open(dir.path(), SMALL).unwrap();
    let mut places = Vec::new();
    let mut put = |files: &mut Files, id: u8, sent: Option<i64>| {
        let mut entry = entry(id, &["some line", "another line"]);
        entry.head.may_have_been_sent = sent.is_some();
        entry.head.since = sent.map(Offset);
        store(files, &[entry]);
        let current = files.current.as_ref().unwrap();
        let end = current.synced;
        let begin = places
            .last()
            .filter(|(_, number, _): &&(u8, u64, Range<u64>)| *number == current.number)
            .map_or(HEADER_LEN, |(_, _, range)| range.end);
        places.push((id, current.number, begin..end));
    };
    for id in 1..=4 {
        put(&mut files, id, (id == 4).then_some(7));
    }
    files.seal();
    let positions: Vec<_> = loaded(dir.path(), 1)
        .pending
        .iter()
        .map(|pending| pending.position)
        .collect();
    let mark = |at: usize, since: i64| SentMark {
        position: positions[at],
        partition: PartitionId(5),
        since: Offset(since),
    };
    files.mark_sent(1, vec![mark(0, 11), mark(1, 12)]).unwrap();
    let all = loaded(dir.path(), 1);
    files.mark_done(1, done(&all, &[0])).unwrap();
    drop(files);
    let mut files = Files::open(dir.path(), SMALL).unwrap();
    files.mark_sent(1, vec![mark(2, 13)]).unwrap();
    put(&mut files, 5, None);
    put(&mut files, 6, None);
    drop(files);
    let state = state_of(dir.path());
    assert_eq!(state.keys().copied().collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    assert_eq!((state[&2], state[&3]), (sent_to(5, 12), sent_to(5, 13)));
    assert_eq!(state[&4], sent_to(0, 7));
    assert!(!state[&5].may_have_been_sent && !state[&6].may_have_been_sent);
    Left { dir, state, places }
}

fn state_of(dir: &Path) -> State {
    let mut state = State::new();
    for file in Listing::read(dir).unwrap().files {
        let each = &mut |entry: &Visited<'_>| {
            let progress = entry.marks.progress_of(entry.head, entry.position);
            state.insert(entry.head.batch.0[0], progress);
        };
        visit(dir, &file, each).unwrap();
    }
    state
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

/// Puts `bytes` in the place of one file, and judges what a start makes of it. Gives the bytes of
/// damage that were counted.
fn judge(left: &Left, name: &str, bytes: &[u8], lost: &[u8], what: &str) -> u64 {
    let dir = dir();
    copy(left.dir.path(), dir.path());
    fs::write(dir.path().join(name), bytes).unwrap();
    let (mut files, damaged) = damage_counted(|| {
        let mut files = Files::open(dir.path(), SMALL).unwrap_or_else(|e| panic!("{what}: {e}"));
        for number in numbers(&files) {
            let (seen, _) = visit(dir.path(), &file(dir.path(), number), &mut |_| {}).unwrap();
            files.correct(number, &seen);
            // Once is enough.
            files.correct(number, &seen);
        }
        files
    });
    let state = state_of(dir.path());
    let mut expected = left.state.clone();
    expected.retain(|id, _| !lost.contains(id));
    assert_eq!(state, expected, "{what}");
    assert_eq!(files.totals().entries, expected.len() as u64, "{what}");

    // All that is left goes, and the files with it.
    for number in numbers(&files) {
        let all = loaded(dir.path(), number);
        let places: Vec<_> = (0..all.pending.len()).collect();
        files.mark_done(number, done(&all, &places)).unwrap();
    }
    assert_eq!(
        Listing::read(dir.path()).unwrap(),
        Listing::default(),
        "{what}"
    );
    drop(files);
    let files = Files::open(dir.path(), SMALL).unwrap();
    assert_eq!(files.totals().entries, 0, "{what}");
    assert_eq!(
        files.totals().bytes,
        bytes_in(&dir.path().join(DAMAGED)),
        "{what}"
    );
    damaged
}

/// Entries whose bytes `touched` says are touched.
fn lost(left: &Left, name: &str, touched: impl Fn(&Range<u64>) -> bool) -> Vec<u8> {
    left.places
        .iter()
        .filter(|(_, number, range)| data_name(*number) == name && touched(range))
        .map(|(id, ..)| *id)
        .collect()
}

fn each_file(left: &Left, mut judge: impl FnMut(&str, Vec<u8>)) {
    let mut files = 0;
    for entry in fs::read_dir(left.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.contains(".pdl") {
            files += 1;
            judge(name, fs::read(&path).unwrap());
        }
    }
    assert_eq!(
        files, 6,
        "two data files, marks of two processes in two copies"
    );
}

#[test]
fn a_file_cut_at_any_byte_costs_what_was_cut_off_and_no_mark() {
    let left = left();
    let mut rng = fastrand::Rng::with_seed(22);
    each_file(&left, |name, bytes| {
        // Where frames meet, and some of all others.
        let mut cuts: BTreeSet<_> = (0..15).map(|_| rng.usize(..bytes.len())).collect();
        for (_, _, range) in &left.places {
            let at = usize::try_from(range.start).unwrap();
            cuts.extend([at - 1, at, at + 1]);
        }
        cuts.extend([0, 1]);
        cuts.retain(|len| *len < bytes.len());
        for len in cuts {
            let what = format!("{name} cut at {len}");
            let lost = lost(&left, name, |range| range.end > len as u64);
            let damaged = judge(&left, name, &bytes[..len], &lost, &what);
            let unsent = lost.iter().any(|id| left.state.contains_key(id));
            // Only the end of the file that was being written is noted nowhere else.
            let between = left
                .places
                .iter()
                .any(|(_, _, range)| range.start == len as u64);
            let silent = name == data_name(2) && between;
            assert!(damaged > 0 || !unsent || silent, "{what}");
        }
    });
}

#[test]
fn a_flipped_bit_costs_at_most_its_entry_and_no_mark_and_is_never_silent() {
    let left = left();
    let mut rng = fastrand::Rng::with_seed(23);
    each_file(&left, |name, bytes| {
        for _ in 0..25 {
            let at = rng.usize(..bytes.len());
            let what = format!("{name} flipped in byte {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << rng.u32(..8);
            let lost = lost(&left, name, |range| range.contains(&(at as u64)));
            let damaged = judge(&left, name, &flipped, &lost, &what);
            assert!(damaged > 0, "{what}");
        }
    });
}

#[test]
fn files_that_are_none_do_not_stop_a_start_and_stay() {
    let left = left();
    let dir = left.dir.path();
    fs::write(dir.join("notes.txt"), "of a person").unwrap();
    fs::write(dir.join("7.pdlq"), "another name").unwrap();
    fs::create_dir(data_path(dir, 9)).unwrap();
    fs::create_dir(&marks_paths(dir, 8, 8)[0]).unwrap();
    let files = Files::open(dir, SMALL).unwrap();
    assert_eq!(files.totals().entries, 5);
    drop(files);
    assert!(dir.join("notes.txt").exists() && dir.join("7.pdlq").exists());
    assert!(data_path(dir, 9).is_dir());
}

#[test]
fn a_data_file_that_was_taken_away_is_missed() {
    let left = left();
    fs::remove_file(data_path(left.dir.path(), 1)).unwrap();
    let (files, damaged) = damage_counted(|| Files::open(left.dir.path(), SMALL).unwrap());
    assert!(damaged > 0);
    assert_eq!(files.totals().entries, 2);
    let aside = fs::read_dir(left.dir.path().join(DAMAGED)).unwrap().count();
    assert_eq!(aside, 4, "its marks are set aside");
}

/// The bytes of damage that `/metrics` would count for what `act` does on this thread.
fn damage_counted<T>(act: impl FnOnce() -> T) -> (T, u64) {
    let recorder = Recorder::default();
    let out = metrics::with_local_recorder(&recorder, act);
    (out, recorder.0.load(Ordering::Relaxed))
}

#[derive(Default)]
struct Recorder(Arc<AtomicU64>);

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == catalog::PRODUCER_DLQ_DAMAGED {
            Counter::from_arc(Arc::clone(&self.0))
        } else {
            Counter::noop()
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
