//! What the commands of the services share: printing that ends well on a closed pipe, words on
//! stderr, progress that is seldom where nobody watches, options and values of the command line.
//! Decides nothing and reads no file.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::{lifecycle::exit, record::timestamp};

/// Between words of progress, on a terminal and elsewhere.
const PROGRESS_EVERY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// Prints to stdout what is known of `place`; gives the exit code, that of `run` where it ends.
pub fn print(place: &Path, run: impl FnOnce(&mut dyn Write) -> io::Result<u8>) -> u8 {
    let mut out = io::BufWriter::new(io::stdout().lock());
    // Whoever reads it has seen enough where the pipe is closed: what was found holds all the same.
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    match run(&mut out).map(|code| (code, out.flush())) {
        Ok((code, Ok(()))) => code,
        Ok((code, Err(error))) if closed(&error) => code,
        Err(error) if closed(&error) => exit::OK,
        Ok((_, Err(error))) | Err(error) => failed(place, &error),
    }
}

/// What went wrong with `place`, to stderr; gives the exit code.
#[must_use]
pub fn failed(place: &Path, error: &dyn fmt::Display) -> u8 {
    say(&format!("{}: {error}", place.display()));
    exit::FAILED
}

/// That somebody else has `place`, to stderr; gives the exit code. `advice` is what follows.
#[must_use]
pub fn in_use(place: &Path, by: &str, advice: &str) -> u8 {
    say(&format!(
        "{} is in use by {by}: nothing was changed{advice}",
        place.display()
    ));
    exit::TRY_LATER
}

/// When what is asked for was first received, in ms since 1970.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Received {
    /// Only what was first received at this time (RFC 3339) or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// Only what was first received before this time (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
}

impl Received {
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    /// Says so where nothing can be received then, by a slip on the command line; gives the exit
    /// code.
    #[must_use]
    pub fn refused(&self) -> Option<u8> {
        let is_turned = self.from.zip(self.to).is_some_and(|(from, to)| from > to);
        is_turned.then(|| {
            say("error: --from is later than --to");
            exit::USAGE
        })
    }

    #[must_use]
    pub fn has(&self, at_ms: i64) -> bool {
        self.from.is_none_or(|from| from <= at_ms) && self.to.is_none_or(|to| at_ms < to)
    }
}

/// How a replay of dead letters sends.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Sending {
    /// Only say what would be sent
    #[arg(long)]
    pub dry_run: bool,
    /// Send at most this many records a second (what is kept as one goes as a whole)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Give up when Kafka has taken nothing for this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = WAIT_SECONDS)]
    pub wait: u64,
}

const WAIT_SECONDS: u64 = 60;

impl Default for Sending {
    fn default() -> Self {
        Self {
            dry_run: false,
            rate: None,
            wait: WAIT_SECONDS,
        }
    }
}

/// To stderr; that it is closed changes nothing.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Text from logs as a terminal may show it: on one line, and without what the terminal would obey
/// or what would turn the order of the rest around.
#[must_use]
pub fn plain(text: &str) -> String {
    const HIDDEN: [std::ops::RangeInclusive<char>; 4] = [
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{2069}',
        '\u{feff}'..='\u{feff}',
    ];
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || HIDDEN.iter().any(|range| range.contains(&char)) {
            plain.extend(char.escape_default());
        } else {
            plain.push(char);
        }
    }
    plain
}

/// For clap: RFC 3339, in ms since 1970.
///
/// # Errors
/// Names what is allowed.
pub fn time(text: &str) -> Result<i64, String> {
    let time = timestamp::parse(text.as_bytes());
    let time = time.map_err(|error| format!("{error}; allowed is {}", timestamp::ALLOWED))?;
    Ok(time.to_ms())
}

/// Words about a long work, on stderr: one line that changes on a terminal, a line now and then
/// elsewhere, none about work that is done at once.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    last: Mutex<Instant>,
}

impl Progress {
    #[must_use]
    pub fn begin() -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            last: Mutex::new(Instant::now()),
        }
    }

    /// Shows the line if it is time for one. May be called often, and from any thread.
    pub fn show(&self, line: impl FnOnce() -> String) {
        // Whoever finds it locked need not wait: another one is about to show something.
        let Ok(mut last) = self.last.try_lock() else {
            return;
        };
        if last.elapsed() < PROGRESS_EVERY[usize::from(!self.terminal)] {
            return;
        }
        *last = Instant::now();
        let line = line();
        let mut err = io::stderr();
        let _ = if self.terminal {
            write!(err, "\r{line}\x1b[K").and_then(|()| err.flush())
        } else {
            writeln!(err, "{line}")
        };
    }

    /// Clears the line of a terminal.
    pub fn end(&self) {
        if self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
