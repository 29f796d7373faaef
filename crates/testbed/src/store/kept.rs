//! Keeps segments for the oracle that are removed while it watches: each is linked into a directory
//! beside the store when it is first seen. Whoever has segments removed looks here first.

use std::{fs, io, path::Path};

use anyhow::{Context, Result, bail};

use super::{list, segments_of};

/// Links what is new. A name below the watermark that was not there before belongs to no chain: a
/// writer that slept for long has put it, and takes it back.
///
/// # Errors
/// When a segment goes away that is not below the watermark, or a file cannot be linked.
pub fn keep(live: &Path, kept: &Path) -> Result<()> {
    for partition in list(live)? {
        let name = partition.file_name().unwrap_or_default();
        if !name.to_string_lossy().starts_with('p') {
            continue;
        }
        let own = kept.join(name);
        fs::create_dir_all(&own)?;
        let found = segments_of(&partition)?;
        // After the names: of one that is put behind a watermark, that is seen.
        let mark = watermark(&partition)?;
        for segment in found {
            let copy = own.join(segment.file_name().unwrap_or_default());
            let first = first_offset(&segment);
            if first < mark || copy.exists() {
                continue;
            }
            match fs::hard_link(&segment, &copy) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if first >= watermark(&partition)? {
                        bail!("{} has gone away", segment.display());
                    }
                }
                linked => linked.with_context(|| format!("cannot keep {}", segment.display()))?,
            }
        }
    }
    Ok(())
}

/// The greatest watermark of a partition's directory: names below it belong to no chain.
///
/// # Errors
/// When it cannot be listed.
pub fn watermark(partition: &Path) -> Result<u64> {
    let marks = list(partition)?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        name.strip_prefix('w')?.parse().ok()
    });
    Ok(marks.max().unwrap_or(0))
}

/// Of a segment, by its name.
pub fn first_offset(segment: &Path) -> u64 {
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    let digits = name.split('.').next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_stays_and_what_is_put_behind_the_watermark_is_not_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        let (live, kept) = (dir.path().join("live"), dir.path().join("kept"));
        let partition = live.join("p00000");
        fs::create_dir_all(&partition).expect("made");
        let name = |first: u64| format!("{first:020}.ndjson.zst");
        let put = |first: u64| fs::write(partition.join(name(first)), b"x").expect("written");
        let there = |first: u64| kept.join("p00000").join(name(first)).exists();
        (0..3).for_each(|nth| put(nth * 10));
        keep(&live, &kept).expect("kept");
        fs::write(partition.join("w00000000000000000020"), b"").expect("written");
        fs::remove_file(partition.join(name(0))).expect("removed");
        put(15);
        put(30);
        keep(&live, &kept).expect("kept");
        assert_eq!(watermark(&partition).expect("listed"), 20);
        let found = [0, 10, 15, 20, 30].map(there);
        assert_eq!(found, [true, true, false, true, true]);
    }
}
