//! Goes over the entries of a directory as they are now, also while its gateway works on it.

use std::{io, path::Path};

use crate::dlq::{
    filter::Filter,
    load::{Visited, visit},
    names::Listing,
};

/// What a look came to.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) files: u64,
    pub(super) entries: u64,
    pub(super) records: u64,
    /// Whole entries and whole files that this version cannot read: they are there, and stay.
    pub(super) unreadable: u64,
    /// What cannot be read, for people.
    pub(super) damage: Vec<String>,
}

/// Gives each entry that is wanted, oldest file first, with the number of its file.
///
/// # Errors
/// Where the directory cannot be listed, and what `each` says.
pub(super) fn survey(
    dir: &Path,
    filter: &Filter,
    each: &mut dyn FnMut(u64, &Visited<'_>) -> io::Result<()>,
) -> io::Result<Survey> {
    let mut survey = Survey::default();
    for file in Listing::read(dir)?.files {
        let number = file.number;
        let mut failed = None;
        let mut some = false;
        let visited = visit(dir, &file, &mut |entry| {
            if failed.is_none() && filter.wants(entry.head, entry.payload) {
                some = true;
                survey.entries += 1;
                survey.records += u64::from(entry.records);
                failed = each(number, entry).err();
            }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        survey.files += u64::from(some);
        match visited {
            Ok((seen, _)) => {
                survey.unreadable += seen.unknown;
                // A torn end may be a write on its way; nobody was told that it is kept.
                let damage = seen.damage.into_iter().filter(|damage| !damage.torn);
                survey.damage.extend(damage.map(|damage| damage.what));
            }
            // Done meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                survey
                    .damage
                    .push(format!("file {number} changed while it was read"));
            }
            Err(error) => {
                survey.unreadable += 1;
                survey.damage.push(format!("file {number}: {error}"));
            }
        }
    }
    Ok(survey)
}
