//! `top`: what stands most often in one summary, as a table or as JSON. Reads the file that anybody
//! may read and nothing else; text from logs never reaches a terminal as it is.

mod show;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use pipeline_core::{
    command::{print, say},
    lifecycle::{CommonArgs, exit},
};

use self::summary::{Found, Summary};
use crate::{
    hour::{Day, Hour},
    render,
};

/// Show what was asked for most, and by whom, in one hour or day
///
/// Reads the summary under storage.analyticsDir; it holds what was counted up to the last run. A path
/// or agent that is not in printable characters is shown escaped; --json has it as it is.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    aggregator top --day 2026-05-17\n  \
    aggregator top --by bot --day 2026-05-17 --site shop.example --limit 50\n  \
    aggregator top --by agent --hour 2026-05-17T10 --json | jq -r '.rows[].agent'")]
#[command(group = clap::ArgGroup::new("when").required(true).args(["hour", "day"]))]
pub struct Args {
    /// What to list
    #[arg(long, value_enum, default_value_t = By::Path)]
    by: By,
    /// The hour, in UTC, as 2026-05-17T10
    #[arg(long, value_name = "HOUR", value_parser = hour)]
    hour: Option<Hour>,
    /// The day, in UTC, as 2026-05-17
    #[arg(long, value_name = "DAY", value_parser = day)]
    day: Option<Day>,
    /// Of this site alone
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Where the summaries are, if not in the configuration's storage.analyticsDir
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    Path,
    Agent,
    /// With operator and purpose
    Bot,
    Site,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Agent => "agent",
            Self::Bot => "bot",
            Self::Site => "site",
        }
    }
}

impl Args {
    pub fn run(&self, common: &CommonArgs) -> u8 {
        let configured = || common.load_or_exit().storage.analytics_dir;
        let dir = self.dir.clone().unwrap_or_else(configured);
        match self.find(&dir) {
            Ok(found) => print(&dir, |out| self.show(&found, out)),
            Err(error) => {
                say(&error);
                exit::FAILED
            }
        }
    }

    fn show(&self, found: &Found, out: &mut dyn Write) -> io::Result<u8> {
        let asked = show::Asked {
            by: self.by,
            time: self.time(),
            unit: if self.hour.is_some() { "hour" } else { "day" },
            site: self.site.as_deref(),
            limit: self.limit as usize,
        };
        if self.json {
            show::json(&asked, found, out)?;
        } else {
            show::table(&asked, found, out)?;
        }
        Ok(exit::OK)
    }

    fn find(&self, dir: &Path) -> Result<Found, String> {
        let path = match (self.hour, self.day) {
            (Some(hour), _) => render::hour_path(dir, hour),
            (None, Some(day)) => render::day_path(dir, day),
            (None, None) => unreachable!("clap asks for one of them"),
        };
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.nothing_here(dir),
            _ => format!("cannot read {}: {error}", path.display()),
        })?;
        let summary: Summary = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{} is no summary: {error}", path.display()))?;
        summary
            .found(self.by, self.site.as_deref())
            .map_err(|there| {
                let site = self.site.as_deref().unwrap_or_default();
                format!(
                    "no record of the site {site:?} was counted in {}; there are {}",
                    self.time(),
                    show::some_of(&there)
                )
            })
    }

    fn nothing_here(&self, dir: &Path) -> String {
        let mut days: Vec<String> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| Day::parse(name).is_some())
            .collect();
        days.sort_unstable();
        let there = match (days.first(), days.last()) {
            (Some(first), Some(last)) => format!("the days with records are {first} to {last}"),
            _ => format!("there is no summary at all in {}", dir.display()),
        };
        format!("nothing was counted for {}; {there}", self.time())
    }

    fn time(&self) -> String {
        let hour = self.hour.map(|hour| hour.to_string());
        hour.or_else(|| self.day.map(|day| day.to_string()))
            .unwrap_or_default()
    }
}

fn hour(text: &str) -> Result<Hour, String> {
    Hour::parse(text).ok_or_else(|| "allowed is an hour as 2026-05-17T10 (UTC)".to_owned())
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| "allowed is a day as 2026-05-17 (UTC)".to_owned())
}
