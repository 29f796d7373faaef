//! Files that cannot be read, or not all of them: never the end of a start, never in silence.

use super::*;

#[test]
fn a_damaged_file_gives_what_is_whole_and_stops_no_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
    queue.keep(&place(0), &[entry(1, b"x")]).expect("kept");
    queue.keep(&place(0), &[entry(2, b"y")]).expect("kept");
    drop(queue);
    let path = &files(dir.path()).expect("listed")[0];
    let mut bytes = fs::read(path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).expect("written");
    fs::write(dir.path().join("records-foreign.dlq"), b"nonsense").expect("written");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [2; 16]).expect("opens");
    assert_eq!(queue.records(), 1);
    // What was damaged is durable again before it counts.
    queue.keep(&place(0), &[entry(2, b"y")]).expect("kept");
    assert_eq!(queue.records(), 2);
}

/// Two entries, of which the file has the first one whole.
fn with_a_damaged_file(dir: &Path) -> PathBuf {
    let queue = DeadLetters::open(dir, 1 << 20, [1; 16]).expect("opens");
    queue.keep(&place(0), &[entry(1, b"x")]).expect("kept");
    queue.keep(&place(0), &[entry(2, b"y")]).expect("kept");
    drop(queue);
    let path = files(dir).expect("listed").remove(0);
    let mut bytes = fs::read(&path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).expect("written");
    path
}

#[test]
fn a_damaged_file_is_set_aside_once_nothing_whole_of_it_waits() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = with_a_damaged_file(dir.path());
    let evidence = fs::read(&path).expect("read");
    let damage = || {
        let marks = Marks::read(dir.path()).expect("listed");
        survey(dir.path(), &marks, &mut |_| Ok(()))
            .expect("listed")
            .damage
    };
    let tidied = || tidy::tidy_if_free(dir.path(), 1 << 20).expect("tidied");
    assert_eq!(tidied(), 0);
    assert!(path.exists(), "one waits");
    assert_eq!(damage().len(), 1);

    done(dir.path(), &[1]);
    assert_eq!(tidied(), 0, "nothing is removed");
    assert!(!path.exists());
    assert!(damage().is_empty(), "named once");
    let aside: Vec<PathBuf> = fs::read_dir(dir.path().join("damaged"))
        .expect("listed")
        .map(|item| item.expect("listed").path())
        .collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(fs::read(&aside[0]).expect("read"), evidence);
    assert!(
        files(&dir.path().join("damaged"))
            .expect("listed")
            .is_empty()
    );
    // It counts against the bound until someone takes it away.
    let queue = DeadLetters::open(dir.path(), 1 << 20, [2; 16]).expect("opens");
    assert_eq!(queue.records(), 0);
    let with = queue.bytes();
    fs::remove_file(&aside[0]).expect("removed");
    queue.recount().expect("counted");
    assert_eq!(with - queue.bytes(), evidence.len() as u64);
}

#[test]
fn what_nobody_can_read_stays_where_it_is_and_stops_no_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
    queue.keep(&place(0), &[entry(1, b"x")]).expect("kept");
    drop(queue);
    let mut paths = Vec::new();
    for prefix in ["marks-", "records-"] {
        // Of another kind, as one of another version would be; and a directory.
        let file = dir.path().join(format!("{prefix}file.dlq"));
        FrameWriter::create(&file, *b"else").expect("written");
        let folder = dir.path().join(format!("{prefix}folder.dlq"));
        fs::create_dir(&folder).expect("made");
        paths.extend([file, folder]);
    }
    let queue = DeadLetters::open(dir.path(), 1 << 20, [2; 16]).expect("opens");
    assert_eq!(queue.records(), 1);
    queue.keep(&place(0), &[entry(2, b"y")]).expect("kept");
    queue.recount_records().expect("counted");
    assert_eq!(queue.records(), 2);
    drop(queue);
    tidy::tidy_if_free(dir.path(), 1).expect("tidied");
    assert!(paths.iter().all(|path| path.exists()));
    let marks = Marks::read(dir.path()).expect("listed");
    let named = survey(dir.path(), &marks, &mut |seen| {
        assert!(!seen.marks_are_whole);
        Ok(())
    });
    let named = named.expect("listed").damage.join("\n");
    for path in paths {
        let path = path.display().to_string();
        assert!(named.contains(&path), "{path}: {named}");
    }
}

/// The first file is of one that was killed as soon as it had made it.
#[test]
fn what_a_kill_leaves_of_a_new_file_is_no_damage_and_goes_away() {
    let dir = tempfile::tempdir().expect("a directory");
    let queue = DeadLetters::open(dir.path(), 1 << 20, [1; 16]).expect("opens");
    queue.keep(&place(0), &[entry(1, b"x")]).expect("kept");
    drop(queue);
    done(dir.path(), &[2]);
    for path in files(dir.path()).expect("listed") {
        let whole = fs::read(&path).expect("read");
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).expect("written");
            let marks = marks::Marks::read(dir.path()).expect("listed");
            let looked = survey(dir.path(), &marks, &mut |_| Ok(())).expect("listed");
            assert!(looked.damage.is_empty(), "cut at {cut}: {looked:?}");
        }
        fs::write(&path, b"").expect("written");
    }
    assert_eq!(tidy::tidy_if_free(dir.path(), 1 << 20).expect("tidied"), 2);
}
