//! Removes what nobody waits for any more: files of poison and undecidable messages all of which
//! have been replayed or thrown away, once their writer is gone. A damaged one is not removed then
//! but set aside; one that anyone may still append to stays.
//!
//! Marks outlive the files that they speak of: the same messages may be read again, by the next
//! writer where the last one was killed before its segment was linked, or after a repair. The marks
//! say that they are decided, and so not stored, nor sent anew. Of those that no file has, the
//! newest stay, within bounds; marks of a topic without an id go with their files, as they may be
//! taken for those of another topic of that name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use pipeline_core::{
    Offset,
    dlq::read_frames,
    fsx::{self, Lock, LockError, holder},
};

use super::{
    FILE_KIND, Place,
    decided::Decided,
    files::{files, has_prefix, is_records_file, set_aside},
    marks, read_payload,
    runs::KeySet,
};

/// Held by a replay, and by whoever tidies: marks files are appended to and removed under it alone.
const REPLAY_LOCK: &str = "REPLAY-LOCK";
const WRITER_LOCK_SUFFIX: &str = ".lock";
/// Messages whose marks stay although no file has them, about: whoever reads the marks has them in
/// memory.
const KEPT_MESSAGES_MAX: usize = 200_000;
/// Those marks have at most this part of what all files may have.
const KEPT_PART: u64 = 16;

/// # Errors
/// Where another process has it, or the directory cannot be used.
pub fn lock_replay(dir: &Path) -> Result<Lock, LockError> {
    Lock::take(&dir.join(REPLAY_LOCK))
}

/// The sign that this writer is alive; none but it appends to its files.
pub(super) fn lock_writer(dir: &Path, writer: &str) -> Result<Lock, LockError> {
    Lock::take(&writer_lock(dir, writer))
}

fn writer_lock(dir: &Path, writer: &str) -> PathBuf {
    dir.join(format!("writer-{writer}{WRITER_LOCK_SUFFIX}"))
}

/// Whether the writer of a `records-<writer>-<n>.dlq` may still append to it.
fn writer_lives(dir: &Path, path: &Path) -> io::Result<bool> {
    let name = path.file_name().and_then(|name| name.to_str());
    let writer = name
        .and_then(|name| name.strip_prefix("records-"))
        .and_then(|name| name.split('-').next())
        .unwrap_or_default();
    Ok(holder(&writer_lock(dir, writer))?.is_some())
}

/// Tidies up, unless somebody else has the directory's marks; gives how many files went away.
///
/// # Errors
/// As the file system says.
pub fn tidy_if_free(dir: &Path, bytes_max: u64) -> io::Result<u64> {
    match lock_replay(dir) {
        Ok(lock) => tidy(dir, &lock, bytes_max),
        Err(LockError::Held { .. }) => Ok(0),
        Err(LockError::Io(error)) => Err(error),
    }
}

/// As [`tidy_if_free`], by whoever has the lock. All files may have `bytes_max`.
///
/// # Errors
/// As the file system says.
pub fn tidy(dir: &Path, _: &Lock, bytes_max: u64) -> io::Result<u64> {
    remove_dead_locks(dir)?;
    let decided = Decided::read(dir)?;
    let mut left = KeySet::default();
    let mut removed = 0;
    for path in files(dir)? {
        if !is_records_file(&path) {
            continue;
        }
        // First: what it appends after this look keeps its file.
        let lives = writer_lives(dir, &path)?;
        let mut waits = lives;
        let mut marked = KeySet::default();
        let mut unreadable = false;
        let report = read_frames(&path, FILE_KIND, &mut |_, payload| {
            let read = read_payload(payload, &mut |place, entry| {
                waits |= !decided.is_done(place, entry.offset);
                if decided.is_marked(place, entry.offset) {
                    marked.insert(place, entry.offset);
                }
            });
            unreadable |= read.is_err();
        });
        let damaged = match report {
            Ok(report) => !report.damage().is_empty(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // Of another version perhaps: that is for whoever can read it.
            Err(_) => {
                unreadable = true;
                false
            }
        };
        if waits || unreadable {
            left.absorb(marked);
        } else if damaged {
            let to = set_aside(dir, &path)?;
            tracing::error!(
                path = %path.display(),
                to = %to.display(),
                "consumer DLQ file is damaged; what is whole of it has been replayed or thrown \
                 away, and it is set aside"
            );
        } else {
            fsx::remove_file(&path)?;
            removed += 1;
        }
    }
    if removed > 0 {
        // Before the marks that say why they could go.
        fsx::sync_dir(dir)?;
    }
    Ok(removed + tidy_marks(dir, &left, bytes_max / KEPT_PART)?)
}

/// A marks file that speaks of no message in a file.
struct Kept {
    written: SystemTime,
    path: PathBuf,
    messages: usize,
    bytes: u64,
}

/// Removes the marks files of which nothing is `wanted`, but the newest.
fn tidy_marks(dir: &Path, wanted: &KeySet, bytes_max: u64) -> io::Result<u64> {
    let mut kept = Vec::new();
    let mut removed = 0;
    for path in files(dir)? {
        if !has_prefix(&path, marks::PREFIX) {
            continue;
        }
        let of_file = Decided::read_file(&path);
        let is_wanted = |(place, offset): (&Place, Offset)| wanted.contains(place, offset);
        if !of_file.damage.is_empty() || of_file.keys().any(is_wanted) {
            continue;
        }
        if of_file.keys().all(|(place, _)| place.topic_id.is_empty()) {
            fsx::remove_file(&path)?;
            removed += 1;
            continue;
        }
        let metadata = fs::metadata(&path)?;
        kept.push(Kept {
            written: metadata.modified()?,
            path,
            messages: of_file.keys().count(),
            bytes: metadata.len(),
        });
    }
    kept.sort_by_key(|kept| std::cmp::Reverse(kept.written));
    let (mut messages, mut bytes) = (0, 0);
    for file in kept {
        messages += file.messages;
        bytes += file.bytes;
        if messages > KEPT_MESSAGES_MAX || bytes > bytes_max {
            fsx::remove_file(&file.path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Locks that writers left which were killed.
fn remove_dead_locks(dir: &Path) -> io::Result<()> {
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        let is_lock = path.extension().is_some_and(|end| end == "lock");
        if is_lock && has_prefix(&path, "writer-") && holder(&path)?.is_none() {
            match fsx::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
