//! What a delta and what is held add to days and their hours: reads their states, adds, checks that nothing was
//! lost on the way, and writes new ones beside them. Commits nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    counts::{Content, Limits},
    fold::Delta,
    held::Held,
    hour::{Day, Hour, Period},
    keeper::Keeper,
    run::{GoOn, RunError, Step, ask},
    state::{self, Entry, Hours, State, StateName},
};

/// States that are written and that no manifest names yet.
#[derive(Default)]
pub struct Written {
    pub days: BTreeMap<Day, Entry>,
    /// In order.
    pub hours: Vec<Hour>,
    /// The states that are replaced by these.
    pub replaced: Vec<StateName>,
}

/// Writes the states of all hours and days that `held` and `delta` touch, for manifest `number`.
pub fn add(
    keeper: &Keeper,
    number: u64,
    held: &Held,
    delta: &Delta,
    limits: Limits,
    go_on: GoOn<'_>,
) -> Result<Written, RunError> {
    let mut new: BTreeMap<Day, Vec<(Hour, Content<'_>)>> = BTreeMap::new();
    for (hour, content) in delta.hours(limits.keys) {
        new.entry(hour.day()).or_default().push((hour, content));
    }
    let touched: BTreeSet<Day> = held.days().chain(new.keys().copied()).collect();
    let mut written = Written::default();
    let writer = Writer {
        keeper,
        number,
        limits,
    };
    for day in touched {
        let held = held.of(day)?;
        let mut added: BTreeMap<Hour, Vec<Content<'_>>> = BTreeMap::new();
        for held in &held {
            added.entry(held.hour).or_default().push(held.content()?);
        }
        for (hour, content) in new.remove(&day).unwrap_or_default() {
            added.entry(hour).or_default().push(content);
        }
        let state = keeper.day(day)?;
        let mut hours = match &state {
            Some(state) => state.head.hours.clone(),
            None => Hours::new(),
        };
        check_day(keeper, day, state.as_ref(), &hours)?;
        for (hour, contents) in &added {
            ask(go_on, Step::WriteState)?;
            let period = Period::Hour(*hour);
            let state = match hours.get(hour) {
                Some(entry) => Some(keeper.state(&entry.name(period))?),
                None => None,
            };
            let entry = writer.write(period, state.as_ref(), contents, Hours::new())?;
            if let Some(replaced) = hours.insert(*hour, entry) {
                written.replaced.push(replaced.name(period));
            }
            written.hours.push(*hour);
        }
        ask(go_on, Step::WriteState)?;
        let contents: Vec<_> = added.into_values().flatten().collect();
        let entry = writer.write(Period::Day(day), state.as_ref(), &contents, hours)?;
        written.replaced.extend(keeper.manifest.state_name(day));
        written.days.insert(day, entry);
    }
    Ok(written)
}

struct Writer<'a> {
    keeper: &'a Keeper,
    number: u64,
    limits: Limits,
}

impl Writer<'_> {
    /// Writes the sum of what `period` has and `added`.
    fn write(
        &self,
        period: Period,
        state: Option<&State>,
        added: &[Content<'_>],
        hours: Hours,
    ) -> Result<Entry, RunError> {
        let books = |detail: String| RunError::Books(format!("the counts of {period}: {detail}"));
        let before = state.map(State::content).transpose()?;
        let parts: Vec<&Content<'_>> = before.iter().chain(added).collect();
        let expected: u64 = parts.iter().map(|part| part.requests()).sum();
        let sum = Content::sum(&parts, self.limits);
        sum.check().map_err(books)?;
        let found = sum.requests();
        if found != expected {
            return Err(books(format!(
                "{found} requests of {expected} that were added up"
            )));
        }
        let dir = self.keeper.dir.counts();
        Ok(state::write(dir, period, self.number, &sum, hours)?)
    }
}

/// That what is known of a day holds the same requests.
fn check_day(
    keeper: &Keeper,
    day: Day,
    state: Option<&State>,
    hours: &Hours,
) -> Result<(), RunError> {
    let named = keeper.manifest.days.get(&day).map_or(0, |day| day.requests);
    let in_day = state.map_or(0, |state| state.head.requests);
    let in_hours: u64 = hours.values().map(|hour| hour.requests).sum();
    if named == in_day && in_day == in_hours {
        return Ok(());
    }
    Err(RunError::Books(format!(
        "{in_hours} requests in the hours of {day}, {in_day} in its state, the manifest says {named}"
    )))
}
