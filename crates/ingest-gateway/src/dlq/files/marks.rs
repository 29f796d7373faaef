//! Writing marks, and the space that is reserved for them.

use std::io::{self, Write};

use pipeline_core::{
    dlq::FrameWriter,
    fsx::{self, File},
};

use super::{
    super::{
        load::marks_path,
        mark::{MARKS_KIND, Mark},
    },
    Files,
};

const RESERVE: &str = "RESERVE";
const RESERVE_BYTES: usize = 256 * 1024;

impl Files {
    /// Makes a mark durable. On a full disk the reserve is given up for it: without marks nothing
    /// could be sent, and without that the disk would stay full.
    pub(super) fn mark(&mut self, number: u64, mark: &Mark) -> io::Result<()> {
        let payload = mark.encode();
        match self.write_mark(number, &payload) {
            Err(error) if is_full(&error) && self.give_up_reserve() => {
                self.write_mark(number, &payload)
            }
            written => written,
        }
    }

    fn write_mark(&mut self, number: u64, payload: &[u8]) -> io::Result<()> {
        let Some(file) = self.known.get_mut(&number) else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("file {number} of the dead letter queue has left"),
            ));
        };
        let mut writer = match file.marks.take() {
            Some(writer) => writer,
            None => {
                let path = marks_path(&self.dir, number, self.next_marks);
                self.next_marks += 1;
                FrameWriter::create(&path, MARKS_KIND).inspect_err(|_| {
                    let _ = fsx::remove_file(&path);
                })?
            }
        };
        let before = if writer.is_empty() { 0 } else { writer.len() };
        writer.append(payload)?;
        writer.sync()?;
        file.marks_bytes += writer.len() - before;
        // Only a writer that has not failed is used again.
        file.marks = Some(writer);
        Ok(())
    }

    /// Without one the queue still works, but for marks on a full disk.
    pub(super) fn make_reserve(&self) {
        let path = self.dir.join(RESERVE);
        if path.exists() {
            return;
        }
        // Random, so that no file system stores it in less.
        let mut bytes = vec![0; RESERVE_BYTES];
        let made = getrandom::fill(&mut bytes)
            .map_err(io::Error::other)
            .and_then(|()| File::create_new(&path))
            .and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            });
        if let Err(error) = made {
            let _ = fsx::remove_file(&path);
            tracing::warn!("failed to reserve space for the dead letter queue's marks: {error}");
        }
    }

    fn give_up_reserve(&self) -> bool {
        fsx::remove_file(&self.dir.join(RESERVE)).is_ok()
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
