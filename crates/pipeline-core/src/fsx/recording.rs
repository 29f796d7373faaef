//! What was done to a directory, step by step, and what may stand there after the power was cut.
//! Compiled only with the feature `fault-injection`, for tests.
//!
//! The rules are those that any file system keeps, and no more: bytes are there once their file
//! was synced, names once their directory was. Of the rest each may be there or not: bytes none,
//! in part, or as zeros; names in any combination.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::Step;

/// All that is done under one directory, until it is dropped.
#[derive(Debug)]
pub struct Recording(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    under: PathBuf,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    events: Vec<Event>,
    /// Files by inode number, as that is what a new name of one has in common with the old.
    files: HashMap<u64, usize>,
    count: usize,
}

/// `covers`: the number of events before the step began, which is what it speaks of.
#[derive(Clone, Debug)]
enum Event {
    Name { path: PathBuf, is: Option<Node> },
    Write { file: usize, bytes: Vec<u8> },
    Cut { file: usize, len: usize },
    Sync { file: usize, covers: usize },
    SyncDir { dir: PathBuf, covers: usize },
    Mark(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Node {
    File(usize),
    Dir,
}

static RECORDINGS: Mutex<Vec<Arc<Inner>>> = Mutex::new(Vec::new());
/// Whether there is any: a step without pays one load.
static ANY: AtomicBool = AtomicBool::new(false);

/// Records what is done under `path`, which is taken to be there durably.
#[must_use]
pub fn record(path: &Path) -> Recording {
    let inner = Arc::new(Inner {
        under: path.to_owned(),
        log: Mutex::default(),
    });
    lock(&RECORDINGS).push(Arc::clone(&inner));
    ANY.store(true, Ordering::Release);
    Recording(inner)
}

impl Recording {
    /// How many events there are: the power can be cut behind each.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.0.log).events.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Notes that something was promised by now.
    pub fn mark(&self, promise: u64) {
        lock(&self.0.log).events.push(Event::Mark(promise));
    }

    /// What was promised before the cut.
    #[must_use]
    pub fn promised(&self, cut: usize) -> Vec<u64> {
        let log = lock(&self.0.log);
        let promise = |event: &Event| match event {
            Event::Mark(promise) => Some(*promise),
            _ => None,
        };
        log.events[..cut].iter().filter_map(promise).collect()
    }

    /// Makes in the empty directory `into` one of the states that may be found after the power was
    /// cut behind the first `cut` events; which one, `random` says.
    ///
    /// # Errors
    /// As the file system says.
    pub fn power_cut(&self, cut: usize, random: &mut fastrand::Rng, into: &Path) -> io::Result<()> {
        let log = lock(&self.0.log);
        let mut disk = Disk::default();
        for (at, event) in log.events[..cut].iter().enumerate() {
            disk.happened(at, event);
        }
        drop(log);
        disk.lose(random);
        for (path, node) in &disk.names {
            let at = into.join(path.strip_prefix(&self.0.under).unwrap_or(path));
            // One below a directory that is not there is lost with it.
            if !at.parent().is_some_and(Path::is_dir) {
                continue;
            }
            match node {
                Node::Dir => fs::create_dir(&at)?,
                Node::File(file) => {
                    let bytes = disk.files.get(file).map(|file| file.bytes.as_slice());
                    fs::write(&at, bytes.unwrap_or_default())?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut recordings = lock(&RECORDINGS);
        recordings.retain(|inner| !Arc::ptr_eq(inner, &self.0));
        ANY.store(!recordings.is_empty(), Ordering::Release);
    }
}

/// What is durable, and what is only in memory, in order.
#[derive(Default)]
struct Disk {
    /// In order, so that a directory comes before what it holds.
    names: BTreeMap<PathBuf, Node>,
    files: HashMap<usize, Bytes>,
    doubtful_names: Vec<(usize, PathBuf, Option<Node>)>,
}

#[derive(Default)]
struct Bytes {
    bytes: Vec<u8>,
    doubtful: Vec<(usize, Change)>,
}

enum Change {
    Append(Vec<u8>),
    Cut(usize),
}

impl Bytes {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Append(bytes) => self.bytes.extend_from_slice(bytes),
            Change::Cut(len) => self.bytes.truncate(*len),
        }
    }
}

impl Disk {
    fn happened(&mut self, at: usize, event: &Event) {
        match event {
            Event::Name { path, is } => self.doubtful_names.push((at, path.clone(), *is)),
            Event::Write { file, bytes } => {
                let change = Change::Append(bytes.clone());
                self.files
                    .entry(*file)
                    .or_default()
                    .doubtful
                    .push((at, change));
            }
            Event::Cut { file, len } => {
                let change = Change::Cut(*len);
                self.files
                    .entry(*file)
                    .or_default()
                    .doubtful
                    .push((at, change));
            }
            Event::Sync { file, covers } => {
                let file = self.files.entry(*file).or_default();
                for (at, change) in std::mem::take(&mut file.doubtful) {
                    if at < *covers {
                        file.apply(&change);
                    } else {
                        file.doubtful.push((at, change));
                    }
                }
            }
            Event::SyncDir { dir, covers } => {
                for (at, path, is) in std::mem::take(&mut self.doubtful_names) {
                    if at < *covers && path.parent() == Some(dir) {
                        self.name(path, is);
                    } else {
                        self.doubtful_names.push((at, path, is));
                    }
                }
            }
            Event::Mark(_) => {}
        }
    }

    fn name(&mut self, path: PathBuf, is: Option<Node>) {
        match is {
            Some(node) => self.names.insert(path, node),
            None => self.names.remove(&path),
        };
    }

    /// Of what is in doubt some is lost.
    fn lose(&mut self, random: &mut fastrand::Rng) {
        let kept = random.u32(0..=4);
        for (_, path, is) in std::mem::take(&mut self.doubtful_names) {
            if random.u32(0..4) < kept {
                self.name(path, is);
            }
        }
        let mut files: Vec<_> = self.files.iter_mut().collect();
        files.sort_unstable_by_key(|(file, _)| **file);
        for (_, file) in files {
            let durable = file.bytes.len();
            for (_, change) in std::mem::take(&mut file.doubtful) {
                file.apply(&change);
            }
            let doubtful = file.bytes.len().saturating_sub(durable);
            let whole = durable + random.usize(0..=doubtful);
            match random.u32(0..4) {
                0 => file.bytes.truncate(durable),
                1 => file.bytes.truncate(whole.max(durable)),
                2 => {
                    let from = whole.min(file.bytes.len());
                    file.bytes[from..].fill(0);
                }
                _ => {}
            }
        }
    }
}

/// A step that is about to be done.
pub(super) struct Begun {
    seen: Vec<(Arc<Inner>, usize)>,
}

pub(super) fn begin(path: &Path) -> Begun {
    let mut seen = Vec::new();
    if ANY.load(Ordering::Acquire) {
        for inner in lock(&RECORDINGS).iter() {
            if path.starts_with(&inner.under) {
                seen.push((Arc::clone(inner), lock(&inner.log).events.len()));
            }
        }
    }
    Begun { seen }
}

impl Begun {
    /// It was done.
    pub fn done(self, step: Step, path: &Path) {
        for (inner, covers) in self.seen {
            let mut log = lock(&inner.log);
            let path = path.to_owned();
            let event = match step {
                Step::Create => {
                    let file = log.new_file(&path);
                    Event::Name {
                        path,
                        is: Some(Node::File(file)),
                    }
                }
                Step::Link => {
                    let file = log.file(&path);
                    Event::Name {
                        path,
                        is: Some(Node::File(file)),
                    }
                }
                Step::Rename => {
                    let file = log.file(&path);
                    log.unname(file, &path);
                    Event::Name {
                        path,
                        is: Some(Node::File(file)),
                    }
                }
                Step::Remove => Event::Name { path, is: None },
                Step::MakeDir => Event::Name {
                    path,
                    is: Some(Node::Dir),
                },
                Step::Sync => Event::Sync {
                    file: log.file(&path),
                    covers,
                },
                Step::SyncDir => Event::SyncDir { dir: path, covers },
                Step::Truncate => Event::Cut {
                    file: log.file(&path),
                    len: fs::metadata(&path).map_or(0, |found| found.len() as usize),
                },
                Step::Open | Step::Write | Step::List => continue,
            };
            log.events.push(event);
        }
    }

    pub fn wrote(self, path: &Path, bytes: &[u8]) {
        for (inner, _) in self.seen {
            let mut log = lock(&inner.log);
            let file = log.file(path);
            let bytes = bytes.to_vec();
            log.events.push(Event::Write { file, bytes });
        }
    }
}

impl Log {
    fn new_file(&mut self, path: &Path) -> usize {
        let file = self.count;
        self.count += 1;
        self.files.insert(inode(path), file);
        file
    }

    fn file(&mut self, path: &Path) -> usize {
        match self.files.get(&inode(path)) {
            Some(file) => *file,
            None => self.new_file(path),
        }
    }

    /// The name that a renamed file had.
    fn unname(&mut self, file: usize, but: &Path) {
        let mut had = None;
        for event in &self.events {
            if let Event::Name { path, is } = event {
                if *is == Some(Node::File(file)) && path != but {
                    had = Some(path.clone());
                } else if had.as_ref() == Some(path) {
                    had = None;
                }
            }
        }
        if let Some(path) = had {
            self.events.push(Event::Name { path, is: None });
        }
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.ino())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
