//! Which reports are due, and putting them in place. What they hold is `report`'s business.
//!
//! A day that has changed gets a new file of its own (`report::days`); sites whose part of it is
//! another one get a new page, made of the parts of up to 90 days, and so does the index. So what
//! a run costs follows the sites that have something new. All of it is made from the manifest's
//! states, and made again where it is missing or old: no page is state.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use pipeline_core::{fsx, telemetry::catalog};

use crate::{
    hour::Day,
    keeper::Keeper,
    report::{data, days, page},
    run::{GoOn, RunError},
    state::StateError,
    summaries::{put, sync},
};

mod known;

use known::Known;

/// Of its time, a process gives to reports one part in this many: pages of thousands of sites are
/// not made anew at each tick.
const TIME_SHARE: u32 = 20;
/// What a rendering may take without a pause behind it.
const TIME_FREE: Duration = Duration::from_millis(500);

#[derive(Default)]
pub struct Reports {
    /// What the days' files hold; `None`: they were not looked at yet.
    known: Option<Known>,
    days: BTreeSet<Day>,
    sites: BTreeSet<String>,
    index: bool,
    /// Look for pages of sites that are no more.
    tidy: bool,
    /// How many days there were: fewer, and some were removed.
    day_count: usize,
    not_before: Option<Instant>,
}

impl Reports {
    pub fn days_changed(&mut self, days: impl Iterator<Item = Day>) {
        self.days.extend(days);
    }

    /// The next rendering looks at all that stands there.
    pub fn forget(&mut self) {
        *self = Self {
            not_before: self.not_before,
            ..Self::default()
        };
    }

    /// Writes each page that is due, unless that was done only just; gives their number. After an
    /// error it is unknown what is due: see [`Reports::forget`].
    pub fn render(&mut self, keeper: &Keeper, go_on: GoOn<'_>) -> Result<u64, RunError> {
        let now = Instant::now();
        if self.not_before.is_some_and(|time| now < time) {
            return Ok(0);
        }
        let mut known = match self.known.take() {
            Some(known) => known,
            None => self.look(keeper)?,
        };
        let mut written = 0;
        let tidy = std::mem::take(&mut self.tidy);
        let days = keeper.manifest.days.len();
        let fewer = days < std::mem::replace(&mut self.day_count, days);
        let due = !self.days.is_empty() || !self.sites.is_empty() || self.index || fewer;
        if tidy || due {
            self.drop_removed_days(&mut known, keeper, go_on)?;
            // A second time where a day's file turned out to be damaged.
            for _ in 0..2 {
                self.write_days(&mut known, keeper, go_on)?;
                written += self.write_sites(&mut known, keeper, go_on)?;
                if self.days.is_empty() {
                    break;
                }
            }
            written += self.write_index(&known, keeper, go_on)?;
            if tidy {
                drop_other_pages(&known, keeper, go_on)?;
            }
            metrics::counter!(catalog::AGGREGATION_REPORTS).increment(written);
            metrics::histogram!(catalog::AGGREGATION_REPORTS_DURATION)
                .record(now.elapsed().as_secs_f64());
            let took = now.elapsed().saturating_sub(TIME_FREE);
            self.not_before = Some(Instant::now() + took * (TIME_SHARE - 1));
        }
        self.known = Some(known);
        Ok(written)
    }

    /// Reads what stands there, and finds what is not as the manifest says.
    fn look(&mut self, keeper: &Keeper) -> Result<Known, RunError> {
        let mut known = Known::default();
        let days = &keeper.manifest.days;
        // From the newest on: older days than a page shows are not kept in mind.
        for (&day, entry) in days.iter().rev() {
            match read_head(&day_path(keeper, day), day) {
                Some((head, behind)) if head.manifest == entry.changed => {
                    known.take(day, head, behind);
                }
                _ => {
                    self.days.insert(day);
                }
            }
        }
        let pages = pages_dir(keeper);
        for (site, about) in known.abouts() {
            if shown(&pages.join(page::file_name(site))).as_deref() != Some(&about) {
                self.sites.insert(site.to_owned());
            }
        }
        self.index |=
            shown(&index_path(keeper)).as_deref() != Some(&known.about_index()) && !days.is_empty();
        self.tidy = true;
        Ok(known)
    }

    /// Files of days that the manifest has no more, and pages of sites that have none left.
    fn drop_removed_days(
        &mut self,
        known: &mut Known,
        keeper: &Keeper,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        let is_there = |day: Day| keeper.manifest.days.contains_key(&day);
        for name in list(&days_dir(keeper))? {
            let day = Day::parse(&name);
            if day.is_some_and(is_there) {
                continue;
            }
            keeper.remove(&days_dir(keeper).join(&name), go_on)?;
            if let Some(day) = day {
                self.days.remove(&day);
                self.sites.extend(known.drop_day(day));
                self.index = true;
            }
        }
        Ok(())
    }

    fn write_days(
        &mut self,
        known: &mut Known,
        keeper: &Keeper,
        go_on: GoOn<'_>,
    ) -> Result<(), RunError> {
        let due = std::mem::take(&mut self.days);
        for &day in due.iter().rev() {
            // None: it was removed.
            let Some(state) = keeper.day(day)? else {
                continue;
            };
            let changed = keeper.manifest.days[&day].changed;
            let file = days::write(day, changed, &state.content()?);
            put(keeper, &day_path(keeper, day), &file, go_on)?;
            let end = file.iter().position(|byte| *byte == b'\n').expect("a head") + 1;
            let head = days::read_head(&file[..end], day).expect("what was just written");
            self.sites.extend(known.take(day, head, end as u64));
            self.index = true;
        }
        if !due.is_empty() {
            sync(&days_dir(keeper), go_on)?;
        }
        Ok(())
    }

    fn write_sites(
        &mut self,
        known: &mut Known,
        keeper: &Keeper,
        go_on: GoOn<'_>,
    ) -> Result<u64, RunError> {
        let due = std::mem::take(&mut self.sites);
        let mut files: BTreeMap<Day, File> = BTreeMap::new();
        let mut written = 0;
        for site in &due {
            let path = pages_dir(keeper).join(page::file_name(site));
            let Some(about) = known.about(site) else {
                keeper.remove(&path, go_on)?;
                continue;
            };
            let mut days = BTreeMap::new();
            for (day, piece) in known.pieces(site) {
                match read_piece(&mut files, keeper, *day, piece) {
                    Some(found) => {
                        days.insert(*day, found);
                    }
                    None => {
                        tracing::warn!(%day, "the day's file for reports is damaged: made again");
                        self.days.insert(*day);
                    }
                }
            }
            if days.len() < known.pieces(site).len() {
                self.sites.insert(site.clone());
                continue;
            }
            let page = page::page(&about, &data::site(site, &days));
            put_page(keeper, &path, &page, go_on)?;
            written += 1;
        }
        if !due.is_empty() {
            sync(&pages_dir(keeper), go_on)?;
        }
        Ok(written)
    }

    fn write_index(
        &mut self,
        known: &Known,
        keeper: &Keeper,
        go_on: GoOn<'_>,
    ) -> Result<u64, RunError> {
        if !std::mem::take(&mut self.index) {
            return Ok(0);
        }
        if keeper.manifest.days.is_empty() {
            keeper.remove(&index_path(keeper), go_on)?;
            return Ok(0);
        }
        let page = page::page(&known.about_index(), &known.index());
        put_page(keeper, &index_path(keeper), &page, go_on)?;
        sync(keeper.dir.analytics(), go_on)?;
        Ok(1)
    }
}

fn put_page(keeper: &Keeper, path: &Path, page: &[u8], go_on: GoOn<'_>) -> Result<(), RunError> {
    put(keeper, path, page, go_on)?;
    metrics::counter!(catalog::AGGREGATION_REPORT_BYTES).increment(page.len() as u64);
    Ok(())
}

/// Pages that a process left which ended between the removal of a site's last day and of its page.
fn drop_other_pages(known: &Known, keeper: &Keeper, go_on: GoOn<'_>) -> Result<(), RunError> {
    let dir = pages_dir(keeper);
    let expected: BTreeSet<String> = known.sites().map(page::file_name).collect();
    for name in list(&dir)? {
        let path = dir.join(&name);
        // What is not of ours was put there by someone.
        if !expected.contains(&name) && shown(&path).is_some() {
            keeper.remove(&path, go_on)?;
        }
    }
    Ok(())
}

fn index_path(keeper: &Keeper) -> PathBuf {
    keeper.dir.analytics().join("report.html")
}

fn pages_dir(keeper: &Keeper) -> PathBuf {
    keeper.dir.analytics().join("reports")
}

fn days_dir(keeper: &Keeper) -> PathBuf {
    keeper.dir.dir().join("reports")
}

fn day_path(keeper: &Keeper, day: Day) -> PathBuf {
    days_dir(keeper).join(day.to_string())
}

/// What the page at `path` says of itself.
fn shown(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(path)
        .ok()?
        .take(256)
        .read_to_end(&mut head)
        .ok()?;
    page::about(&head).map(str::to_owned)
}

/// The head of a day's file, and where its pieces begin; `None` where there is nothing of use.
fn read_head(path: &Path, day: Day) -> Option<(days::Head, u64)> {
    let mut line = Vec::new();
    BufReader::new(File::open(path).ok()?)
        .read_until(b'\n', &mut line)
        .ok()?;
    Some((days::read_head(&line, day)?, line.len() as u64))
}

fn read_piece(
    files: &mut BTreeMap<Day, File>,
    keeper: &Keeper,
    day: Day,
    piece: &known::Place,
) -> Option<crate::report::day::SiteDay> {
    let file = match files.entry(day) {
        Entry::Occupied(open) => open.into_mut(),
        Entry::Vacant(place) => place.insert(File::open(day_path(keeper, day)).ok()?),
    };
    let mut bytes = vec![0; piece.len];
    file.read_exact_at(&mut bytes, piece.at).ok()?;
    days::read_piece(&bytes, &piece.hash)
}

fn list(dir: &Path) -> Result<Vec<String>, StateError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    fsx::list_dir(dir).map_err(StateError::io("list", dir))
}
