//! Who asked, and how it was answered: what every count is kept apart by. Pure.

/// The kind of client that an agent stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Client<'a> {
    Human,
    Unknown,
    Empty,
    /// By its name.
    Bot(&'a str),
}

impl Client<'_> {
    /// As `requestsPerClient` names it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Bot(_) => "bot",
            Self::Unknown => "unknown",
            Self::Empty => "empty",
        }
    }
}

/// What is known of a bot beside its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bot<'a> {
    pub name: &'a str,
    pub operator: &'a str,
    pub purpose: &'a str,
}

/// The first digit of a status; 0 of records without one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StatusClass(pub u8);

impl StatusClass {
    /// 0 to 5.
    pub const COUNT: u8 = 6;

    #[inline]
    #[must_use]
    pub fn of(status: Option<u16>) -> Self {
        Self(status.map_or(0, |status| (status / 100) as u8))
    }
}
