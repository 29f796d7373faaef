//! Faults that a test asks for: which request they hit, how often, and what happens to it. The
//! rules only decide; [`crate::connection`] does it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kafka_protocol::messages::{ApiKey, RequestKind};
use serde::{Deserialize, Serialize};

use crate::api::partitions;

pub use kafka_protocol::messages::ApiKey as Api;

/// What happens to a request. "Done" means that the broker did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Waits, then goes on as usual. The connection's later requests wait behind it.
    Delay(#[serde(with = "millis")] Duration),
    /// Done at once; the answer comes later.
    DelayAnswer(#[serde(with = "millis")] Duration),
    /// Not done, never answered; the connection goes on.
    Drop,
    /// Done, never answered; the connection goes on.
    DropAnswer,
    /// Not done; the connection is closed.
    Cut,
    /// Done; the connection is closed instead of an answer.
    CutAnswer,
    /// Not done; answered with this error code.
    AnswerError(i16),
    /// Done, and answered with this error code all the same: it happened, but was reported as a
    /// timeout.
    DoneButError(i16),
    /// Done; the answer says that the client is throttled, and the connection is not read for
    /// that long.
    Throttle(#[serde(with = "millis")] Duration),
    /// Done; the answer claims to be this long.
    ClaimLength(i32),
    /// Done; only half of the answer is written.
    HalfAnswer,
    /// Done; the answer has its length and correlation, and is zeros behind these.
    Zeros,
    /// Done; the answer is one to another request.
    OtherCorrelation,
    /// Done; the answer names nothing that was asked about.
    EmptyAnswer,
}

/// The broker's rules. Clones share them.
#[derive(Clone, Default)]
pub struct Faults {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Whether there is any rule at all: the everyday request pays one load.
    armed: AtomicBool,
    rules: Mutex<Vec<Arc<Rule>>>,
}

/// A rule that is being written; [`RuleBuilder::then`] puts it in force.
#[must_use = "a rule is in force only after `then`"]
pub struct RuleBuilder {
    faults: Faults,
    which: Which,
}

/// A rule in force. Dropping it changes nothing.
#[derive(Clone)]
pub struct RuleHandle {
    faults: Faults,
    rule: Arc<Rule>,
}

#[derive(Clone, Debug, Default)]
struct Which {
    api: Option<i16>,
    node: Option<i32>,
    client_id: Option<String>,
    topic: Option<String>,
    partition: Option<i32>,
    skip: u64,
    /// `None`: always.
    times: Option<u64>,
}

struct Rule {
    which: Which,
    fault: Fault,
    matched: AtomicU64,
    hits: AtomicU64,
}

/// A request, as the rules look at it.
pub(crate) struct Seen<'a> {
    pub api: ApiKey,
    pub node: i32,
    pub client_id: &'a str,
    pub request: &'a RequestKind,
}

/// A fault that hits a request.
pub(crate) struct Armed {
    pub fault: Fault,
    /// Errors concern this partition alone.
    only: Option<(String, i32)>,
}

impl Faults {
    /// A rule for one API, always in force until told otherwise.
    pub fn on(&self, api: Api) -> RuleBuilder {
        self.rule(Some(api as i16))
    }

    /// A rule for every request.
    pub fn on_any(&self) -> RuleBuilder {
        self.rule(None)
    }

    /// Removes every rule.
    pub fn clear(&self) {
        self.lock().clear();
        self.inner.armed.store(false, Ordering::Release);
    }

    /// All faults that hit this request, in the order of their rules.
    pub(crate) fn decide(&self, seen: &Seen<'_>) -> Vec<Armed> {
        if !self.inner.armed.load(Ordering::Acquire) {
            return Vec::new();
        }
        let rules = self.lock();
        let hit = rules.iter().filter(|rule| rule.hits(seen));
        let armed = hit.map(|rule| Armed {
            fault: rule.fault,
            only: rule.which.topic.clone().zip(rule.which.partition),
        });
        armed.collect()
    }

    fn rule(&self, api: Option<i16>) -> RuleBuilder {
        RuleBuilder {
            faults: self.clone(),
            which: Which {
                api,
                ..Which::default()
            },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Rule>>> {
        self.inner
            .rules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleBuilder {
    /// Only the n-th matching request from now on, counted from 1.
    pub fn nth(mut self, n: u64) -> Self {
        self.which.skip = n.saturating_sub(1);
        self.which.times = Some(1);
        self
    }

    /// Not the first `n` matching requests.
    pub fn after(mut self, n: u64) -> Self {
        self.which.skip = n;
        self
    }

    /// At most `n` requests.
    pub fn times(mut self, n: u64) -> Self {
        self.which.times = Some(n);
        self
    }

    /// Every matching request, until the rule is removed.
    pub fn always(mut self) -> Self {
        self.which.times = None;
        self
    }

    /// Only at this node.
    pub fn node(mut self, node: i32) -> Self {
        self.which.node = Some(node);
        self
    }

    /// Only from clients whose id begins like this.
    pub fn client_id(mut self, prefix: &str) -> Self {
        self.which.client_id = Some(prefix.to_owned());
        self
    }

    /// Only requests that name this topic (produce, fetch, list offsets, offset commit).
    pub fn topic(mut self, topic: &str) -> Self {
        self.which.topic = Some(topic.to_owned());
        self
    }

    /// Only requests that name this partition; an error then concerns it alone, and the other
    /// partitions of the request are served.
    pub fn partition(mut self, topic: &str, partition: i32) -> Self {
        self.which.partition = Some(partition);
        self.topic(topic)
    }

    /// Puts the rule in force.
    pub fn then(self, fault: Fault) -> RuleHandle {
        let rule = Arc::new(Rule {
            which: self.which,
            fault,
            matched: AtomicU64::new(0),
            hits: AtomicU64::new(0),
        });
        self.faults.lock().push(Arc::clone(&rule));
        self.faults.inner.armed.store(true, Ordering::Release);
        RuleHandle {
            faults: self.faults,
            rule,
        }
    }
}

impl RuleHandle {
    /// How many requests it has hit.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.rule.hits.load(Ordering::Acquire)
    }

    pub fn remove(&self) {
        let mut rules = self.faults.lock();
        rules.retain(|rule| !Arc::ptr_eq(rule, &self.rule));
        let left = !rules.is_empty();
        self.faults.inner.armed.store(left, Ordering::Release);
    }
}

impl fmt::Debug for RuleHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} on {:?}, {} hits",
            self.rule.fault,
            self.rule.which,
            self.hits()
        )
    }
}

impl Rule {
    /// Counts, too: called once for each request.
    fn hits(&self, seen: &Seen<'_>) -> bool {
        if !self.which.matches(seen) {
            return false;
        }
        let before = self.matched.fetch_add(1, Ordering::AcqRel);
        let last = self
            .which
            .times
            .map_or(u64::MAX, |n| self.which.skip.saturating_add(n));
        let hit = before >= self.which.skip && before < last;
        if hit {
            self.hits.fetch_add(1, Ordering::AcqRel);
        }
        hit
    }
}

impl Which {
    fn matches(&self, seen: &Seen<'_>) -> bool {
        let client_fits = |prefix: &String| seen.client_id.starts_with(prefix.as_str());
        self.api.is_none_or(|api| api == seen.api as i16)
            && self.node.is_none_or(|node| node == seen.node)
            && self.client_id.as_ref().is_none_or(client_fits)
            && self
                .topic
                .as_ref()
                .is_none_or(|topic| partitions::names(seen.request, topic, self.partition))
    }
}

impl Armed {
    /// The code that the whole answer gets, and nothing is done.
    pub(crate) fn refusal(&self) -> Option<i16> {
        match self.fault {
            Fault::AnswerError(code) if self.only.is_none() => Some(code),
            _ => None,
        }
    }

    /// The code that the whole answer gets although all is done.
    pub(crate) fn done_but(&self) -> Option<i16> {
        match self.fault {
            Fault::DoneButError(code) if self.only.is_none() => Some(code),
            _ => None,
        }
    }

    pub(crate) fn partition_not_done(&self) -> Option<(&str, i32, i16)> {
        match self.fault {
            Fault::AnswerError(_) => self.partition_error(),
            _ => None,
        }
    }

    pub(crate) fn partition_error(&self) -> Option<(&str, i32, i16)> {
        let (topic, partition) = self.only.as_ref()?;
        match self.fault {
            Fault::AnswerError(code) | Fault::DoneButError(code) => Some((topic, *partition, code)),
            _ => None,
        }
    }

    pub(crate) fn throttle(&self) -> Option<Duration> {
        match self.fault {
            Fault::Throttle(time) => Some(time),
            _ => None,
        }
    }
}

/// Durations as whole milliseconds, for the control port.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
