//! Agent → kind of client, as small numbers for counting; `bots` decides.

use crate::{
    bots::{BotId, Class, Classifier},
    client::{Bot, Client},
};

/// A kind of client: one of three, or one of the bots of this build behind them. For tables in
/// memory, never for files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientId(pub u16);

impl ClientId {
    const HUMAN: u16 = 0;
    const UNKNOWN: u16 = 1;
    const EMPTY: u16 = 2;
    const BOTS: u16 = 3;

    #[must_use]
    pub fn of(agent: &str) -> Self {
        Self(match Classifier::shared().classify(agent) {
            Class::Human => Self::HUMAN,
            Class::Unknown => Self::UNKNOWN,
            Class::Empty => Self::EMPTY,
            Class::Bot(BotId(number)) => Self::BOTS + number,
        })
    }

    #[must_use]
    pub fn client(self) -> Client<'static> {
        match self.0 {
            Self::HUMAN => Client::Human,
            Self::UNKNOWN => Client::Unknown,
            Self::EMPTY => Client::Empty,
            bot => Client::Bot(&Classifier::shared().bot(BotId(bot - Self::BOTS)).name),
        }
    }

    #[must_use]
    pub fn bot(self) -> Option<Bot<'static>> {
        let number = self.0.checked_sub(Self::BOTS)?;
        let bot = Classifier::shared().bot(BotId(number));
        Some(Bot {
            name: &bot.name,
            operator: bot.operator.as_deref().unwrap_or_default(),
            purpose: bot.purpose.as_str(),
        })
    }
}

/// Of what tells clients apart: counts say which versions have been at work on them.
#[must_use]
pub fn version() -> &'static str {
    Classifier::shared().version()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_kind_of_client_and_a_bot_its_name() {
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 Safari/537.36";
        assert_eq!(ClientId::of(chrome).client(), Client::Human);
        assert_eq!(ClientId::of("-").client(), Client::Empty);
        let gptbot = ClientId::of(
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        );
        assert_eq!(gptbot.client(), Client::Bot("GPTBot"));
        let bot = gptbot.bot().unwrap();
        assert_eq!((bot.name, bot.operator), ("GPTBot", "OpenAI"));
        assert_eq!(ClientId::of(chrome).bot(), None);
    }
}
