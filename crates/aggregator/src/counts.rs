//! What is counted in one hour or day, by site. Pure; strings are borrowed from whoever has read
//! or folded them.

use crate::{
    client::{Bot, Client, StatusClass},
    sketch::Sketch,
    table::{Table, coalesce},
};

/// How much is kept apart in one hour, and in one day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Keys for each site and dimension (`aggregation.maxKeysPerHour`).
    pub keys: usize,
    /// Sites. They are named by clients, so there is a bound.
    pub sites: usize,
}

/// Keys of a dimension over all sites, unless one site may have more.
const ALL_SITES_KEYS_MAX: usize = 500_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            keys: 100_000,
            sites: 10_000,
        }
    }
}

/// Requests and what was sent for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    pub requests: u64,
    /// How many of them say how many bytes were sent, and the sum of those: hostile values of 64
    /// bits do not overflow it.
    pub with_bytes: u64,
    pub bytes: u128,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.with_bytes += other.with_bytes;
        self.bytes += other.bytes;
    }
}

/// When (hour of the day, UTC), who, and how it was answered.
pub type Slot<'a> = (u8, Client<'a>, StatusClass);

/// What was counted for one site. All sorted by key, no key twice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts<'a> {
    /// Exact whatever the cardinality; the sum of it is all requests.
    pub traffic: Vec<(Slot<'a>, Traffic)>,
    pub statuses: Vec<(u16, u64)>,
    pub durations: Sketch,
    pub methods: Table<'a>,
    pub paths: Table<'a>,
    pub user_agents: Table<'a>,
    /// Of the records that have one.
    pub referring_hosts: Table<'a>,
}

/// Whose counts. In the order of a list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Site<'a> {
    /// Records without a site.
    None,
    /// Sites that are not kept apart.
    Other,
    Named(&'a str),
}

/// All of one hour or day.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Content<'a> {
    /// The versions of the classification that have been at work, sorted.
    pub classifications: Vec<&'a str>,
    /// Every bot that is named in the counts, sorted by name.
    pub bots: Vec<Bot<'a>>,
    /// Sorted by site.
    pub sites: Vec<(Site<'a>, Counts<'a>)>,
    /// How many requests a site may have in [`Site::Other`] at most. 0: none was ever put there.
    pub sites_error_max: u64,
}

impl<'a> Counts<'a> {
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.traffic
            .iter()
            .map(|(_, traffic)| traffic.requests)
            .sum()
    }

    #[must_use]
    pub fn total(&self) -> Traffic {
        let mut total = Traffic::default();
        for (_, traffic) in &self.traffic {
            total += *traffic;
        }
        total
    }

    /// The dimensions that have a bound, with the names that summaries have for them.
    #[must_use]
    pub fn tables(&self) -> [(&'static str, &Table<'a>); 4] {
        [
            ("requestsPerPath", &self.paths),
            ("requestsPerUserAgent", &self.user_agents),
            ("requestsPerMethod", &self.methods),
            ("requestsPerReferringHost", &self.referring_hosts),
        ]
    }

    /// The same, to be changed.
    pub fn tables_mut(&mut self) -> [&mut Table<'a>; 4] {
        [
            &mut self.paths,
            &mut self.user_agents,
            &mut self.methods,
            &mut self.referring_hosts,
        ]
    }

    /// The sum of counts of different requests.
    #[must_use]
    pub fn sum<'b>(parts: impl Iterator<Item = &'b Self> + Clone) -> Self
    where
        'a: 'b,
    {
        let table = |of: fn(&Self) -> &Table<'a>| Table::sum(parts.clone().map(of));
        let traffic = parts.clone().flat_map(|part| part.traffic.iter().copied());
        let statuses = parts.clone().flat_map(|part| part.statuses.iter().copied());
        let buckets = parts.clone().flat_map(|part| part.durations.buckets.iter());
        Self {
            traffic: coalesce(traffic.collect()),
            statuses: coalesce(statuses.collect()),
            durations: Sketch {
                buckets: coalesce(buckets.copied().collect()),
            },
            methods: table(|part| &part.methods),
            paths: table(|part| &part.paths),
            user_agents: table(|part| &part.user_agents),
            referring_hosts: table(|part| &part.referring_hosts),
        }
    }

    /// That each dimension counts the same requests.
    fn check(&self) -> Result<(), String> {
        let requests = self.requests();
        for (name, table) in &self.tables()[..2] {
            let found = table.requests();
            if found != requests {
                return Err(format!("{found} in {name}, {requests} requests"));
            }
        }
        Ok(())
    }
}

impl<'a> Content<'a> {
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.sites.iter().map(|(_, counts)| counts.requests()).sum()
    }

    /// Over all sites.
    #[must_use]
    pub fn total(&self) -> Counts<'a> {
        Counts::sum(self.sites.iter().map(|(_, counts)| counts))
    }

    #[must_use]
    pub fn bot(&self, name: &str) -> Option<&Bot<'a>> {
        let at = self.bots.binary_search_by_key(&name, |bot| bot.name).ok()?;
        Some(&self.bots[at])
    }

    /// The sum of contents of different requests, within `limits`.
    #[must_use]
    pub fn sum(parts: &[&Self], limits: Limits) -> Self {
        let mut sum = Self {
            sites_error_max: parts.iter().map(|part| part.sites_error_max).sum(),
            ..Self::default()
        };
        // What came last knows best what a bot is.
        for part in parts.iter().rev() {
            sum.classifications.extend(&part.classifications);
            sum.bots.extend(&part.bots);
        }
        sum.classifications.sort_unstable();
        sum.classifications.dedup();
        sum.bots.sort_by_key(|bot| bot.name);
        sum.bots.dedup_by_key(|bot| bot.name);
        let sites = parts.iter().flat_map(|part| &part.sites);
        sum.sites = sum_sites(sites.map(|(site, counts)| (*site, counts)).collect());
        sum.bound(limits);
        sum
    }

    /// Keeps no more than `limits` allow.
    pub fn bound(&mut self, limits: Limits) {
        self.bound_sites(limits.sites.max(1));
        for dimension in 0..4 {
            let keys = self.keys_each(dimension, limits.keys);
            for (_, counts) in &mut self.sites {
                counts.tables_mut()[dimension].bound(keys);
            }
        }
    }

    /// How many keys each site may have.
    fn keys_each(&self, dimension: usize, each_max: usize) -> usize {
        let all_max = ALL_SITES_KEYS_MAX.max(each_max);
        let tables = self
            .sites
            .iter()
            .map(|(_, counts)| counts.tables()[dimension].1);
        let rows: usize = tables.clone().map(|table| table.rows.len()).sum();
        if rows <= all_max {
            return each_max;
        }
        share(
            tables.map(|table| table.keys().count()).collect(),
            each_max,
            all_max,
        )
    }

    fn bound_sites(&mut self, sites_max: usize) {
        let named = |site: &Site<'_>| matches!(site, Site::Named(_));
        let count = self.sites.iter().filter(|(site, _)| named(site)).count();
        if count <= sites_max {
            return;
        }
        let mut order: Vec<(u64, Site<'a>)> = self
            .sites
            .iter()
            .filter(|(site, _)| named(site))
            .map(|(site, counts)| (counts.requests(), *site))
            .collect();
        order.sort_unstable_by_key(|(requests, site)| (std::cmp::Reverse(*requests), *site));
        let dropped = order.split_off(sites_max);
        self.sites_error_max += dropped[0].0;
        let mut dropped: Vec<Site<'a>> = dropped.into_iter().map(|(_, site)| site).collect();
        dropped.sort_unstable();
        let sites = self.sites.iter().map(|(site, counts)| {
            let dropped = dropped.binary_search(site).is_ok();
            (if dropped { Site::Other } else { *site }, counts)
        });
        self.sites = sum_sites(sites.collect());
    }

    /// That it adds up in itself.
    ///
    /// # Errors
    /// The sums that differ.
    pub fn check(&self) -> Result<(), String> {
        for (site, counts) in &self.sites {
            counts
                .check()
                .map_err(|error| format!("{site:?}: {error}"))?;
        }
        Ok(())
    }
}

fn sum_sites<'a>(mut all: Vec<(Site<'a>, &Counts<'a>)>) -> Vec<(Site<'a>, Counts<'a>)> {
    all.sort_by_key(|(site, _)| *site);
    all.chunk_by(|(one, _), (other, _)| one == other)
        .map(|same| {
            let counts = match same {
                [(_, one)] => (*one).clone(),
                many => Counts::sum(many.iter().map(|(_, counts)| *counts)),
            };
            (same[0].0, counts)
        })
        .collect()
}

/// The most that each may have, up to `each_max`, so that all have `all_max` together.
fn share(mut sizes: Vec<usize>, each_max: usize, all_max: usize) -> usize {
    let wanted: usize = sizes.iter().map(|size| (*size).min(each_max)).sum();
    if wanted <= all_max {
        return each_max;
    }
    // The small ones have what they want; the rest share what is left.
    sizes.sort_unstable();
    let mut left = all_max;
    let mut count = sizes.len();
    for size in sizes {
        if size > left / count {
            break;
        }
        left -= size;
        count -= 1;
    }
    (left / count.max(1)).clamp(1, each_max)
}

#[cfg(test)]
mod tests;
