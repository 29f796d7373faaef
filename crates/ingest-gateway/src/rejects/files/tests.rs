use std::os::unix::fs::PermissionsExt;

use super::*;

const ROOM: u64 = 1 << 20;

fn open(dir: &Path) -> Files {
    Files::open(dir, ROOM).unwrap()
}

/// All lines that are whole, oldest first.
fn lines(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for path in paths(dir).unwrap().values() {
        let visit = &mut |_, payload: &[u8]| {
            lines.extend(
                std::str::from_utf8(payload)
                    .unwrap()
                    .lines()
                    .map(str::to_owned),
            );
        };
        read_frames(path, KIND, visit).unwrap();
    }
    lines
}

fn names(dir: &Path) -> Vec<String> {
    let paths = paths(dir).unwrap();
    let names = paths.values().map(|path| path.strip_prefix(dir).unwrap());
    names.map(|name| name.display().to_string()).collect()
}

fn only_path(dir: &Path) -> PathBuf {
    paths(dir).unwrap().into_values().next().unwrap()
}

/// Each of `groups` in a frame of its own.
fn written(dir: &Path, groups: &[&str]) {
    let mut files = open(dir);
    for group in groups {
        files.append(group.as_bytes()).unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn lines_are_there_after_a_restart_and_zstd_shows_them_to_their_owner_alone() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("rejects");
    written(&dir, &["1\n2\n", "3\n"]);
    written(&dir, &["4\n"]);
    assert_eq!(lines(&dir), ["1", "2", "3", "4"]);
    let first = only_path(&dir);
    let shown = zstd::decode_all(File::open(&first).unwrap()).unwrap();
    assert_eq!(shown, b"1\n2\n3\n");
    assert_eq!((mode(&dir), mode(&first)), (0o700, 0o600));
}

#[test]
fn a_directory_is_taken_by_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let files = open(dir.path());
    let error = Files::open(dir.path(), ROOM).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    drop(files);
    open(dir.path());
}

#[test]
fn the_oldest_leave_when_the_cap_is_reached_and_the_newest_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut files = open(dir.path());
    let mut rng = fastrand::Rng::with_seed(3);
    let group = Files::group_bytes_max(ROOM);
    for number in 0..60 {
        let noise: String = (0..group - 10).map(|_| rng.alphanumeric()).collect();
        files
            .append(format!("{number:04} {noise}\n").as_bytes())
            .unwrap();
        let on_disk: u64 = paths(dir.path())
            .unwrap()
            .values()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum();
        assert_eq!(files.bytes(), on_disk);
        assert!(on_disk <= ROOM, "{on_disk}");
    }
    let kept: Vec<u32> = lines(dir.path())
        .iter()
        .map(|line| line[..4].parse().unwrap())
        .collect();
    let newest = 60 - kept.len() as u32..60;
    assert_eq!(
        kept,
        newest.collect::<Vec<_>>(),
        "the newest, without a gap"
    );
    assert!(kept.len() > 8, "{kept:?}");
    // What an earlier process has left leaves, too.
    drop(files);
    let mut smaller = Files::open(dir.path(), ROOM / 4).unwrap();
    smaller.append(b"last\n").unwrap();
    assert!(smaller.bytes() <= ROOM / 4);
    assert_eq!(lines(dir.path()).last().unwrap(), "last");
}

#[test]
fn a_write_that_never_ended_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), &["1\n", "2\n"]);
    let path = only_path(dir.path());
    let bytes = fs::read(&path).unwrap();
    for cut in 1..30 {
        fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        let mut files = open(dir.path());
        assert!(!files.check_one());
        assert_eq!(lines(dir.path()), ["1"], "cut {cut}");
        assert_eq!(files.bytes(), fs::metadata(&path).unwrap().len());
        let shown = zstd::decode_all(File::open(&path).unwrap()).unwrap();
        assert_eq!(shown, b"1\n", "cut {cut}");
    }
    // One of which nothing is whole says nothing.
    fs::write(&path, &bytes[..30]).unwrap();
    let mut files = open(dir.path());
    files.check_one();
    assert_eq!((names(dir.path()).len(), files.bytes()), (0, 0));
}

#[test]
fn a_damaged_file_is_set_aside_and_what_is_whole_in_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), &["1\n", "2\n", "3\n"]);
    written(dir.path(), &["4\n"]);
    let path = only_path(dir.path());
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 4;
    fs::write(&path, damaged).unwrap();
    let mut files = open(dir.path());
    while files.check_one() {}
    assert_eq!(lines(dir.path()), ["1", "3", "4"]);
    let name = file_name(1);
    assert_eq!(names(dir.path()), [format!("damaged/{name}"), file_name(2)]);
    assert_eq!(mode(&dir.path().join(DAMAGED)), 0o700);
    // It goes on, and the one that was set aside is the oldest: it leaves first.
    files.append(b"5\n").unwrap();
    assert_eq!(lines(dir.path()).last().unwrap(), "5");
    drop(files);
    let bytes = fs::metadata(dir.path().join(file_name(2))).unwrap().len();
    let mut small = Files::open(dir.path(), 3 * bytes).unwrap();
    small.append(b"6\n").unwrap();
    assert!(!names(dir.path()).contains(&format!("damaged/{name}")));
}

#[test]
fn truncated_at_any_byte_or_with_any_bit_flipped_it_starts_and_reads_what_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), &["1\n", "2\n"]);
    let path = only_path(dir.path());
    let bytes = fs::read(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(9);
    for round in 0..300 {
        let mut damaged = bytes.clone();
        if rng.bool() {
            damaged.truncate(rng.usize(..bytes.len()));
        } else {
            damaged[rng.usize(..bytes.len())] ^= 1 << rng.u32(..8);
        }
        for other in paths(dir.path()).unwrap().values() {
            fs::remove_file(other).unwrap();
        }
        fs::write(&path, damaged).unwrap();
        let mut files = open(dir.path());
        while files.check_one() {}
        files.append(b"new\n").unwrap();
        drop(files);
        let lines = lines(dir.path());
        let good = [
            vec!["1", "2", "new"],
            vec!["1", "new"],
            vec!["2", "new"],
            vec!["new"],
        ];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        assert!(good.contains(&lines), "round {round}: {lines:?}");
    }
}

#[test]
fn after_a_failed_write_a_new_file_is_begun_and_the_old_one_is_cut() {
    use pipeline_core::fsx::{
        Step,
        faults::{Fault, under},
    };
    const ENOSPC: i32 = 28;
    for step in [Step::Write, Step::Sync] {
        let dir = tempfile::tempdir().unwrap();
        let mut files = open(dir.path());
        files.append(b"1\n").unwrap();
        let rule = under(dir.path())
            .step(step)
            .nth(1)
            .then(Fault::HalfDone(ENOSPC));
        let error = files.append(b"never\n").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(ENOSPC));
        assert_eq!(rule.hits(), 1);
        files.append(b"2\n").unwrap();
        while files.check_one() {}
        let mut read = lines(dir.path());
        // Written and not synced: it may be there.
        read.retain(|line| line != "never");
        assert_eq!(read, ["1", "2"], "{step:?}");
        assert_eq!(names(dir.path()), [file_name(1), file_name(2)]);
    }
}
