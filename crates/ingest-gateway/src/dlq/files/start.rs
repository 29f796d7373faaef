//! What an earlier process left in the directory.

use std::{fs, io, path::Path};

use pipeline_core::fsx;

use super::{
    super::load::{
        data_numbers, data_path, load, load_marks, marks_numbers, marks_path, marks_paths,
    },
    DAMAGED, Files, Known, cut,
};

impl Files {
    /// Reads what an earlier process left.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let numbers = data_numbers(&self.dir)?;
        for (data, marks) in marks_numbers(&self.dir)? {
            self.next_marks = self.next_marks.max(marks + 1);
            self.next_number = self.next_number.max(data + 1);
            if !numbers.contains(&data) {
                fsx::remove_file(&marks_path(&self.dir, data, marks))?;
            }
        }
        for number in set_aside_numbers(&self.dir.join(DAMAGED)) {
            self.next_number = self.next_number.max(number + 1);
        }
        self.damaged_bytes = bytes_in(&self.dir.join(DAMAGED));
        for number in numbers {
            self.next_number = self.next_number.max(number + 1);
            let file = self.look_at(number)?;
            let end = file.end();
            let unreadable = file.unreadable;
            let sealed = file.marks_bytes > 0 && load_marks(&self.dir, number)?.sealed.is_some();
            let has_entries = file.has_entries();
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

    fn look_at(&self, number: u64) -> io::Result<Known> {
        let path = data_path(&self.dir, number);
        let marks = load_marks(&self.dir, number)?;
        let mut file = Known {
            data_bytes: fs::metadata(&path)?.len(),
            done: marks.done,
            ..Known::default()
        };
        for path in marks_paths(&self.dir, number)? {
            file.marks_bytes += fs::metadata(path)?.len();
        }
        for line in &marks.damage {
            tracing::error!("damage in the dead letter queue: {line}");
        }
        if let Some((entries, records)) = marks.sealed {
            // Of damage since, the replay will say more.
            file.left_entries = entries.saturating_sub(file.done.len() as u64);
            file.left_records = records.saturating_sub(file.done_records());
            return Ok(file);
        }
        match load(&self.dir, number, &|_| true) {
            Ok(loaded) => {
                (file.left_entries, file.left_records) = (loaded.left_entries, loaded.left_records);
                file.damaged = loaded.damaged;
                for line in &loaded.damage {
                    tracing::error!("damage in the dead letter queue: {line}");
                }
                if loaded.torn
                    && let Some(torn) = file.damaged.pop()
                {
                    // The process ended while it wrote: nobody was told that this is kept.
                    cut(&path, torn.start)?;
                    file.data_bytes = torn.start;
                }
            }
            // Unreadable now, of another kind, or of a version of tomorrow: it stays as it is.
            Err(error) => {
                file.unreadable = true;
                tracing::error!(
                    "damage in the dead letter queue: {}: {error}",
                    path.display()
                );
            }
        }
        Ok(file)
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
