//! The bound on bytes holds for all that is in the directory, whatever happens, and room that
//! comes back is used.

use super::*;

const BOUND: FileLimits = FileLimits {
    bytes_max: 48 * 1024,
    file_bytes_max: 6 * 1024,
};

fn bytes_under(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => bytes_under(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}

fn fill(files: &mut Files, rng: &mut fastrand::Rng, line_max: usize) -> u64 {
    let mut kept = 0;
    loop {
        // Random, so that nothing is stored in less.
        let line: String = (0..rng.usize(1..line_max))
            .map(|_| rng.alphanumeric())
            .collect();
        match files.store(&[entry(1, &[&line])]).remove(0) {
            Ok(()) => kept += 1,
            Err(refusal) => {
                assert!(!refusal.may_be_kept, "{refusal}");
                return kept;
            }
        }
    }
}

#[test]
fn nothing_takes_more_than_the_bound_and_room_that_comes_back_is_used() {
    let dir = dir();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut files = Files::open(dir.path(), BOUND).unwrap();
    for round in 0..4 {
        assert!(fill(&mut files, &mut rng, 600) > 5, "round {round}");
        assert!(bytes_under(dir.path()) <= BOUND.bytes_max);
        files.seal();
        for number in numbers(&files) {
            if rng.u8(..3) == 0 {
                let path = data_path(dir.path(), number);
                let mut bytes = fs::read(&path).unwrap();
                let at = rng.usize(..bytes.len());
                bytes[at] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
            let read = loaded(dir.path(), number);
            files.correct(number, &read.seen);
            for at in 0..read.pending.len() {
                // The worst that can be: each mark by a process of its own.
                drop(files);
                files = Files::open(dir.path(), BOUND).unwrap();
                let mark = SentMark {
                    position: read.pending[at].position,
                    partition: PartitionId(1),
                    since: Offset(i64::MAX),
                };
                files.mark_sent(number, vec![mark]).unwrap();
                drop(files);
                files = Files::open(dir.path(), BOUND).unwrap();
                files.mark_done(number, done(&read, &[at])).unwrap();
                let held = bytes_under(dir.path());
                assert!(held <= BOUND.bytes_max, "{held} in round {round}");
            }
            if numbers(&files).contains(&number) {
                // The last process has not heard of the damage yet.
                files.correct(number, &loaded(dir.path(), number).seen);
            }
        }
        assert_eq!(files.totals().entries, 0);
    }
}

#[test]
fn what_is_damaged_is_set_aside_as_a_whole_where_a_copy_has_no_room() {
    let dir = dir();
    let mut rng = fastrand::Rng::with_seed(6);
    let limits = FileLimits {
        file_bytes_max: BOUND.bytes_max,
        ..BOUND
    };
    let mut files = Files::open(dir.path(), limits).unwrap();
    fill(&mut files, &mut rng, 8_000);
    files.seal();
    let read = loaded(dir.path(), 1);
    let path = data_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    // All but the first entry.
    let from = usize::try_from(read.pending[1].position).unwrap();
    bytes[from..].fill(0);
    fs::write(&path, bytes).unwrap();
    let read = loaded(dir.path(), 1);
    assert_eq!(read.pending.len(), 1);
    files.correct(1, &read.seen);
    files.mark_done(1, done(&read, &[0])).unwrap();
    assert_eq!(files.totals().entries, 0);
    assert!(bytes_under(dir.path()) <= BOUND.bytes_max);
    // Under a name that no command takes for entries that are to be sent.
    let name = "00000000000000000001-00000000000000000000";
    let aside = dir.path().join(DAMAGED).join(name);
    assert!(aside.exists());
    // It is counted: there is less room than before.
    assert!(files.room() < 16 * 1024, "{}", files.room());
}
