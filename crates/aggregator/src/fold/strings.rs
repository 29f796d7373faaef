//! Each string once, by number.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// What a string costs beside its bytes, about: its end, its place in the table with what stands
/// empty beside it.
const STRING_BYTES: usize = 32;

/// One that was seen: all that a look needs beside the bytes.
struct Known {
    number: u32,
    len: u32,
    start: usize,
}

#[derive(Default)]
pub struct Strings {
    bytes: String,
    /// Where each string ends; it begins where the one before ends.
    ends: Vec<usize>,
    index: HashTable<Known>,
    hasher: RandomState,
}

impl Strings {
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn memory(&self) -> usize {
        self.bytes.len() + self.ends.len() * STRING_BYTES
    }

    #[inline]
    pub fn number(&mut self, text: &str) -> u32 {
        let hash = self.hasher.hash_one(text.as_bytes());
        let known = |known: &Known| {
            known.len as usize == text.len() && known.of(&self.bytes) == text.as_bytes()
        };
        match self.index.find(hash, known) {
            Some(known) => known.number,
            None => self.add(hash, text),
        }
    }

    #[cold]
    fn add(&mut self, hash: u64, text: &str) -> u32 {
        let number = u32::try_from(self.ends.len()).expect("far fewer strings fit in memory");
        let new = Known {
            number,
            len: u32::try_from(text.len()).expect("far less than a record's longest"),
            start: self.bytes.len(),
        };
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
        let (bytes, hasher) = (&self.bytes, &self.hasher);
        self.index
            .insert_unique(hash, new, |known| hasher.hash_one(known.of(bytes)));
        number
    }

    /// As [`Self::number`], where the text is often that of `last`.
    #[inline]
    pub fn number_near(&mut self, text: &str, last: &mut u32) -> u32 {
        if (*last as usize) >= self.len() || self.text(*last).as_bytes() != text.as_bytes() {
            *last = self.number(text);
        }
        *last
    }

    #[inline]
    #[must_use]
    pub fn text(&self, number: u32) -> &str {
        slice(&self.bytes, &self.ends, number)
    }

    /// The places of `used` strings in their order.
    #[must_use]
    pub fn ranks(&self, used: impl Iterator<Item = u32>) -> Ranks {
        let mut ranks = vec![u32::MAX; self.ends.len()];
        let mut order = Vec::new();
        for number in used {
            // Once each.
            if std::mem::replace(&mut ranks[number as usize], 0) == u32::MAX {
                order.push(number);
            }
        }
        order.sort_unstable_by_key(|number| self.text(*number));
        for (rank, number) in order.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        Ranks { ranks }
    }
}

impl Known {
    #[inline]
    fn of<'a>(&self, bytes: &'a str) -> &'a [u8] {
        &bytes.as_bytes()[self.start..][..self.len as usize]
    }
}

/// The order of strings by their numbers.
pub struct Ranks {
    ranks: Vec<u32>,
}

impl Ranks {
    #[must_use]
    pub fn of(&self, number: u32) -> u32 {
        self.ranks[number as usize]
    }
}

#[inline]
fn slice<'a>(bytes: &'a str, ends: &[usize], number: u32) -> &'a str {
    let number = number as usize;
    let start = number.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start..ends[number]]
}
