//! Rows that memory has no room for, on the disk until their file is made: in runs, each of one
//! file. What comes back is what was put, in any order.

use std::{io, ops::Range, path::Path};

use pipeline_core::fsx::Scratch;
use zstd::bulk::{Compressor, Decompressor};

use super::rows::{Held, Row};

/// Logs shrink to a tenth by the quickest level.
const LEVEL: i32 = 1;
/// Chain, offset, time of receipt, length of the line: what stands before each line.
const HEAD_BYTES: usize = 4 + 8 + 8 + 4;

pub struct Spill {
    scratch: Scratch,
    compressor: Compressor<'static>,
    /// By file.
    runs: Vec<Vec<Run>>,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

struct Run {
    at: u64,
    packed_len: usize,
    plain_len: usize,
}

impl Spill {
    /// For rows of so many files. The room is taken where `dir` is.
    ///
    /// # Errors
    /// As the file system says.
    pub fn create(dir: &Path, files: usize) -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Self {
            scratch: Scratch::create_in(dir)?,
            compressor,
            runs: (0..files).map(|_| Vec::new()).collect(),
            plain: Vec::new(),
            packed: Vec::new(),
        })
    }

    /// Takes all rows and their lines out of `held`.
    ///
    /// # Errors
    /// As the file system says.
    pub fn put(&mut self, held: &mut Held) -> io::Result<()> {
        held.rows.sort_by_key(|row| row.file);
        for rows in held.rows.chunk_by(|one, other| one.file == other.file) {
            self.plain.clear();
            for row in rows {
                self.plain.extend_from_slice(&row.chain.to_le_bytes());
                self.plain.extend_from_slice(&row.offset.to_le_bytes());
                self.plain.extend_from_slice(&row.received_ms.to_le_bytes());
                self.plain.extend_from_slice(&row.len.to_le_bytes());
                self.plain.extend_from_slice(&held.lines[row.line()]);
            }
            let bound = zstd::zstd_safe::compress_bound(self.plain.len());
            self.packed.resize(bound.max(self.packed.len()), 0);
            let packed_len = self
                .compressor
                .compress_to_buffer(&self.plain, &mut self.packed)?;
            self.runs[rows[0].file as usize].push(Run {
                at: self.scratch.append(&self.packed[..packed_len])?,
                packed_len,
                plain_len: self.plain.len(),
            });
        }
        held.rows.clear();
        held.lines.clear();
        Ok(())
    }

    /// All rows of one file.
    ///
    /// # Errors
    /// As the file system says, or where it gives other bytes than it was given.
    pub fn of(&self, file: usize) -> io::Result<Held> {
        let runs = &self.runs[file];
        let mut held = Held::default();
        held.lines
            .reserve_exact(runs.iter().map(|run| run.plain_len).sum());
        let mut decompressor = Decompressor::new()?;
        let (mut packed, mut plain) = (Vec::new(), Vec::new());
        for run in runs {
            packed.resize(run.packed_len, 0);
            self.scratch.read_at(run.at, &mut packed)?;
            plain.resize(run.plain_len, 0);
            let len = decompressor.decompress_to_buffer(&packed, &mut plain)?;
            let mut rest = plain.get(..len).filter(|_| len == run.plain_len);
            while let Some(run) = rest.filter(|run| !run.is_empty()) {
                rest = run.split_first_chunk().and_then(|(head, behind)| {
                    let row = row(file as u32, head, held.lines.len());
                    let (line, behind) = behind.split_at_checked(row.len as usize)?;
                    held.lines.extend_from_slice(line);
                    held.rows.push(row);
                    Some(behind)
                });
            }
            if rest.is_none() {
                let detail = "rows on the disk are not those that were put there";
                return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
            }
        }
        Ok(held)
    }
}

fn row(file: u32, head: &[u8; HEAD_BYTES], at: usize) -> Row {
    fn part<const N: usize>(head: &[u8; HEAD_BYTES], range: Range<usize>) -> [u8; N] {
        head[range].try_into().expect("of that length")
    }
    Row {
        file,
        chain: u32::from_le_bytes(part(head, 0..4)),
        offset: i64::from_le_bytes(part(head, 4..12)),
        received_ms: i64::from_le_bytes(part(head, 12..20)),
        at,
        len: u32::from_le_bytes(part(head, 20..24)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_by_file_as_they_were_put() {
        let dir = tempfile::tempdir().unwrap();
        let mut spill = Spill::create(dir.path(), 3).unwrap();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut all: Vec<Vec<(Row, Vec<u8>)>> = vec![Vec::new(); 3];
        let mut held = Held::default();
        for number in 0..500_i64 {
            let line: Vec<u8> = (0..rng.usize(0..300)).map(|_| rng.u8(..)).collect();
            // None of the second.
            let row = Row {
                file: 2 * rng.u32(0..2),
                chain: rng.u32(..),
                offset: number,
                received_ms: rng.i64(..),
                at: held.lines.len(),
                len: line.len() as u32,
            };
            held.lines.extend_from_slice(&line);
            all[row.file as usize].push((row.clone(), line));
            held.rows.push(row);
            if rng.u8(..50) == 0 {
                spill.put(&mut held).unwrap();
                assert!(held.lines.is_empty() && held.rows.is_empty());
            }
        }
        spill.put(&mut held).unwrap();
        for (file, expected) in all.iter().enumerate() {
            let found = spill.of(file).unwrap();
            assert_eq!(found.rows.len(), expected.len());
            for (found_row, (row, line)) in found.rows.iter().zip(expected) {
                assert_eq!(&found.lines[found_row.line()], line);
                let at = found_row.at;
                assert_eq!(*found_row, Row { at, ..row.clone() });
            }
        }
    }
}
