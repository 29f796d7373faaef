//! Which summaries are due, and putting them in place. What they hold is `render`'s business.

use std::{collections::BTreeSet, path::Path};

use pipeline_core::fsx;

use crate::{
    counts::{Content, Limits},
    hour::{Day, Hour},
    keeper::Keeper,
    manifest::Manifest,
    render,
    run::{GoOn, RunError, Step, ask},
    state::{State, StateError},
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
    pub fn find_old(&mut self, keeper: &Keeper) {
        let manifest = &keeper.manifest;
        let analytics = keeper.dir.analytics();
        let mut days = BTreeSet::new();
        for (&hour, entry) in &manifest.hours {
            days.insert(hour.day());
            if render::shown(&render::hour_path(analytics, hour)) != Some(entry.changed) {
                self.hours.insert(hour);
            }
        }
        days.retain(|day| {
            let shown = render::shown(&render::day_path(analytics, *day));
            shown != Some(changed_day(manifest, *day))
        });
        self.days.extend(days);
    }

    /// Writes each summary that is due; gives their number. After an error it is unknown what is
    /// due: [`Due::find_old`] says.
    pub fn render(
        &mut self,
        keeper: &Keeper,
        limits: Limits,
        go_on: GoOn<'_>,
    ) -> Result<u64, RunError> {
        let manifest = &keeper.manifest;
        let analytics = keeper.dir.analytics();
        let mut written = 0;
        let mut dirs = BTreeSet::new();
        for &hour in &self.hours {
            let Some(state) = keeper.state(hour)? else {
                continue;
            };
            let json = render::hour(hour, manifest.hours[&hour].changed, &state.content()?);
            put(keeper, &render::hour_path(analytics, hour), &json, go_on)?;
            dirs.insert(hour.day());
            written += 1;
        }
        for &day in &self.days {
            let mut states = Vec::new();
            for (hour, _) in manifest.hours.range(day.hours()) {
                states.extend(keeper.state(*hour)?);
            }
            let parts = states
                .iter()
                .map(State::content)
                .collect::<Result<_, _>>()?;
            let content = Content::sum(parts, limits);
            let json = render::day(day, changed_day(manifest, day), &content);
            put(keeper, &render::day_path(analytics, day), &json, go_on)?;
            dirs.insert(day);
            written += 1;
        }
        for day in dirs {
            ask(go_on, Step::SyncSummaries)?;
            let dir = render::day_dir(analytics, day);
            fsx::sync_dir(&dir).map_err(StateError::io("fsync", &dir))?;
        }
        self.hours.clear();
        self.days.clear();
        Ok(written)
    }
}

fn put(keeper: &Keeper, path: &Path, json: &[u8], go_on: GoOn<'_>) -> Result<(), RunError> {
    let dir = path.parent().expect("a summary is in a day's directory");
    if !dir.is_dir() {
        fsx::create_dirs(dir).map_err(StateError::io("make directory", dir))?;
    }
    // Not beside its target: what a killed process leaves is out of people's sight.
    let temporary =
        fsx::Temporary::write_in(keeper.dir.dir(), json).map_err(StateError::io("write", path))?;
    ask(go_on, Step::RenameSummary)?;
    keeper.look()?;
    temporary
        .rename(path)
        .map_err(StateError::io("rename to", path))?;
    Ok(())
}

/// The manifest that last changed any hour of `day`.
fn changed_day(manifest: &Manifest, day: Day) -> u64 {
    let entries = manifest.hours.range(day.hours());
    entries.map(|(_, entry)| entry.changed).max().unwrap_or(0)
}
