//! Room on the disk for what does not fit into memory. The file has no name once it is open, so
//! nothing of it is left when its process ends, however that ends. Never durable.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use super::{Access, File, create_temporary, open, remove_file};

/// Bytes that are written once, one behind the other, and read from anywhere.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    read: fs::File,
    len: u64,
}

impl Scratch {
    /// Takes its room where `dir` is.
    ///
    /// # Errors
    /// As the file system says. A name may be left then, as of any temporary file.
    pub fn create_in(dir: &Path) -> io::Result<Self> {
        let (path, file) = create_temporary(dir, Access::Owner)?;
        let read = open(&path);
        remove_file(&path)?;
        Ok(Self {
            file,
            read: read?,
            len: 0,
        })
    }

    /// Writes behind all that is there, and says where that is.
    ///
    /// # Errors
    /// As the file system says; nothing is to be read or written then.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.len;
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(at)
    }

    /// # Errors
    /// As the file system says, or where there is less.
    pub fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.read.read_exact_at(into, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_from_anywhere_and_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::create_in(dir.path()).unwrap();
        assert_eq!(scratch.append(b"one").unwrap(), 0);
        assert_eq!(scratch.append(b"three").unwrap(), 3);
        let mut read = [0; 5];
        scratch.read_at(3, &mut read).unwrap();
        assert_eq!(&read, b"three");
        scratch.read_at(0, &mut read[..3]).unwrap();
        assert_eq!(&read[..3], b"one");
        assert!(scratch.read_at(4, &mut read).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
