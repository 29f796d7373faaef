//! What the days' files hold, as far as pages are made of it: for each site its last days. Pure.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::{
    hour::Day,
    report::{
        data::{self, DAYS_MAX, SiteLine},
        day::{Group, SiteDay},
        days::{Head, PieceHash},
        page,
    },
};

/// Sites that have a page.
const SITES_MAX: usize = 10_000;

/// Where a site's part of a day's file is.
pub struct Place {
    pub hash: PieceHash,
    pub at: u64,
    pub len: usize,
    groups: [u64; Group::ALL.len()],
}

#[derive(Default)]
pub struct Known {
    /// Up to [`DAYS_MAX`] days back from each site's last one.
    sites: BTreeMap<String, BTreeMap<Day, Place>>,
    /// The same of all sites together.
    all: BTreeMap<Day, All>,
}

struct All {
    manifest: u64,
    day: SiteDay,
    other: Option<[u64; Group::ALL.len()]>,
}

impl Known {
    /// Takes in a day's head, in the place of what was known of that day; `behind` is where the
    /// file's pieces begin. Gives the sites whose pages are others now.
    pub fn take(&mut self, day: Day, head: Head, behind: u64) -> BTreeSet<String> {
        let mut gone: BTreeMap<String, Place> = BTreeMap::new();
        for (site, days) in &mut self.sites {
            if let Some(place) = days.remove(&day) {
                gone.insert(site.clone(), place);
            }
        }
        let mut changed = BTreeSet::new();
        for piece in head.sites {
            let was = gone.remove(&piece.site);
            let place = Place {
                hash: piece.hash,
                at: behind + piece.at,
                len: piece.len as usize,
                groups: piece.groups,
            };
            let is_same = was.is_some_and(|was| was.hash == place.hash);
            let days = self.sites.entry(piece.site.clone()).or_default();
            if keep(days, day, place) && !is_same {
                changed.insert(piece.site);
            }
        }
        changed.extend(gone.into_keys());
        self.sites.retain(|_, days| !days.is_empty());
        changed.extend(self.bound(SITES_MAX));
        let all = All {
            manifest: head.manifest,
            day: head.all,
            other: head.other,
        };
        keep(&mut self.all, day, all);
        changed
    }

    /// Forgets sites where there are more than `most`: those that have been silent longest, of
    /// these the ones with the fewest requests. Clients name sites, so there is a bound.
    fn bound(&mut self, most: usize) -> Vec<String> {
        let excess = self.sites.len().saturating_sub(most);
        if excess == 0 {
            return Vec::new();
        }
        let rank = |(site, days): (&String, &BTreeMap<Day, Place>)| {
            let last = days.last_key_value().map(|(day, _)| *day);
            let requests: u64 = days.values().flat_map(|place| place.groups).sum();
            (last, requests, std::cmp::Reverse(site.clone()))
        };
        let mut ranks: Vec<_> = self.sites.iter().map(rank).collect();
        ranks.sort_unstable();
        let names = ranks.into_iter().take(excess).map(|(_, _, name)| name.0);
        let names: Vec<String> = names.collect();
        for name in &names {
            self.sites.remove(name);
        }
        names
    }

    /// Forgets a day. Gives the sites whose pages are others now.
    pub fn drop_day(&mut self, day: Day) -> BTreeSet<String> {
        self.all.remove(&day);
        let mut changed = BTreeSet::new();
        self.sites.retain(|site, days| {
            if days.remove(&day).is_some() {
                changed.insert(site.clone());
            }
            !days.is_empty()
        });
        changed
    }

    /// The parts that a site's page is made of.
    pub fn pieces(&self, site: &str) -> &BTreeMap<Day, Place> {
        static NONE: BTreeMap<Day, Place> = BTreeMap::new();
        self.sites.get(site).unwrap_or(&NONE)
    }

    /// What tells a site's page from any other; `None` of a site that has no days.
    pub fn about(&self, site: &str) -> Option<String> {
        let days = self.sites.get(site)?;
        Some(about(
            site,
            days.iter().map(|(day, place)| (*day, place.hash.as_str())),
        ))
    }

    pub fn sites(&self) -> impl Iterator<Item = &str> {
        self.sites.keys().map(String::as_str)
    }

    /// [`Self::about`] of each site.
    pub fn abouts(&self) -> impl Iterator<Item = (&str, String)> {
        self.sites()
            .filter_map(|site| Some((site, self.about(site)?)))
    }

    /// What tells one index from any other. A manifest's number stands for all that it says.
    pub fn about_index(&self) -> String {
        let days = self
            .all
            .iter()
            .map(|(day, all)| (*day, all.manifest.to_string()));
        let days: Vec<(Day, String)> = days.collect();
        // A site may have come whose days are all older than these.
        let mut names = Sha256::new();
        for site in self.sites.keys() {
            names.update(site);
            names.update("\n");
        }
        about(
            &crate::manifest::hex(&names.finalize()),
            days.iter().map(|(day, number)| (*day, number.as_str())),
        )
    }

    /// The index's data.
    pub fn index(&self) -> Vec<u8> {
        let mut lines: Vec<(u64, SiteLine<'_>)> = Vec::new();
        let groups = |days: &BTreeMap<Day, Place>| {
            let groups = days.iter().map(|(day, place)| (*day, place.groups));
            groups.collect::<BTreeMap<_, _>>()
        };
        for (site, days) in &self.sites {
            let days = groups(days);
            let line = SiteLine {
                name: if site.is_empty() { NO_SITE } else { site },
                file: Some(page::file_name(site)),
                days,
            };
            lines.push((line.days.values().flatten().sum(), line));
        }
        // Where there are too many, those with the most requests are listed.
        lines.sort_by_key(|(requests, line)| (std::cmp::Reverse(*requests), line.name));
        let mut lines: Vec<SiteLine<'_>> = lines.into_iter().map(|(_, line)| line).collect();
        let other = self
            .all
            .iter()
            .filter_map(|(day, all)| Some((*day, all.other?)));
        let other: BTreeMap<Day, _> = other.collect();
        if !other.is_empty() {
            let line = SiteLine {
                name: OTHER_SITES,
                file: None,
                days: other,
            };
            lines.insert(0, line);
        }
        let all = self.all.iter().map(|(day, all)| (*day, &all.day));
        data::index(&all.collect(), &lines)
    }
}

const NO_SITE: &str = "(records without a site)";
const OTHER_SITES: &str = "(sites that are not kept apart)";

/// Puts `value` at `day`, where that is not too long before the last one; drops what now is.
fn keep<T>(days: &mut BTreeMap<Day, T>, day: Day, value: T) -> bool {
    let last = days
        .last_key_value()
        .map_or(day, |(last, _)| day.max(*last));
    let first = Day(last.0 - DAYS_MAX + 1);
    if day < first {
        return false;
    }
    days.insert(day, value);
    *days = days.split_off(&first);
    true
}

fn about<'a>(name: &str, days: impl Iterator<Item = (Day, &'a str)>) -> String {
    let mut hash = Sha256::new();
    hash.update(page::version());
    hash.update([name.len() as u8]);
    hash.update(name);
    for (day, part) in days {
        hash.update(day.0.to_le_bytes());
        hash.update(part);
        hash.update(b"\n");
    }
    crate::manifest::hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sites: &[(&str, &str)]) -> Head {
        let piece = |(site, hash): &(&str, &str)| crate::report::days::Piece {
            site: (*site).to_owned(),
            hash: (*hash).to_owned(),
            at: 0,
            len: 1,
            groups: [1; 5],
        };
        Head {
            format: 1,
            day: String::new(),
            manifest: 2,
            sites: sites.iter().map(piece).collect(),
            other: None,
            all: SiteDay::default(),
        }
    }

    fn names(sites: BTreeSet<String>) -> Vec<String> {
        sites.into_iter().collect()
    }

    #[test]
    fn only_sites_with_another_part_are_others() {
        let mut known = Known::default();
        let day = Day(20_000);
        let changed = known.take(day, head(&[("", "1"), ("a", "1"), ("b", "1")]), 10);
        assert_eq!(names(changed), ["", "a", "b"]);
        let about = known.about("b");
        let changed = known.take(day, head(&[("", "1"), ("a", "2"), ("b", "1")]), 12);
        assert_eq!(names(changed), ["a"]);
        assert_eq!((known.about("b"), known.pieces("b")[&day].at), (about, 12));
        assert_eq!(
            names(known.take(day, head(&[("", "1"), ("a", "2")]), 12)),
            ["b"]
        );
        assert_eq!(known.about("b"), None);
        assert_eq!(names(known.drop_day(day)), ["", "a"]);
        assert_eq!(known.abouts().count(), 0);
    }

    #[test]
    fn above_the_bound_those_silent_longest_go() {
        let mut known = Known::default();
        known.take(Day(20_000), head(&[("b", "1"), ("c", "1"), ("d", "1")]), 0);
        known.take(Day(20_001), head(&[("a", "1"), ("c", "1")]), 0);
        assert_eq!(known.bound(4), [""; 0]);
        assert_eq!(known.bound(2), ["d", "b"]);
        assert_eq!(known.bound(1), ["a"], "one day less than c");
        assert_eq!(known.about("a"), None);
    }

    #[test]
    fn a_page_holds_so_many_days_in_whatever_order_they_come() {
        let days = [
            Day(20_000),
            Day(20_000 - DAYS_MAX + 1),
            Day(20_000 - DAYS_MAX),
            Day(3),
        ];
        for turn in 0..days.len() {
            let mut known = Known::default();
            let mut days = days;
            days.rotate_left(turn);
            for day in days {
                known.take(day, head(&[("a", "1")]), 0);
            }
            assert_eq!(known.pieces("a").len(), 2, "{turn}");
        }
        let mut known = Known::default();
        known.take(days[0], head(&[("a", "1")]), 0);
        let about = known.about("a");
        assert_eq!(
            names(known.take(Day(3), head(&[("a", "1"), ("b", "1")]), 0)),
            ["b"]
        );
        assert_eq!(
            known.about("a"),
            about,
            "a late record of long ago changes nothing here"
        );
    }
}
