//! Records of one hour and site that differ in path, bytes and duration alone, under one count:
//! agent, method, referring host and status are counted from these when the folding is over. A
//! record mostly has the shape of one near it, and then costs no lookup for each of these.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::{classes::ClientId, client::StatusClass, counts::Traffic};

/// Strings by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Shape {
    pub agent: u32,
    method: u32,
    host: u32,
    status: u16,
}

/// Far more strings than fit in memory.
const NONE: u32 = u32::MAX;

impl Shape {
    #[inline]
    #[must_use]
    pub fn new(agent: u32, method: Option<u32>, host: Option<u32>, status: Option<u16>) -> Self {
        Self {
            agent,
            method: method.unwrap_or(NONE),
            host: host.unwrap_or(NONE),
            status: status.unwrap_or_default(),
        }
    }

    #[must_use]
    pub fn method(self) -> Option<u32> {
        Some(self.method).filter(|method| *method != NONE)
    }

    #[must_use]
    pub fn host(self) -> Option<u32> {
        Some(self.host).filter(|host| *host != NONE)
    }

    #[must_use]
    pub fn status(self) -> Option<u16> {
        Some(self.status).filter(|status| *status != 0)
    }

    #[inline]
    #[must_use]
    pub fn class(self) -> StatusClass {
        StatusClass::of(self.status())
    }
}

pub struct Counted {
    pub shape: Shape,
    /// What the agent stands for.
    pub client: ClientId,
    pub traffic: Traffic,
}

#[derive(Default)]
pub struct Shapes {
    all: Vec<Counted>,
    index: HashTable<u32>,
    hasher: RandomState,
    /// Of the record before.
    last: usize,
}

impl Shapes {
    pub fn iter(&self) -> impl Iterator<Item = &Counted> {
        self.all.iter()
    }

    /// Bytes, about, with what stands empty beside it.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.all.len() * (size_of::<Counted>() * 3 / 2 + 8)
    }

    #[inline]
    pub fn add(&mut self, shape: Shape, client: ClientId, bytes: Option<u64>) {
        if self.all.get(self.last).is_none_or(|at| at.shape != shape) {
            self.last = self.place(shape, client);
        }
        self.all[self.last].traffic += Traffic {
            requests: 1,
            with_bytes: u64::from(bytes.is_some()),
            bytes: u128::from(bytes.unwrap_or(0)),
        };
    }

    fn place(&mut self, shape: Shape, client: ClientId) -> usize {
        let hash = self.hasher.hash_one(shape);
        let all = &self.all;
        let found = self.index.find(hash, |at| all[*at as usize].shape == shape);
        if let Some(at) = found {
            return *at as usize;
        }
        let at = self.all.len();
        self.all.push(Counted {
            shape,
            client,
            traffic: Traffic::default(),
        });
        let number = u32::try_from(at).expect("far fewer shapes fit in memory");
        let all = &self.all;
        self.index.insert_unique(hash, number, |at| {
            self.hasher.hash_one(all[*at as usize].shape)
        });
        at
    }
}
