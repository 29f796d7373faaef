//! A log stays readable in any fault: at most ten lines a second, whatever happens how often. What
//! is said again and again is said some times, then summed up: "37 more of these in the last
//! second", with the last of them and the partitions that were named. Lines at `debug` and below
//! are all written: who asks for them wants each.
//!
//! It decides nothing about what is an event, and changes none.

mod budget;

use std::{
    fmt::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

use tracing::{
    Event, Level, Metadata, Subscriber, callsite,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use self::budget::{Budget, SPAN};

/// Of the summaries, which are counted where they are made.
const TARGET: &str = "pipeline_core::repeated";

/// The layer. Clones share what was written.
#[derive(Clone, Default)]
pub struct Repeats {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    budget: Mutex<Budget<Place>>,
    /// Something is to be summed up.
    withheld: Condvar,
}

/// A place in the code.
#[derive(Clone, Copy)]
struct Place(&'static Metadata<'static>);

impl Repeats {
    /// With a thread of its own that writes the summaries: they come also when nothing else is
    /// said any more.
    pub fn start() -> Self {
        let repeats = Self::default();
        let shared = Arc::clone(&repeats.shared);
        let summing = thread::Builder::new().name("log-summaries".to_owned());
        // Without it lines are withheld all the same, and a summary is only missed.
        let _ = summing.spawn(move || {
            loop {
                shared.wait();
                thread::sleep(SPAN);
                shared.sum_up();
            }
        });
        repeats
    }

    /// All summaries that are due, at once.
    pub fn end(&self) {
        while self.shared.sum_up() {}
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let place = Place(metadata);
        let asked = budget::Event {
            place,
            is_error: *metadata.level() == Level::ERROR,
        };
        if self.shared.lock().takes(asked, Instant::now()) {
            return true;
        }
        let mut said = Said::default();
        event.record(&mut said);
        let Said {
            mut text,
            fields,
            partition,
        } = said;
        text.push_str(&fields);
        self.shared.lock().withhold(place, text, partition);
        self.shared.withheld.notify_one();
        false
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Budget<Place>> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let budget = self.lock();
        let waiting = self.withheld.wait_while(budget, |budget| !budget.is_due());
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether there was anything to be said.
    fn sum_up(&self) -> bool {
        let due = self.lock().summaries();
        let any = !due.is_empty();
        for (Place(of), withheld) in due {
            let (lines, last) = (withheld.lines, withheld.last);
            let partitions: Vec<_> = withheld.partitions.into_iter().collect();
            let partitions = (!partitions.is_empty()).then(|| partitions.join(","));
            let from = of.target();
            // The level is part of a place, so each has its own.
            macro_rules! say {
                ($level:expr) => {
                    tracing::event!(
                        target: TARGET,
                        $level,
                        lines,
                        from,
                        partitions,
                        "{lines} more of these in the last second, the last: {last}"
                    )
                };
            }
            match *of.level() {
                Level::ERROR => say!(Level::ERROR),
                Level::WARN => say!(Level::WARN),
                _ => say!(Level::INFO),
            }
        }
        any
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.0.callsite() == other.0.callsite()
    }
}

impl Eq for Place {}

impl std::hash::Hash for Place {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let id: callsite::Identifier = self.0.callsite();
        id.hash(state);
    }
}

/// An event's words, as a line has them.
#[derive(Default)]
struct Said {
    text: String,
    fields: String,
    partition: Option<String>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A String takes every write.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => {
                if name == "partition" {
                    self.partition = Some(format!("{value:?}"));
                }
                write!(self.fields, " {name}={value:?}")
            }
        };
    }
}

#[cfg(test)]
mod tests;
