//! Each string once, by number.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// What a string costs beside its bytes, about: its end, its place in the table.
const STRING_BYTES: usize = 16;

#[derive(Default)]
pub struct Strings {
    bytes: String,
    /// Where each string ends; it begins where the one before ends.
    ends: Vec<usize>,
    index: HashTable<u32>,
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
        let hash = self.hasher.hash_one(text);
        let (bytes, ends) = (&mut self.bytes, &mut self.ends);
        if let Some(number) = self
            .index
            .find(hash, |number| slice(bytes, ends, *number) == text)
        {
            return *number;
        }
        let number = u32::try_from(ends.len()).expect("far fewer strings fit in memory");
        bytes.push_str(text);
        ends.push(bytes.len());
        self.index.insert_unique(hash, number, |number| {
            self.hasher.hash_one(slice(bytes, ends, *number))
        });
        number
    }

    /// As [`Self::number`], where the text is often that of `last`.
    #[inline]
    pub fn number_near(&mut self, text: &str, last: &mut u32) -> u32 {
        if (*last as usize) >= self.len() || self.text(*last) != text {
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
