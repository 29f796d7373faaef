//! Which summaries are due, and putting them in place. What they hold is `render`'s business.

use std::{collections::BTreeSet, path::Path};

use pipeline_core::fsx;

use crate::{
    archive::files,
    hour::{Day, Hour, Period},
    keeper::Keeper,
    render, retention,
    run::{GoOn, RunError, Step, ask},
    state::StateError,
};

/// What has changed since it was rendered.
#[derive(Default)]
pub struct Due {
    hours: BTreeSet<Hour>,
    days: BTreeSet<Day>,
}

impl Due {
    pub fn hours_changed(&mut self, hours: &[Hour]) {
        self.days.extend(hours.iter().map(|hour| hour.day()));
        self.hours.extend(hours);
    }

    /// Adds each summary that does not show what the manifest says.
    pub fn find_old(&mut self, keeper: &Keeper) -> Result<(), RunError> {
        let analytics = keeper.dir.analytics();
        for (&day, entry) in &keeper.manifest.days {
            if render::shown(&render::day_path(analytics, day)) != Some(entry.changed) {
                self.days.insert(day);
            }
            for (hour, entry) in keeper.hours(day)? {
                if render::shown(&render::hour_path(analytics, hour)) != Some(entry.changed) {
                    self.hours.insert(hour);
                }
            }
        }
        Ok(())
    }

    /// Writes each summary that is due; gives their number. After an error it is unknown what is
    /// due: [`Due::find_old`] says.
    pub fn render(&mut self, keeper: &Keeper, go_on: GoOn<'_>) -> Result<u64, RunError> {
        let analytics = keeper.dir.analytics();
        let mut written = 0;
        let mut days = self.days.clone();
        days.extend(self.hours.iter().map(|hour| hour.day()));
        for day in days {
            let hours: Vec<Hour> = self.hours.range(day.hours()).copied().collect();
            if !hours.is_empty() {
                let entries = keeper.hours(day)?;
                for hour in hours {
                    let Some(entry) = entries.get(&hour) else {
                        continue;
                    };
                    let state = keeper.state(&entry.name(Period::Hour(hour)))?;
                    let json = render::hour(hour, entry.changed, &state.content()?);
                    put(keeper, &render::hour_path(analytics, hour), &json, go_on)?;
                    written += 1;
                }
            }
            if self.days.contains(&day)
                && let Some(state) = keeper.day(day)?
            {
                let changed = keeper.manifest.days[&day].changed;
                let json = render::day(day, changed, &state.content()?);
                put(keeper, &render::day_path(analytics, day), &json, go_on)?;
                written += 1;
            }
            let dir = render::day_dir(analytics, day);
            if dir.is_dir() {
                sync(&dir, go_on)?;
            }
        }
        self.hours.clear();
        self.days.clear();
        Ok(written)
    }
}

/// Removes summaries of hours and days in which nothing is counted: a rebuild has found less.
pub fn remove_uncounted(keeper: &Keeper, go_on: GoOn<'_>) -> Result<(), RunError> {
    let analytics = keeper.dir.analytics();
    for name in files::names(analytics)? {
        let Some(day) = Day::parse(&name) else {
            continue;
        };
        if !keeper.manifest.days.contains_key(&day) {
            retention::remove_dir(keeper, &analytics.join(name), go_on)?;
            continue;
        }
        let found = files::names(&analytics.join(&name))?;
        let hours = keeper.hours(day)?;
        for hour in (day.hours().start.0..day.hours().end.0).map(Hour) {
            let path = render::hour_path(analytics, hour);
            let stands = |name: &String| path.file_name() == Some(name.as_ref());
            if !hours.contains_key(&hour) && found.iter().any(stands) {
                keeper.remove(&path, go_on)?;
            }
        }
    }
    Ok(())
}

/// Puts `bytes` in the place of whatever stands at `path`. Durable once its directory is fsynced.
pub fn put(keeper: &Keeper, path: &Path, bytes: &[u8], go_on: GoOn<'_>) -> Result<(), RunError> {
    let dir = path.parent().expect("it is in a directory of ours");
    if !dir.is_dir() {
        fsx::create_dirs(dir).map_err(StateError::io("make directory", dir))?;
    }
    // Not beside its target: what a killed process leaves is out of people's sight.
    let temporary =
        fsx::Temporary::write_in(keeper.dir.dir(), bytes).map_err(StateError::io("write", path))?;
    ask(go_on, Step::RenameSummary)?;
    keeper.look()?;
    temporary
        .rename(path)
        .map_err(StateError::io("rename to", path))?;
    Ok(())
}

pub fn sync(dir: &Path, go_on: GoOn<'_>) -> Result<(), RunError> {
    ask(go_on, Step::SyncSummaries)?;
    fsx::sync_dir(dir).map_err(StateError::io("fsync", dir))?;
    Ok(())
}
