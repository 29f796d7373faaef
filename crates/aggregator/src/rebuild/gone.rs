//! Chains that are gone, of which the archive still has records: a store that was lost, a chain that
//! was begun anew behind where the first one began. What of the archive is theirs, and what of them
//! is nowhere any more. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use pipeline_core::{Offset, store::Start};

use crate::{
    archive::{ChainId, files::About, pending::Part},
    manifest::{Manifest, TakenOver},
    run::RunError,
};

/// Below it is every offset.
pub const ALL: Offset = Offset(i64::MAX);

pub struct Gone {
    logs: PathBuf,
    store: String,
    /// Of the chains that the store has.
    starts: HashMap<ChainId, Start>,
    /// The last manifest that can be read, of whichever store.
    last: Option<Manifest>,
    /// Whether what is of another store, or of a chain that this one does not have, is taken in.
    adopt: bool,
    taken: BTreeMap<(String, ChainId), TakenOver>,
    /// Records that were found of the chains of `last`.
    found: HashMap<ChainId, u64>,
}

impl Gone {
    pub fn new(
        logs: &Path,
        store: &str,
        starts: HashMap<ChainId, Start>,
        last: Option<Manifest>,
        adopt: bool,
    ) -> Result<Self, RunError> {
        let gone = Self {
            logs: logs.to_owned(),
            store: store.to_owned(),
            starts,
            last,
            adopt,
            taken: BTreeMap::new(),
            found: HashMap::new(),
        };
        let counted = gone.last.as_ref().and_then(|last| last.store.as_ref());
        match counted {
            Some(counted) if *counted != gone.store && !adopt => Err(RunError::NotAdopted {
                what: "the last manifest".to_owned(),
                of: format!("store {counted}"),
                logs: gone.logs,
                found: format!("store {}", gone.store),
            }),
            _ => Ok(gone),
        }
    }

    /// Below which offset the records of a part are of a chain that is gone: [`ALL`], or where the
    /// chain that is there begins.
    pub fn below(&self, about: &About, part: &Part, path: &Path) -> Result<Offset, RunError> {
        let start = self.starts.get(&part.chain);
        let known = self.topic_id(&about.store, &part.chain);
        let one_log = start.is_some_and(|start| known.is_none_or(|known| known == start.topic_id));
        let cannot_tell = |why: &str| {
            RunError::Books(format!(
                "{} holds {} from {} to {}: {why}",
                path.display(),
                part.chain,
                part.first,
                part.next
            ))
        };
        match start {
            Some(start) if about.store == self.store && one_log => Ok(start.first_offset),
            Some(_) if about.store == self.store => Err(cannot_tell(
                "of a topic that was made anew since; what comes from the new one belongs into a \
                 store of its own",
            )),
            Some(start) if one_log && start.first_offset < part.next => Err(cannot_tell(&format!(
                "so had store {}, and this one has the same from {} on: which are counted cannot \
                 be decided",
                about.store, start.first_offset
            ))),
            _ if self.adopt => Ok(ALL),
            _ => Err(RunError::NotAdopted {
                what: path.display().to_string(),
                of: format!("{} of store {}", part.chain, about.store),
                logs: self.logs.clone(),
                found: if about.store == self.store {
                    "no such chain".to_owned()
                } else {
                    format!("store {}", self.store)
                },
            }),
        }
    }

    /// What a file has of a chain: `records`, of which `gone` are of one that is gone, up to `next`.
    pub fn take(&mut self, about: &About, chain: &ChainId, records: u64, gone: u64, next: Offset) {
        if self.counted() == Some(&*about.store) {
            *self.found.entry(chain.clone()).or_default() += records;
        }
        if gone == 0 {
            return;
        }
        let topic_id = self.topic_id(&about.store, chain).map(str::to_owned);
        let key = (about.store.clone(), chain.clone());
        let taken = self.taken.entry(key).or_insert_with(|| TakenOver {
            store: about.store.clone(),
            chain: chain.clone(),
            topic_id,
            next,
            records: 0,
            aside: 0,
        });
        taken.next = taken.next.max(next);
        taken.records += gone;
        if about.file.place.aside {
            taken.aside += gone;
        }
    }

    /// Where the chain of that name ended that was begun anew since it was counted.
    pub fn ended(&self, chain: &ChainId) -> Option<Offset> {
        let last = self.last.as_ref()?;
        if last.store.as_ref() != Some(&self.store) {
            return None;
        }
        let mut chains = last.chains.iter();
        let counted = chains.find(|counted| counted.id() == *chain)?;
        (self.starts.get(chain) != Some(&counted.start)).then_some(counted.next)
    }

    /// Records that were stored again below where it ended.
    pub fn again(&mut self, chain: &ChainId, records: u64) {
        *self.found.entry(chain.clone()).or_default() += records;
    }

    /// Whether what the last manifest says of this chain is still of it.
    pub fn stands(&self, chain: &ChainId) -> bool {
        self.counted() == Some(&self.store) && self.ended(chain).is_none()
    }

    pub fn last(&self) -> Option<&Manifest> {
        self.last.as_ref()
    }

    /// What was counted of them and is nowhere any more; and what the archive has of them.
    pub fn end(self) -> (u64, Vec<TakenOver>) {
        let mut nowhere = 0;
        for counted in self.last.iter().flat_map(|last| &last.chains) {
            let id = counted.id();
            if !self.stands(&id) {
                let found = self.found.get(&id).copied().unwrap_or_default();
                nowhere += counted.read.saturating_sub(found);
            }
        }
        for before in self.last.iter().flat_map(|last| &last.taken_over) {
            let key = (before.store.clone(), before.chain.clone());
            let taken = self.taken.get(&key).map_or(0, |taken| taken.records);
            nowhere += before.records.saturating_sub(taken);
        }
        (nowhere, self.taken.into_values().collect())
    }

    /// The store that the last manifest has counted.
    fn counted(&self) -> Option<&str> {
        self.last.as_ref()?.store.as_deref()
    }

    fn topic_id(&self, store: &str, chain: &ChainId) -> Option<&str> {
        let last = self.last.as_ref()?;
        let mut taken = last.taken_over.iter();
        let taken = taken.find(|taken| taken.store == store && taken.chain == *chain);
        if let Some(id) = taken.and_then(|taken| taken.topic_id.as_deref()) {
            return Some(id);
        }
        let mut chains = last.chains.iter();
        let counted = chains.find(|counted| counted.id() == *chain)?;
        (self.counted() == Some(store)).then_some(&*counted.start.topic_id)
    }
}
