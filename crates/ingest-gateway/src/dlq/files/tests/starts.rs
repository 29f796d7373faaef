//! What a process finds and takes over from the one before it, and who may have the directory.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use pipeline_core::fsx::{
    Step,
    faults::{Fault, under},
};

use super::*;

#[test]
fn what_was_refused_after_a_failed_write_is_not_there_after_a_restart() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["kept"])]);
    // As if the write of the second had failed half way.
    let current = files.current.as_mut().unwrap();
    let mut payload = Vec::new();
    entry(2, &["refused"]).encode_into(&mut payload);
    current.writer.append(&payload).unwrap();
    let refusal = files.give_up_current("fsync", &io::Error::other("the disk is gone"));
    assert!(!refusal.may_be_kept);
    store(&mut files, &[entry(3, &["kept, too"])]);
    drop(files);
    let files = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!(files.totals().entries, 2);
    assert_eq!(numbers(&files), [1, 2]);
}

/// A file of the next version of our frames.
fn of_tomorrow(kind: [u8; 4]) -> Vec<u8> {
    let header = [b"sluicefr".as_slice(), &kind, &3_u32.to_be_bytes()].concat();
    let mut tomorrow = b"\x50\x2a\x4d\x18\x14\0\0\0".to_vec();
    tomorrow.extend(&header);
    tomorrow.extend(crc32c::crc32c(&header).to_be_bytes());
    tomorrow.extend(b"who knows what");
    tomorrow
}

/// Of an entry that they call done, or sent to another partition, nothing is known here: it waits
/// for whoever can read them.
#[test]
fn entries_whose_marks_are_of_tomorrow_stay_as_they_are_and_are_not_sent() {
    for whole_file in [true, false] {
        let dir = dir();
        let mut files = Files::open(dir.path(), LIMITS).unwrap();
        store(&mut files, &[entry(1, &["a"]), entry(2, &["b"])]);
        files.seal();
        files
            .mark_done(1, done(&loaded(dir.path(), 1), &[0]))
            .unwrap();
        drop(files);
        let copy = file(dir.path(), 1).marks_paths(dir.path()).next().unwrap();
        let today = fs::read(&copy).unwrap();
        if whole_file {
            fs::write(&copy, of_tomorrow(MARKS_KIND)).unwrap();
        } else {
            fs::remove_file(&copy).unwrap();
            let mut writer = FrameWriter::create(&copy, MARKS_KIND).unwrap();
            writer.append(b"\x02\x02 a mark of tomorrow").unwrap();
        }
        let tomorrow = contents(dir.path());
        for start in 1..=2 {
            let mut files = Files::open(dir.path(), LIMITS).unwrap();
            store(&mut files, &[entry(3, &["new"])]);
            files.seal();
            assert_eq!(numbers(&files).len(), 1 + start, "it is looked at again");
            let to = PartitionId(0);
            let read = load(dir.path(), &file(dir.path(), 1), &|_, _| Choice::Send {
                to,
            });
            let error = read.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            let version = if whole_file { "version 3" } else { "version 2" };
            assert!(error.to_string().contains(version), "{error}");
            drop(files);
            let now = contents(dir.path());
            assert!(tomorrow.iter().all(|(path, bytes)| now[path] == *bytes));
        }
        // Whoever wrote them goes on.
        fs::write(&copy, today).unwrap();
        assert_eq!(loaded(dir.path(), 1).pending.len(), 1);
    }
}

/// What data and marks hold; the other files have names without an extension.
fn contents(dir: &Path) -> HashMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|item| item.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some());
    files
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn files_of_tomorrow_stay_as_they_are_and_do_not_stop_a_start() {
    let dir = dir();
    let path = data_path(dir.path(), 3);
    let tomorrow = of_tomorrow(DATA_KIND);
    fs::write(&path, &tomorrow).unwrap();
    for start in 0..3 {
        let mut files = Files::open(dir.path(), LIMITS).unwrap();
        assert_eq!(files.totals().entries, start);
        store(&mut files, &[entry(1, &["a"])]);
        files.seal();
        assert_eq!(numbers(&files)[0], 3);
    }
    assert_eq!(fs::read(path).unwrap(), tomorrow);
}

#[test]
fn a_write_that_never_ended_leaves_nothing_behind() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["a"])]);
    let whole = files.totals().bytes;
    store(&mut files, &[entry(2, &["b"])]);
    drop(files);
    let path = data_path(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    for cut in 1..20 {
        fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        for copy in file(dir.path(), 1).marks_paths(dir.path()) {
            fs::remove_file(copy).unwrap();
        }
        let mut files = Files::open(dir.path(), LIMITS).unwrap();
        let read = loaded(dir.path(), 1);
        assert_eq!(
            (read.pending.len(), read.seen.damage.len()),
            (1, 0),
            "cut {cut}"
        );
        assert_eq!(fs::metadata(&path).unwrap().len(), whole, "cut {cut}");
        if cut == 19 {
            files.mark_done(1, done(&read, &[0])).unwrap();
            assert_eq!(files.totals(), Totals::default());
        }
    }
}

#[test]
fn what_was_done_before_the_end_was_noted_counts_once_at_every_start() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(
        &mut files,
        &[entry(1, &["a", "b"]), entry(2, &["c"]), entry(3, &["d"])],
    );
    drop(files);
    // As a process leaves it that could not note the end of the file, and later a replay.
    let mark = Mark::Done(done(&loaded(dir.path(), 1), &[0]));
    let mut marks = FrameWriter::create(&marks_paths(dir.path(), 1, 1)[0], MARKS_KIND).unwrap();
    marks.append(&mark.encode()).unwrap();
    marks.sync().unwrap();
    drop(marks);
    for _ in 0..3 {
        let files = Files::open(dir.path(), LIMITS).unwrap();
        assert_eq!((files.totals().entries, files.totals().records), (2, 2));
        assert_eq!(numbers(&files), [1]);
    }
}

#[test]
fn an_entry_that_this_version_cannot_read_stays() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["a"])]);
    let current = files.current.as_mut().unwrap();
    current.writer.append(b"\xffan entry of tomorrow").unwrap();
    current.writer.sync().unwrap();
    drop(files);
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    let read = loaded(dir.path(), 1);
    assert_eq!((read.pending.len(), read.seen.unknown), (1, 1));
    files.mark_done(1, done(&read, &[0])).unwrap();
    drop(files);
    let files = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!(files.totals().entries, 1);
    assert!(data_path(dir.path(), 1).exists());
}

#[test]
fn one_process_at_a_time_has_the_directory() {
    let dir = dir();
    let files = Files::open(dir.path(), LIMITS).unwrap();
    let error = Files::open(dir.path(), LIMITS).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    drop(files);
    Files::open(dir.path(), LIMITS).unwrap();
}

#[test]
fn a_directory_that_is_gone_refuses_and_recovers_with_a_new_file() {
    let dir = dir();
    let queue = dir.path().join("queue");
    let mut files = Files::open(&queue, LIMITS).unwrap();
    fs::rename(&queue, dir.path().join("away")).unwrap();
    let refusal = files.store(&[entry(1, &["a"])]).remove(0).unwrap_err();
    assert!(!refusal.may_be_kept, "{refusal}");
    assert_eq!(files.totals().entries, 0);
    fs::rename(dir.path().join("away"), &queue).unwrap();
    store(&mut files, &[entry(2, &["b"])]);
    drop(files);
    let files = Files::open(&queue, LIMITS).unwrap();
    assert_eq!(files.totals().entries, 1);
}

#[test]
fn a_look_at_who_has_the_directory_never_keeps_an_owner_out() {
    let dir = dir();
    drop(Files::open(dir.path(), LIMITS).unwrap());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                holder(dir.path()).unwrap();
            }
        });
        let opened: Result<Vec<_>, _> = (0..300)
            .map(|_| Files::open(dir.path(), LIMITS).map(drop))
            .collect();
        over.store(true, Ordering::Relaxed);
        opened.unwrap();
    });
}

#[test]
fn the_directory_is_read_once_however_many_files_it_has() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    for id in 0..50 {
        store(&mut files, &[entry(id, &["a"]), entry(id, &["b"])]);
        files.seal();
    }
    drop(files);
    let reads = under(dir.path())
        .step(Step::List)
        .then(Fault::Takes(Duration::ZERO));
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!(reads.hits(), 1);
    let to = PartitionId(0);
    for file in files.sealed() {
        let read = load(dir.path(), &file, &|_, _| Choice::Send { to }).unwrap();
        files.mark_done(file.number, done(&read, &[0])).unwrap();
    }
    for file in files.sealed() {
        let read = load(dir.path(), &file, &|_, _| Choice::Send { to }).unwrap();
        assert_eq!(read.pending.len(), 1, "the new marks are known");
        files.mark_done(file.number, done(&read, &[0])).unwrap();
    }
    assert_eq!(reads.hits(), 1);
    assert_eq!(files.totals(), Totals::default());
    assert_eq!(Listing::read(dir.path()).unwrap(), Listing::default());
}

#[test]
fn what_was_refused_and_cannot_be_cut_off_is_not_sent_and_goes_when_it_can() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    store(&mut files, &[entry(1, &["kept"])]);
    let sync = under(dir.path()).step(Step::Sync).name_ends(".pdlq");
    let sync = sync.nth(1).then(Fault::DoneButFails(5));
    let cut = under(dir.path()).step(Step::Truncate).then(Fault::Fails(5));
    let refusal = files
        .store(&[entry(2, &["refused"])])
        .remove(0)
        .unwrap_err();
    assert!(refusal.may_be_kept, "{refusal}");
    assert_eq!((sync.hits(), cut.hits()), (1, 1));
    assert_eq!(
        numbers(&files),
        [0; 0],
        "it looks as if it had never been sent"
    );
    assert!(!files.take_back());
    // Others have their place meanwhile.
    store(&mut files, &[entry(3, &["kept, too"])]);
    drop(cut);
    assert!(files.take_back());
    files.seal();
    assert_eq!(numbers(&files), [1, 2]);
    for number in [1, 2] {
        assert_eq!(loaded(dir.path(), number).pending.len(), 1);
    }
    drop(files);
    assert_eq!(Files::open(dir.path(), LIMITS).unwrap().totals().entries, 2);
}

#[test]
fn of_a_batch_whose_middle_cannot_be_written_nothing_is_kept() {
    let dir = dir();
    let mut files = Files::open(dir.path(), LIMITS).unwrap();
    // The head of the file, the first entry, the second.
    let write = under(dir.path()).step(Step::Write).name_ends(".pdlq");
    let write = write.nth(3).then(Fault::Fails(28));
    let batch = [entry(1, &["a"]), entry(1, &["b"]), entry(1, &["c"])];
    let results = files.store(&batch);
    assert_eq!(write.hits(), 1);
    for result in results {
        let refusal = result.unwrap_err();
        assert!(!refusal.may_be_kept, "{refusal}");
    }
    assert_eq!(files.totals(), Totals::default());
    drop(files);
    let after = Files::open(dir.path(), LIMITS).unwrap();
    assert_eq!(after.totals(), Totals::default());
}

#[test]
fn a_directory_that_takes_no_files_is_refused_at_the_start_and_a_full_one_is_not() {
    const EACCES: i32 = 13;
    const ENOSPC: i32 = 28;
    let dir = dir();
    drop(Files::open(dir.path(), LIMITS).unwrap());
    let create = |error| {
        under(dir.path())
            .step(Step::Create)
            .then(Fault::Fails(error))
    };
    let rule = create(EACCES);
    let refused = Files::open(dir.path(), LIMITS).unwrap_err().to_string();
    assert!(refused.contains(dir.path().to_str().unwrap()), "{refused}");
    assert!(refused.contains("Permission denied"), "{refused}");
    drop(rule);
    // What lies on it has to be replayed, and that makes room.
    let rule = create(ENOSPC);
    Files::open(dir.path(), LIMITS).unwrap();
    assert!(rule.hits() > 0);
}
