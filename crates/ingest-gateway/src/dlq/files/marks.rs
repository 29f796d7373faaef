//! Writing marks, in two copies, and the space that is reserved for them.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use pipeline_core::{
    dlq::FrameWriter,
    fsx::{self, Access, File},
};

use super::{
    super::{
        mark::{MARKS_KIND, Mark},
        names::marks_paths,
    },
    Files,
    leave::len_of,
};

const RESERVE: &str = "RESERVE";

/// Both copies of one marks file.
#[derive(Debug)]
pub(super) struct MarksWriter {
    paths: [PathBuf; 2],
    copies: [FrameWriter; 2],
    /// Up to here both are durable; 0: nothing is.
    synced: u64,
}

impl MarksWriter {
    fn create(dir: &Path, number: u64, marks: u64) -> io::Result<Self> {
        let paths = marks_paths(dir, number, marks);
        let create = || -> io::Result<_> {
            Ok([
                FrameWriter::create(&paths[0], MARKS_KIND)?,
                FrameWriter::create(&paths[1], MARKS_KIND)?,
            ])
        };
        let copies = create().inspect_err(|_| remove_all(&paths))?;
        Ok(Self {
            paths,
            copies,
            synced: 0,
        })
    }

    /// Durable in both copies when it ends. After an error both are as they were, as far as that
    /// can be done, and must not be written to again.
    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let written = self.append_and_sync(payload);
        if written.is_ok() {
            self.synced = self.copies[0].len();
        } else if self.synced == 0 {
            remove_all(&self.paths);
        } else {
            for path in &self.paths {
                let file = File::open_to_write(path);
                let _ = file.and_then(|file| file.set_len(self.synced));
            }
        }
        written
    }

    fn append_and_sync(&mut self, payload: &[u8]) -> io::Result<()> {
        for copy in &mut self.copies {
            copy.append(payload)?;
        }
        for copy in &mut self.copies {
            copy.sync()?;
        }
        Ok(())
    }

    /// Of both copies together.
    fn synced_bytes(&self) -> u64 {
        self.synced * 2
    }
}

fn remove_all(paths: &[PathBuf]) {
    for path in paths {
        let _ = fsx::remove_file(path);
    }
}

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
                let marks = self.next_marks;
                self.next_marks += 1;
                // Also where it fails: something of it may stay.
                file.marks_numbers.push(marks);
                MarksWriter::create(&self.dir, number, marks)?
            }
        };
        let before = writer.synced_bytes();
        writer.write(payload)?;
        file.marks_bytes += writer.synced_bytes() - before;
        // Only a writer that has not failed is used again, and only the last: each has two
        // descriptors and two compressors, and files may be many.
        file.marks = Some(writer);
        if let Some(last) = self.marked_last.replace(number)
            && last != number
            && let Some(file) = self.known.get_mut(&last)
        {
            file.marks = None;
        }
        Ok(())
    }

    /// Without one the queue still works, but for marks on a full disk.
    pub(super) fn make_reserve(&self) {
        let path = self.dir.join(RESERVE);
        let len = self.reserve_bytes();
        if path.exists() && len_of(&path) <= len {
            return;
        }
        // Of another limit, or not there.
        let _ = fsx::remove_file(&path);
        // Random, so that no file system stores it in less.
        let mut bytes = vec![0; usize::try_from(len).expect("the reserve is small")];
        let made = getrandom::fill(&mut bytes)
            .map_err(io::Error::other)
            .and_then(|()| File::create_new(&path, Access::Owner))
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
