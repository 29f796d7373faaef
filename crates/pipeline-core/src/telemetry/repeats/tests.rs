use std::io;

use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What a log has after this, with summaries made by hand.
fn logged(json: bool, say: impl Fn()) -> String {
    let (lines, repeats) = (Lines::default(), Repeats::default());
    let builder = tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .with_writer(lines.clone());
    let sum_up = || {
        say();
        repeats.shared.sum_up();
    };
    if json {
        let subscriber = builder.json().flatten_event(true).finish();
        tracing::subscriber::with_default(subscriber.with(repeats.clone()), sum_up);
    } else {
        let subscriber = builder.with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber.with(repeats.clone()), sum_up);
    }
    lines.text()
}

fn flood() {
    for partition in 0..50 {
        tracing::warn!(partition, error = "away", "fetch failed");
    }
}

#[test]
fn a_flood_is_summed_up_in_text_and_json() {
    let text = logged(false, flood);
    assert_eq!(text.lines().count(), 4, "{text}");
    let last = text.lines().last().unwrap();
    for part in [
        " WARN ",
        "47 more of these in the last second",
        "fetch failed partition=49 error=\"away\"",
        "lines=47",
        "from=\"pipeline_core::telemetry::repeats::tests\"",
        "partitions=\"10,11,",
    ] {
        assert!(last.contains(part), "{part} is not in {last}");
    }
    let json = logged(true, flood);
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!(last["lines"], 47);
    assert_eq!(last["level"], "WARN");
}

#[test]
fn what_was_asked_for_is_all_written() {
    let text = logged(false, || {
        for batch in 0..50 {
            tracing::debug!(batch, "accepted");
        }
    });
    assert_eq!(text.lines().count(), 50, "{text}");
}
