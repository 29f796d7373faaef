//! What a page's numbers are counted by: clients and status classes, numbered once for all of it.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::day::{Client, Key, SiteDay};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Of {
    /// A client by its place; -1: not told apart.
    Client(i64),
    Group(&'static str),
}

/// Clients and keys as pages number them.
#[derive(Default)]
pub struct Numbers<'a> {
    pub clients: Vec<&'a Client>,
    client_at: HashMap<&'a Client, u32>,
    pub keys: Vec<(Of, i8)>,
    key_at: HashMap<(Of, i8), u64>,
}

impl<'a> Numbers<'a> {
    pub fn of<'b>(days: impl Iterator<Item = &'b SiteDay>) -> Self
    where
        'b: 'a,
    {
        let clients: BTreeSet<&Client> = days.flat_map(|day| &day.clients).collect();
        let clients: Vec<&Client> = clients.into_iter().collect();
        let places = clients.iter().zip(0..).map(|(client, at)| (*client, at));
        Self {
            client_at: places.collect(),
            clients,
            ..Self::default()
        }
    }

    /// `key` of `day` as one of the page's.
    pub fn key(&self, day: &SiteDay, key: Key) -> Key {
        let client = |at: u32| self.client_at[&day.clients[at as usize]];
        Key {
            client: key.client.map(client),
            ..key
        }
    }

    pub fn number(&mut self, of: Of, status: Option<u8>) -> u64 {
        let key = (of, status.map_or(-1, |status| status as i8));
        *self.key_at.entry(key).or_insert_with(|| {
            self.keys.push(key);
            self.keys.len() as u64 - 1
        })
    }

    pub fn number_of(&mut self, key: Key) -> u64 {
        self.number(Of::Client(key.client.map_or(-1, i64::from)), key.status)
    }
}
