//! The automaton: literals in, what stands in an agent out. Knows what its words mean for a class
//! and nothing about who put them there.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::bytes::Regex;

use super::{
    BotId,
    signs::{self, Sign},
};

/// What it means that a word stands in an agent.
pub enum Meaning {
    /// This bot, where `pattern` (if there is one) matches the whole agent too.
    Bot {
        id: BotId,
        pattern: Option<Regex>,
        case: Case,
    },
    Sign(Sign),
    /// Part of what browsers call themselves.
    Browser,
    /// A system that people use: no proof of a browser, but none of a robot either.
    Platform,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// The very letters.
    Exact,
    /// Any case, but as a word of its own: `yak` is not in `Kayak`.
    Word,
}

/// What stands in an agent.
#[derive(Default)]
pub struct Seen {
    /// The listed bot with the longest literal; of equal ones the first in the agent.
    pub bot: Option<BotId>,
    /// The first in the order of [`Sign::ALL`].
    pub sign: Option<Sign>,
    pub browser: bool,
    pub platform: bool,
}

#[derive(Default)]
pub struct Builder {
    words: Vec<(Box<[u8]>, Meaning)>,
}

pub struct Words {
    automaton: AhoCorasick,
    words: Vec<(Box<[u8]>, Meaning)>,
}

impl Builder {
    pub fn add(&mut self, word: &[u8], meaning: Meaning) {
        assert!(!word.is_empty(), "an empty word is everywhere");
        self.words.push((word.into(), meaning));
    }

    pub fn build(self) -> Words {
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(self.words.iter().map(|(word, _)| word))
            .expect("some thousand short words are within the automaton's limits");
        Words {
            automaton,
            words: self.words,
        }
    }
}

impl Words {
    pub fn look(&self, agent: &[u8]) -> Seen {
        let mut seen = Seen::default();
        let mut longest = 0;
        for found in self.automaton.find_overlapping_iter(agent) {
            let (word, meaning) = &self.words[found.pattern().as_usize()];
            let at = found.range();
            match meaning {
                Meaning::Browser => seen.browser = true,
                Meaning::Platform => seen.platform = true,
                Meaning::Bot { id, pattern, case } => {
                    let here = word.len() > longest
                        && match case {
                            Case::Exact => agent[at] == **word,
                            Case::Word => is_word(agent, at),
                        }
                        && pattern.as_ref().is_none_or(|it| it.is_match(agent));
                    if here {
                        longest = word.len();
                        seen.bot = Some(*id);
                    }
                }
                Meaning::Sign(sign) => {
                    if seen.sign.is_none_or(|before| *sign < before)
                        && signs::stands(word, agent, at)
                    {
                        seen.sign = Some(*sign);
                    }
                }
            }
        }
        seen
    }

    pub fn memory(&self) -> usize {
        self.automaton.memory_usage()
    }
}

fn is_word(agent: &[u8], at: std::ops::Range<usize>) -> bool {
    let part = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    !part(at.start.checked_sub(1).map(|before| &agent[before])) && !part(agent.get(at.end))
}
