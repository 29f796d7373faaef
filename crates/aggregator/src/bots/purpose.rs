//! What a bot comes for.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// Indexes for a search engine.
    Search,
    /// Gathers what models are trained with.
    AiTraining,
    /// Indexes for a search whose answers a model writes.
    AiSearch,
    /// Fetches one page because a person asked an assistant about it.
    AiUser,
    Seo,
    Monitor,
    Feed,
    /// Link previews of messengers and social networks.
    Preview,
    Advertising,
    /// Looks for holes, invited or not.
    Security,
    Archive,
    Research,
    /// Gathers data to sell or to show, not to train with, as far as is known.
    Dataset,
    /// A browser that a program steers.
    Automation,
    /// curl, python-requests, okhttp: somebody's script; the agent does not say whose.
    HttpLibrary,
    Other,
}

impl Purpose {
    pub const ALL: [Self; 16] = [
        Self::Search,
        Self::AiTraining,
        Self::AiSearch,
        Self::AiUser,
        Self::Seo,
        Self::Monitor,
        Self::Feed,
        Self::Preview,
        Self::Advertising,
        Self::Security,
        Self::Archive,
        Self::Research,
        Self::Dataset,
        Self::Automation,
        Self::HttpLibrary,
        Self::Other,
    ];

    /// As it stands in summaries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::AiTraining => "ai-training",
            Self::AiSearch => "ai-search",
            Self::AiUser => "ai-user",
            Self::Seo => "seo",
            Self::Monitor => "monitor",
            Self::Feed => "feed",
            Self::Preview => "preview",
            Self::Advertising => "advertising",
            Self::Security => "security",
            Self::Archive => "archive",
            Self::Research => "research",
            Self::Dataset => "dataset",
            Self::Automation => "automation",
            Self::HttpLibrary => "http-library",
            Self::Other => "other",
        }
    }

    #[must_use]
    pub fn is_ai(self) -> bool {
        matches!(self, Self::AiTraining | Self::AiSearch | Self::AiUser)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
