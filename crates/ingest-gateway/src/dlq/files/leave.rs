//! How a data file leaves: with all its entries done; what of it is damaged is set aside.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use pipeline_core::fsx::{self, File};

use super::{
    super::load::{data_path, marks_paths},
    DAMAGED, Files, Known,
};

impl Files {
    /// What could not be removed before.
    pub(super) fn remove_all_done(&mut self) {
        let done = |(number, file): (&u64, &Known)| (!file.has_entries()).then_some(*number);
        for number in self.known.iter().filter_map(done).collect::<Vec<_>>() {
            self.remove_if_done(number);
        }
    }

    /// Removes a data file without entries and its marks; what of it is damaged is set aside.
    pub(super) fn remove_if_done(&mut self, number: u64) {
        let is_current = self.current.as_ref().is_some_and(|c| c.number == number);
        let Some(file) = self.known.get(&number) else {
            return;
        };
        if is_current || file.has_entries() {
            return;
        }
        match self.remove(number, &file.damaged) {
            Ok(set_aside) => {
                self.known.remove(&number);
                self.damaged_bytes += set_aside;
                self.make_reserve();
            }
            Err(error) => tracing::warn!(
                file = number,
                "failed to remove a file of the dead letter queue that is done: {error}"
            ),
        }
    }

    /// Gives the bytes that were set aside.
    fn remove(&self, number: u64, damaged: &[Range<u64>]) -> io::Result<u64> {
        let path = data_path(&self.dir, number);
        let mut set_aside = 0;
        if !damaged.is_empty() && path.exists() {
            let aside = self.dir.join(DAMAGED);
            fsx::create_dirs(&aside)?;
            for range in damaged {
                let bytes = read_range(&path, range)?;
                let name = format!("{number:020}-{:020}", range.start);
                if fsx::put_if_absent(&aside.join(name), &bytes)? {
                    set_aside += bytes.len() as u64;
                }
            }
        }
        match fsx::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        // The marks may leave only once the data cannot come back.
        fsx::sync_dir(&self.dir)?;
        for path in marks_paths(&self.dir, number)? {
            fsx::remove_file(&path)?;
        }
        Ok(set_aside)
    }
}

fn read_range(path: &Path, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut bytes = Vec::new();
    file.take(range.end - range.start).read_to_end(&mut bytes)?;
    Ok(bytes)
}
