//! Goes over the messages of a directory as they are now, also while writers and a replay work on
//! it. Changes nothing.

use std::{io, path::Path};

use pipeline_core::dlq::read_frames;

use super::{
    Entry, EntryKind, FILE_KIND, Place,
    files::{Unreadable, files, has_prefix, is_records_file},
    marks::{self, Marks, Progress},
    read_payload,
    runs::KeySet,
};

/// One message as a look meets it.
#[derive(Debug)]
pub struct Seen<'a> {
    pub place: &'a Place,
    pub entry: &'a Entry<'a>,
    pub progress: Progress,
    /// Whether all marks could be read, so that one without any has none.
    pub marks_are_whole: bool,
}

/// What a look came to.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    pub files: u64,
    pub bytes: u64,
    /// What cannot be read, for people.
    pub damage: Vec<String>,
}

/// Gives each message once, as [`each_message`] does, with its marks.
///
/// # Errors
/// Where the directory cannot be listed, and what `each` says, which ends it.
pub fn survey(
    dir: &Path,
    marks: &Marks,
    each: &mut dyn FnMut(&Seen<'_>) -> io::Result<()>,
) -> io::Result<Survey> {
    let mut survey = each_message(dir, &mut |place, entry| {
        let progress = match entry.kind {
            EntryKind::Poison | EntryKind::Undecidable => marks.of(place, entry.offset),
            EntryKind::Unsaved => Progress::default(),
        };
        each(&Seen {
            place,
            entry,
            progress,
            marks_are_whole: marks.are_whole(),
        })
    })?;
    survey.damage.splice(..0, marks.damage.iter().cloned());
    Ok(survey)
}

/// Gives each message once, whatever files it stands in: first poison and undecidable ones, then
/// copies of failed saves. Holds one frame in memory, and the runs of keys that it has seen.
///
/// # Errors
/// As [`survey`].
pub(super) fn each_message(
    dir: &Path,
    each: &mut dyn FnMut(&Place, &Entry<'_>) -> io::Result<()>,
) -> io::Result<Survey> {
    let mut survey = Survey::default();
    let mut keys = KeySet::default();
    let mut paths = files(dir)?;
    paths.retain(|path| !has_prefix(path, marks::PREFIX));
    // Copies last: of a message that was put aside at last, that is what counts.
    paths.sort_by_key(|path| (!is_records_file(path), path.clone()));
    for path in paths {
        let mut failed = None;
        let mut unreadable = Unreadable::default();
        let report = read_frames(&path, FILE_KIND, &mut |position, payload| {
            let read = read_payload(payload, &mut |place, entry| {
                if failed.is_some() || !keys.insert(place, entry.offset) {
                    return;
                }
                failed = each(place, entry).err();
            });
            unreadable.note(position, read);
        });
        if let Some(error) = failed {
            return Err(error);
        }
        match report {
            Ok(report) => {
                survey.files += 1;
                survey.bytes += report.len;
                // A torn end may be a write on its way; nobody relies on it.
                let what = unreadable.describe(&path, report.damage());
                survey.damage.extend(what);
            }
            // Its writer, or a replay, has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => survey.damage.push(format!("{}: {error}", path.display())),
        }
    }
    Ok(survey)
}
