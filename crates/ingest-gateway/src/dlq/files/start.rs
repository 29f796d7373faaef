//! What an earlier process left in the directory.

use std::{fs, io, path::Path};

use super::{
    super::{
        load::visit,
        names::{DataFile, Listing},
        standing::{Damage, load_marks},
    },
    DAMAGED, Files, Known,
    append::cut,
    leave::len_of,
};

impl Files {
    /// Reads what an earlier process left.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let Listing { files, widowed } = Listing::read(&self.dir)?;
        self.damaged_bytes = bytes_in(&self.dir.join(DAMAGED));
        for number in set_aside_numbers(&self.dir.join(DAMAGED)) {
            self.next_number = self.next_number.max(number + 1);
        }
        for file in files.iter().chain(&widowed) {
            self.next_number = self.next_number.max(file.number + 1);
            let marks = file.marks.last().map_or(0, |last| *last);
            self.next_marks = self.next_marks.max(marks + 1);
        }
        for file in &widowed {
            self.remove_widowed(file);
        }
        for file in files {
            let number = file.number;
            let (file, sealed) = self.look_at(file);
            let end = file.end();
            let (unreadable, has_entries) = (file.unreadable, file.has_entries());
            self.known.insert(number, file);
            if !has_entries {
                self.remove_if_done(number);
            } else if !sealed
                && !unreadable
                && let Err(error) = self.mark(number, &end)
            {
                tracing::warn!(
                    file = number,
                    "failed to note the end of a file of the dead letter queue: {error}"
                );
            }
        }
        Ok(())
    }

    /// Marks of a data file that is gone: its process ended before it had removed them, or
    /// somebody took the data away.
    fn remove_widowed(&mut self, file: &DataFile) {
        let said = load_marks(&self.dir, file);
        if let Some(why) = said.unknown {
            tracing::warn!("marks in the dead letter queue, whose data file is gone, stay: {why}");
            return;
        }
        let left = said.sealed.map_or(0, |sealed| sealed.entries);
        let left = left.saturating_sub(said.done.len() as u64);
        if left > 0 {
            Known::default().say(&Damage {
                what: format!(
                    "{} is not there, it held {left} entries that were not sent",
                    file.path(&self.dir).display()
                ),
                bytes: said.sealed.map_or(0, |sealed| sealed.bytes),
                torn: false,
            });
        }
        let aside = self.dir.join(DAMAGED);
        for path in file.marks_paths(&self.dir) {
            match self.remove_marks(&path, &aside, left > 0) {
                Ok(bytes) => self.damaged_bytes += bytes,
                Err(error) => tracing::warn!("failed to remove {}: {error}", path.display()),
            }
        }
    }

    /// Gives, with the file, whether its end is noted.
    fn look_at(&self, names: DataFile) -> (Known, bool) {
        let path = names.path(&self.dir);
        let marks = load_marks(&self.dir, &names);
        let mut file = Known {
            // What cannot even be looked at stays as it is: reading it will say why.
            data_bytes: len_of(&path),
            done: marks.done,
            marks_damaged: marks.damage.iter().any(|damage| !damage.torn),
            marks_bytes: names.marks_paths(&self.dir).map(|path| len_of(&path)).sum(),
            ..Known::default()
        };
        if let Some(sealed) = marks.sealed
            && sealed.bytes == file.data_bytes
            && marks.damage.is_empty()
        {
            // Of damage inside, the replayer will say more: reading all of it would take long.
            file.left_entries = sealed.entries.saturating_sub(file.done.len() as u64);
            file.left_records = sealed.records.saturating_sub(file.done_records());
            file.oldest_ms = sealed.oldest_ms;
            file.marks_numbers = names.marks;
            return (file, true);
        }
        match visit(&self.dir, &names, &mut |_| {}) {
            Ok((mut seen, _)) => {
                file.correct(&seen);
                let torn = seen.torn && !seen.sealed;
                if torn && let Some(torn) = seen.damaged.pop() {
                    // The process ended while it wrote: nobody was told that this is kept.
                    match cut(&path, torn.start) {
                        Ok(()) => {
                            file.data_bytes = torn.start;
                            file.damaged = seen.damaged;
                        }
                        Err(error) => {
                            tracing::warn!("failed to cut {}: {error}", path.display());
                        }
                    }
                }
            }
            // Unreadable now, of another kind, or of a version of tomorrow: it stays as it is.
            Err(error) => {
                file.unreadable = true;
                file.say(&Damage {
                    what: format!("{}: {error}", path.display()),
                    bytes: file.data_bytes,
                    torn: false,
                });
            }
        }
        file.marks_numbers = names.marks;
        (file, marks.sealed.is_some())
    }
}

/// Numbers of the data files of which something was set aside.
fn set_aside_numbers(dir: &Path) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let number = |entry: io::Result<fs::DirEntry>| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.split(['-', '.']).next()?.parse().ok()
    };
    entries.filter_map(number).collect()
}

/// Bytes of the files in `dir`; 0 where it cannot be read.
fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
        .sum()
}
