//! What an earlier process left in the directory.

use std::{fs, io, path::Path};

use super::{
    super::{
        load::{data_numbers, data_path, load, load_marks, marks_numbers, marks_path, marks_paths},
        mark::Mark,
    },
    DAMAGED, Files, Known,
};

impl Files {
    /// Reads what an earlier process left.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let numbers = data_numbers(&self.dir)?;
        for (data, marks) in marks_numbers(&self.dir)? {
            self.next_marks = self.next_marks.max(marks + 1);
            self.next_number = self.next_number.max(data + 1);
            if !numbers.contains(&data) {
                fs::remove_file(marks_path(&self.dir, data, marks))?;
            }
        }
        self.damaged_bytes = bytes_in(&self.dir.join(DAMAGED));
        for number in numbers {
            self.next_number = self.next_number.max(number + 1);
            let file = self.look_at(number)?;
            let seal = (file.entries, file.records);
            let sealed = file.marks_bytes > 0 && load_marks(&self.dir, number)?.sealed.is_some();
            let has_entries = file.has_entries();
            self.known.insert(number, file);
            if !has_entries {
                self.remove_if_done(number);
            } else if !sealed {
                let (entries, records) = seal;
                if let Err(error) = self.mark(number, &Mark::Sealed { entries, records }) {
                    tracing::warn!(
                        file = number,
                        "failed to note the end of a file of the dead letter queue: {error}"
                    );
                }
            }
        }
        Ok(())
    }

    fn look_at(&self, number: u64) -> io::Result<Known> {
        let path = data_path(&self.dir, number);
        let marks = load_marks(&self.dir, number)?;
        let mut file = Known {
            data_bytes: fs::metadata(&path)?.len(),
            done_entries: marks.done.len() as u64,
            done_records: marks.done.values().map(|n| u64::from(*n)).sum(),
            ..Known::default()
        };
        for path in marks_paths(&self.dir, number)? {
            file.marks_bytes += fs::metadata(path)?.len();
        }
        for line in &marks.damage {
            tracing::error!("damage in the dead letter queue: {line}");
        }
        if let Some((entries, records)) = marks.sealed {
            (file.entries, file.records) = (entries, records);
            return Ok(file);
        }
        match load(&self.dir, number, &|_| true) {
            Ok(loaded) => {
                (file.entries, file.records) = (loaded.entries, loaded.records);
                file.damaged = loaded.damaged_bytes > 0;
                for line in &loaded.damage {
                    tracing::error!("damage in the dead letter queue: {line}");
                }
            }
            // Of another kind or a version of tomorrow: it stays, and is nothing of ours.
            Err(error) => {
                file.damaged = true;
                tracing::error!(
                    "damage in the dead letter queue: {}: {error}",
                    path.display()
                );
            }
        }
        Ok(file)
    }
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
