//! What a drill ends with.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// All that was seen.
#[derive(Debug)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Fired though nobody had planned it.
    pub others: Vec<String>,
    /// Firing at the end.
    pub still: Vec<String>,
    pub took: Duration,
}

/// One alert.
#[derive(Debug)]
pub struct Row {
    pub alert: &'static str,
    pub label: &'static str,
    pub cause: &'static str,
    /// After the cause.
    pub fired: Duration,
    /// Commands of the runbook's **Confirm** that ran.
    pub confirmed: usize,
    /// When mending began.
    pub mended: Instant,
    /// After that.
    pub over: Option<Duration>,
}

impl Report {
    /// Each alert fired and was over, and nothing else is left.
    pub fn holds(&self) -> bool {
        let over = self.rows.iter().all(|row| row.over.is_some());
        over && self.others.is_empty() && self.still.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<28} {:<44} {:>8} {:>8} {:>8}",
            "alert", "cause", "fires", "commands", "over"
        )?;
        for row in &self.rows {
            let over = row.over;
            let over = over.map_or("never".to_owned(), |it| {
                format!("{:.1} s", it.as_secs_f64())
            });
            writeln!(
                f,
                "{:<28} {:<44} {:>6.1} s {:>8} {over:>8}",
                row.alert,
                row.cause,
                row.fired.as_secs_f64(),
                row.confirmed,
            )?;
        }
        for name in &self.others {
            writeln!(f, "{name:<28} NOT PLANNED: it fired, too")?;
        }
        for name in &self.still {
            writeln!(f, "STILL FIRING: {name}")?;
        }
        write!(
            f,
            "{} alerts fired and were over in {:.0} s",
            self.rows.len(),
            self.took.as_secs_f64()
        )
    }
}
