//! Faults of the disk that a test asks for: which step under which path, how often, and how it
//! ends. Compiled only with the feature `fault-injection`, which only dev-dependencies ask for (a
//! test holds that), and reached only from within the process.

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    Step,
    kill::{self, Side},
    recording,
};

/// How a step ends. The number is the system's error number, as `ENOSPC`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// Not done.
    Fails(i32),
    /// Of a write: half of it is done. Of anything else: not done.
    HalfDone(i32),
    /// Done, and reported as failed.
    DoneButFails(i32),
    /// Not begun before [`Rule::release`]; then as usual.
    Hangs,
    /// Begun so much later; then as usual.
    Takes(Duration),
}

/// A rule that is being written; [`RuleBuilder::then`] puts it in force.
#[must_use = "a rule is in force only after `then`"]
#[derive(Debug)]
pub struct RuleBuilder {
    which: Which,
}

/// A rule in force, until it is dropped.
pub struct Rule(Arc<Inner>);

#[derive(Clone, Debug)]
struct Which {
    under: PathBuf,
    name: Option<String>,
    step: Option<Step>,
    skip: u64,
    times: u64,
}

struct Inner {
    which: Which,
    fault: Fault,
    matched: AtomicU64,
    hits: AtomicU64,
    released: Mutex<bool>,
    changed: Condvar,
}

static RULES: Mutex<Vec<Arc<Inner>>> = Mutex::new(Vec::new());
/// Whether there is any rule: a step without pays one load.
static ARMED: AtomicBool = AtomicBool::new(false);

/// A rule for all steps on paths under `path` (itself included), always in force until told
/// otherwise.
pub fn under(path: &Path) -> RuleBuilder {
    RuleBuilder {
        which: Which {
            under: path.to_owned(),
            name: None,
            step: None,
            skip: 0,
            times: u64::MAX,
        },
    }
}

impl RuleBuilder {
    pub fn step(mut self, step: Step) -> Self {
        self.which.step = Some(step);
        self
    }

    /// Only paths whose file name ends so.
    pub fn name_ends(mut self, suffix: &str) -> Self {
        self.which.name = Some(suffix.to_owned());
        self
    }

    /// Only the n-th matching step from now on, counted from 1.
    pub fn nth(mut self, n: u64) -> Self {
        self.which.skip = n.saturating_sub(1);
        self.which.times = 1;
        self
    }

    /// At most `n` steps.
    pub fn times(mut self, n: u64) -> Self {
        self.which.times = n;
        self
    }

    pub fn then(self, fault: Fault) -> Rule {
        let rule = Arc::new(Inner {
            which: self.which,
            fault,
            matched: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            released: Mutex::new(false),
            changed: Condvar::new(),
        });
        let mut rules = lock(&RULES);
        rules.push(Arc::clone(&rule));
        ARMED.store(true, Ordering::Release);
        Rule(rule)
    }
}

impl Rule {
    /// How many steps it has hit.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.0.hits.load(Ordering::Acquire)
    }

    /// Lets go on what hangs, and what would hang from now on.
    pub fn release(&self) {
        *lock(&self.0.released) = true;
        self.0.changed.notify_all();
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        let mut rules = lock(&RULES);
        rules.retain(|rule| !Arc::ptr_eq(rule, &self.0));
        ARMED.store(!rules.is_empty(), Ordering::Release);
        drop(rules);
        self.release();
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { which, fault, .. } = &*self.0;
        write!(f, "{fault:?} on {which:?}, {} hits", self.hits())
    }
}

impl Inner {
    /// Counts, too: called once for each step.
    fn hits(&self, step: Step, path: &Path) -> bool {
        let which = &self.which;
        let named = |suffix: &String| {
            let name = path.file_name().map(|name| name.as_encoded_bytes());
            name.is_some_and(|name| name.ends_with(suffix.as_bytes()))
        };
        if which.step.is_some_and(|wanted| wanted != step)
            || !path.starts_with(&which.under)
            || !which.name.as_ref().is_none_or(named)
        {
            return false;
        }
        let before = self.matched.fetch_add(1, Ordering::AcqRel);
        let hit = before >= which.skip && before - which.skip < which.times;
        if hit {
            self.hits.fetch_add(1, Ordering::AcqRel);
        }
        hit
    }

    fn hang(&self) {
        let mut released = lock(&self.released);
        while !*released {
            released = self
                .changed
                .wait(released)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Does the step, as the rules say.
pub(super) fn step<T>(
    step: Step,
    path: &Path,
    done: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    kill::at_step(Side::Before, step, path);
    let done = || {
        let begun = recording::begin(path);
        let result = done()?;
        begun.done(step, path);
        kill::at_step(Side::After, step, path);
        Ok(result)
    };
    match decide(step, path) {
        None => done(),
        Some(Fault::Fails(errno) | Fault::HalfDone(errno)) => fail(errno),
        Some(Fault::DoneButFails(errno)) => {
            done()?;
            fail(errno)
        }
        Some(Fault::Hangs | Fault::Takes(_)) => unreachable!("it has gone on"),
    }
}

pub(super) fn write(path: &Path, file: &mut fs::File, bytes: &[u8]) -> io::Result<usize> {
    kill::at_step(Side::Before, Step::Write, path);
    let mut write = |bytes: &[u8]| {
        let begun = recording::begin(path);
        file.write_all(bytes)?;
        begun.wrote(path, bytes);
        Ok(bytes.len())
    };
    match decide(Step::Write, path) {
        Some(Fault::HalfDone(errno)) => {
            write(&bytes[..bytes.len() / 2])?;
            fail(errno)
        }
        Some(Fault::DoneButFails(errno)) => {
            write(bytes)?;
            fail(errno)
        }
        Some(Fault::Fails(errno)) => fail(errno),
        Some(Fault::Hangs | Fault::Takes(_)) => unreachable!("it has gone on"),
        None => {
            let written = write(bytes);
            kill::at_step(Side::After, Step::Write, path);
            written
        }
    }
}

fn fail<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

/// The first rule that hits, once what hangs has been let go.
fn decide(step: Step, path: &Path) -> Option<Fault> {
    if !ARMED.load(Ordering::Acquire) {
        return None;
    }
    let hits = |rule: &&Arc<Inner>| rule.hits(step, path);
    let rule = lock(&RULES).iter().find(hits).map(Arc::clone)?;
    match rule.fault {
        Fault::Hangs => rule.hang(),
        Fault::Takes(time) => thread::sleep(time),
        ends => return Some(ends),
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
