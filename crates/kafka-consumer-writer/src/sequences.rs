//! The sequences of one batch that are stored, in little memory whatever their pattern.
//!
//! Nearly every batch is one run (`0..n`), kept inline. With gaps (rejected records leave some)
//! the numbers are split into blocks of 65,536; a block is a list of runs, or a bitmap once that
//! is smaller. So no pattern costs more than 8 KiB a block, and far-apart numbers cost no span.

/// Longest run list of a block: one more run and a bitmap of 8 KiB is smaller.
const BLOCK_RUNS_MAX: usize = 2048;
const BLOCK_WORDS: usize = 1024;

/// A set of `u32`, never empty.
#[derive(Clone, Debug)]
pub struct Sequences(Form);

#[derive(Clone, Debug)]
enum Form {
    /// Both ends inside.
    One { first: u32, last: u32 },
    /// Boxed, so that the common form stays small.
    #[allow(clippy::box_collection)]
    Blocks(Box<Vec<(u16, Block)>>),
}

#[derive(Clone, Debug)]
enum Block {
    /// Sorted, apart from each other, both ends inside.
    Runs(Vec<(u16, u16)>),
    Bits(Box<[u64; BLOCK_WORDS]>),
}

impl Sequences {
    /// The run from `first` to `last`, both inside.
    #[must_use]
    pub fn run(first: u32, last: u32) -> Self {
        assert!(first <= last, "a run is not empty");
        Self(Form::One { first, last })
    }

    #[must_use]
    pub fn contains(&self, sequence: u32) -> bool {
        match &self.0 {
            Form::One { first, last } => (*first..=*last).contains(&sequence),
            Form::Blocks(blocks) => {
                let (high, low) = split(sequence);
                blocks
                    .binary_search_by_key(&high, |(high, _)| *high)
                    .is_ok_and(|at| blocks[at].1.contains(low))
            }
        }
    }

    /// Adds the run from `first` to `last`, both inside.
    pub fn insert_run(&mut self, first: u32, last: u32) {
        assert!(first <= last, "a run is not empty");
        if let Form::One {
            first: own_first,
            last: own_last,
        } = &mut self.0
        {
            let touches = u64::from(first) <= u64::from(*own_last) + 1
                && u64::from(*own_first) <= u64::from(last) + 1;
            if touches {
                *own_first = first.min(*own_first);
                *own_last = last.max(*own_last);
                return;
            }
            let mut blocks = Vec::with_capacity(2);
            insert_into_blocks(&mut blocks, *own_first, *own_last);
            self.0 = Form::Blocks(Box::new(blocks));
        }
        if let Form::Blocks(blocks) = &mut self.0 {
            insert_into_blocks(blocks, first, last);
        }
    }

    /// Fills `runs` with the set's runs, in order, apart from each other, both ends inside.
    pub fn runs_into(&self, runs: &mut Vec<(u32, u32)>) {
        runs.clear();
        match &self.0 {
            Form::One { first, last } => runs.push((*first, *last)),
            Form::Blocks(blocks) => {
                for (high, block) in blocks.iter() {
                    let base = u32::from(*high) << 16;
                    block.each_run(&mut |first, last| {
                        let (first, last) = (base | u32::from(first), base | u32::from(last));
                        match runs.last_mut() {
                            // A run may go on in the next block.
                            Some(before) if u64::from(before.1) + 1 == u64::from(first) => {
                                before.1 = last;
                            }
                            _ => runs.push((first, last)),
                        }
                    });
                }
            }
        }
    }

    /// Heap memory beyond the value itself.
    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::One { .. } => 0,
            Form::Blocks(blocks) => {
                let inner: usize = blocks.iter().map(|(_, block)| block.heap_bytes()).sum();
                size_of::<Vec<(u16, Block)>>()
                    + blocks.capacity() * size_of::<(u16, Block)>()
                    + inner
            }
        }
    }
}

impl Block {
    fn contains(&self, low: u16) -> bool {
        match self {
            Self::Runs(runs) => {
                let at = runs.partition_point(|(_, last)| *last < low);
                runs.get(at).is_some_and(|(first, _)| *first <= low)
            }
            Self::Bits(words) => words[usize::from(low / 64)] >> (low % 64) & 1 == 1,
        }
    }

    fn insert_run(&mut self, first: u16, last: u16) {
        match self {
            Self::Runs(runs) => {
                // The runs that touch the new one become part of it.
                let from = runs.partition_point(|run| u32::from(run.1) + 1 < u32::from(first));
                let to = runs.partition_point(|run| u32::from(run.0) <= u32::from(last) + 1);
                let merged = if from < to {
                    (first.min(runs[from].0), last.max(runs[to - 1].1))
                } else {
                    (first, last)
                };
                runs.splice(from..to, [merged]);
                if runs.len() > BLOCK_RUNS_MAX {
                    let mut words = Box::new([0; BLOCK_WORDS]);
                    for &(first, last) in runs.iter() {
                        set_bits(&mut words, first, last);
                    }
                    *self = Self::Bits(words);
                }
            }
            Self::Bits(words) => set_bits(words, first, last),
        }
    }

    fn each_run(&self, visit: &mut dyn FnMut(u16, u16)) {
        match self {
            Self::Runs(runs) => runs.iter().for_each(|(first, last)| visit(*first, *last)),
            Self::Bits(words) => {
                let mut low = 0_u32;
                while let Some(first) = next_bit(words, low, true) {
                    let end = next_bit(words, first, false).unwrap_or(1 << 16);
                    #[allow(clippy::cast_possible_truncation)]
                    visit(first as u16, (end - 1) as u16);
                    low = end;
                }
            }
        }
    }

    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Runs(runs) => runs.capacity() * size_of::<(u16, u16)>(),
            Self::Bits(_) => BLOCK_WORDS * 8,
        }
    }
}

/// Sets are equal by what they hold, whatever their form.
impl PartialEq for Sequences {
    fn eq(&self, other: &Self) -> bool {
        let (mut own, mut others) = (Vec::new(), Vec::new());
        self.runs_into(&mut own);
        other.runs_into(&mut others);
        own == others
    }
}

impl Eq for Sequences {}

fn insert_into_blocks(blocks: &mut Vec<(u16, Block)>, first: u32, last: u32) {
    let (first_high, first_low) = split(first);
    let (last_high, last_low) = split(last);
    for high in first_high..=last_high {
        let from = if high == first_high { first_low } else { 0 };
        let to = if high == last_high {
            last_low
        } else {
            u16::MAX
        };
        match blocks.binary_search_by_key(&high, |(high, _)| *high) {
            Ok(at) => blocks[at].1.insert_run(from, to),
            Err(at) => blocks.insert(at, (high, Block::Runs(vec![(from, to)]))),
        }
    }
}

fn set_bits(words: &mut [u64; BLOCK_WORDS], first: u16, last: u16) {
    let (from, to) = (usize::from(first / 64), usize::from(last / 64));
    for (at, word) in words.iter_mut().enumerate().take(to + 1).skip(from) {
        let low = if at == from { first % 64 } else { 0 };
        let high = if at == to { last % 64 } else { 63 };
        *word |= (u64::MAX >> (63 - (high - low))) << low;
    }
}

/// The first bit from `from` on that is set, or not.
fn next_bit(words: &[u64; BLOCK_WORDS], from: u32, set: bool) -> Option<u32> {
    let mut at = from as usize / 64;
    let mut above = u64::MAX.checked_shl(from % 64)?;
    while at < BLOCK_WORDS {
        let word = if set { words[at] } else { !words[at] } & above;
        if word != 0 {
            return u32::try_from(at * 64)
                .ok()
                .map(|low| low + word.trailing_zeros());
        }
        at += 1;
        above = u64::MAX;
    }
    None
}

fn split(sequence: u32) -> (u16, u16) {
    #[allow(clippy::cast_possible_truncation)]
    let halves = ((sequence >> 16) as u16, (sequence & 0xffff) as u16);
    halves
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn holds_exactly_what_was_inserted_whatever_the_pattern() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            // Dense, sparse, far apart, and at both ends of u32.
            let (base, spread) = [
                (0, 200),
                (0, 70_000),
                (65_000, 5_000),
                (u32::MAX - 3_000, 3_000),
                (0, u32::MAX),
            ][random.usize(0..5)];
            let first = base + random.u32(0..=spread);
            let mut sequences = Sequences::run(first, first);
            let mut model = BTreeSet::from([first]);
            for _ in 0..random.usize(1..400) {
                let first = base + random.u32(0..=spread);
                let last = first.saturating_add(random.u32(0..20)).min(base + spread);
                sequences.insert_run(first, last);
                model.extend(first..=last);
            }
            let mut runs = Vec::new();
            sequences.runs_into(&mut runs);
            let held: Vec<u32> = runs.iter().flat_map(|run| run.0..=run.1).collect();
            assert!(held.iter().eq(&model), "seed {seed}");
            for pair in runs.windows(2) {
                assert!(pair[0].1 + 1 < pair[1].0, "seed {seed}: {pair:?} touch");
            }
            for &inside in &model {
                assert!(sequences.contains(inside), "seed {seed}: lost {inside}");
                for near in [inside.wrapping_sub(1), inside.wrapping_add(1)] {
                    assert_eq!(
                        sequences.contains(near),
                        model.contains(&near),
                        "seed {seed}: {near}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_second_sequence_costs_a_bitmap_not_a_list() {
        let mut sequences = Sequences::run(0, 0);
        for sequence in (0..1_000_000).step_by(2) {
            sequences.insert_run(sequence, sequence);
        }
        assert!(sequences.contains(999_998) && !sequences.contains(999_999));
        let mut runs = Vec::new();
        sequences.runs_into(&mut runs);
        assert_eq!((runs.len(), runs[499_999]), (500_000, (999_998, 999_998)));
        assert!(
            sequences.heap_bytes() < 160 * 1024,
            "{} bytes for half a million sequences",
            sequences.heap_bytes()
        );
    }

    #[test]
    fn far_apart_sequences_cost_no_span() {
        let mut sequences = Sequences::run(0, 0);
        sequences.insert_run(u32::MAX, u32::MAX);
        assert!(sequences.contains(u32::MAX) && !sequences.contains(u32::MAX - 1));
        assert!(sequences.heap_bytes() < 1024);
    }

    #[test]
    fn growing_runs_stay_one_run() {
        let mut sequences = Sequences::run(5, 9);
        sequences.insert_run(10, 20);
        sequences.insert_run(0, 4);
        sequences.insert_run(3, 12);
        assert_eq!(sequences, Sequences::run(0, 20));
        assert_eq!(sequences.heap_bytes(), 0);
        assert_eq!(size_of::<Sequences>(), 16);
    }
}
