//! What the brokers say of themselves and of topics, kept for a while.
//!
//! One question at a time for each cluster, not more often than [`REFRESH_PAUSE`]: callers that
//! find the same thing stale at once share an answer. Brokers are asked in random order, one
//! after the other but not waiting for a silent one; bootstrap addresses come last.

mod view;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use kafka_protocol::{
    messages::{
        MetadataRequest, MetadataResponse, TopicName, metadata_request::MetadataRequestTopic,
    },
    protocol::StrBytes,
};
use tokio::time::timeout_at;

use super::Inner;
use crate::{
    KafkaError,
    error::{Context, ErrorKind},
    net::{Call, Lane, first_answer},
};

pub(crate) use view::{TopicView, address_of};

/// Between two questions.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);
/// How old an answer may be before it is asked anew: a topic may have grown.
const AGE_MAX: Duration = Duration::from_secs(60);
/// After a failure to renew what is still usable.
const RENEW_PAUSE: Duration = Duration::from_secs(5);
/// How long one broker is waited for before the next is asked as well.
const STAGGER: Duration = Duration::from_millis(500);
/// How long a topic that was there must be missing before it is believed to be gone: a broker
/// that has just started may know less than the cluster.
const MISSING_MIN: Duration = Duration::from_secs(30);

const UNKNOWN_TOPIC: i16 = 3;

pub(crate) struct Metadata {
    bootstrap: Vec<Arc<str>>,
    state: Mutex<State>,
    /// Held while the brokers are asked.
    asking: tokio::sync::Mutex<LastAsked>,
}

#[derive(Default)]
struct State {
    brokers: HashMap<i32, Arc<str>>,
    controller: Option<Arc<str>>,
    topics: HashMap<String, Entry>,
}

struct Entry {
    view: Arc<TopicView>,
    renew_at: Instant,
    /// When something said that it is not true any more.
    stale_at: Option<Instant>,
    missing_since: Option<Instant>,
}

#[derive(Default)]
struct LastAsked {
    at: Option<Instant>,
    failed: Option<(String, KafkaError)>,
}

impl Metadata {
    pub(crate) fn new(bootstrap: &[String]) -> Self {
        Self {
            bootstrap: bootstrap
                .iter()
                .map(|address| Arc::from(address.as_str()))
                .collect(),
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn forget(&self, topic: &str) {
        if let Some(entry) = self.lock().topics.get_mut(topic) {
            entry.stale_at = Some(Instant::now());
        }
    }

    /// What was done by `used` was refused for it: it is stale, unless there is a newer one by now.
    /// So however many find out, they ask once.
    pub(crate) fn outdated(&self, topic: &str, used: &Arc<TopicView>) {
        if let Some(entry) = self.lock().topics.get_mut(topic)
            && Arc::ptr_eq(&entry.view, used)
        {
            entry.stale_at.get_or_insert_with(Instant::now);
        }
    }

    pub(crate) fn forget_all(&self) {
        for entry in self.lock().topics.values_mut() {
            entry.stale_at = Some(Instant::now());
        }
    }

    /// How many partitions the last answer had, whatever its age.
    pub(crate) fn partition_count(&self, topic: &str) -> Option<usize> {
        let state = self.lock();
        let entry = state.topics.get(topic)?;
        Some(entry.view.partitions.len())
    }

    /// Where to send what only the controller does.
    pub(crate) fn controller(&self) -> Option<Arc<str>> {
        self.lock().controller.clone()
    }

    /// Whom to ask: the known brokers in random order, then the bootstrap addresses.
    fn candidates(&self) -> Vec<Arc<str>> {
        let mut known: Vec<Arc<str>> = self.lock().brokers.values().cloned().collect();
        known.sort_unstable();
        fastrand::shuffle(&mut known);
        let mut bootstrap = self.bootstrap.clone();
        fastrand::shuffle(&mut bootstrap);
        let mut seen = HashSet::new();
        known.extend(bootstrap);
        known.retain(|address| seen.insert(Arc::clone(address)));
        known
    }

    fn all_addresses(&self) -> HashSet<Arc<str>> {
        let state = self.lock();
        let known = state.brokers.values().chain(&self.bootstrap);
        known.cloned().collect()
    }

    fn usable(&self, topic: &str) -> Option<Arc<TopicView>> {
        let state = self.lock();
        let entry = state.topics.get(topic)?;
        (entry.stale_at.is_none() && entry.renew_at > Instant::now())
            .then(|| Arc::clone(&entry.view))
    }

    /// What there is, where it is only old and could not be renewed.
    fn usable_though_old(&self, topic: &str) -> Option<Arc<TopicView>> {
        let mut state = self.lock();
        let entry = state.topics.get_mut(topic)?;
        if entry.stale_at.is_some() {
            return None;
        }
        entry.renew_at = Instant::now() + RENEW_PAUSE;
        Some(Arc::clone(&entry.view))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds this lock")
    }

    /// Takes in an answer about `topic`.
    fn learn(
        &self,
        topic: &str,
        answer: MetadataResponse,
        asked: Instant,
    ) -> Result<Arc<TopicView>, KafkaError> {
        let state = &mut *self.lock();
        if !answer.brokers.is_empty() {
            state.brokers = answer
                .brokers
                .iter()
                .map(|broker| (broker.node_id.0, address_of(&broker.host, broker.port)))
                .collect();
            state.controller = state.brokers.get(&answer.controller_id.0).cloned();
        }
        let cluster_id = answer.cluster_id.as_deref().unwrap_or("").to_owned();
        let described = answer
            .topics
            .into_iter()
            .find(|found| {
                found
                    .name
                    .as_ref()
                    .is_some_and(|name| name.as_str() == topic)
            })
            .ok_or_else(|| {
                let what = format!("metadata: the answer leaves out topic {topic}");
                KafkaError::new(ErrorKind::Retry, what)
            })?;
        let known = state.topics.get_mut(topic);
        if described.error_code != 0 {
            return Err(topic_error(topic, described.error_code, known));
        }
        // Called stale while the brokers were asked: their answer may be older than that.
        let stale_at = known.as_ref().and_then(|entry| entry.stale_at);
        let known = known.map(|entry| &*entry.view);
        let view = Arc::new(TopicView::read(
            cluster_id,
            topic,
            described,
            &state.brokers,
            known,
        )?);
        let entry = Entry {
            view: Arc::clone(&view),
            renew_at: Instant::now() + AGE_MAX,
            stale_at: stale_at.filter(|at| *at > asked),
            missing_since: None,
        };
        state.topics.insert(topic.to_owned(), entry);
        Ok(view)
    }
}

impl Inner {
    /// The topic and its leaders, from the cache or asked anew.
    pub(crate) async fn view(
        self: &Arc<Self>,
        topic: &str,
        deadline: Instant,
    ) -> Result<Arc<TopicView>, KafkaError> {
        if let Some(view) = self.metadata.usable(topic) {
            return Ok(view);
        }
        match self.refresh(topic, deadline).await {
            Ok(view) => Ok(view),
            Err(error) if matches!(error.kind, ErrorKind::Retry | ErrorKind::Auth) => {
                let old = self.metadata.usable_though_old(topic);
                old.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks any broker; the first that answers is believed. `build` makes the request.
    pub(crate) async fn ask_any<R>(
        self: &Arc<Self>,
        context: Context,
        deadline: Instant,
        build: impl Fn(i16) -> R + Clone + Send + 'static,
    ) -> Result<R::Response, KafkaError>
    where
        R: Call + Send + Sync + 'static,
        R::Response: Send + 'static,
    {
        let attempts = self.metadata.candidates().into_iter().map(|address| {
            let (inner, build) = (Arc::clone(self), build.clone());
            async move {
                inner
                    .call(&address, Lane::Control, context, deadline, build)
                    .await
            }
        });
        let answer = timeout_at(deadline.into(), first_answer(attempts, STAGGER)).await;
        let failed = |what: String| Err(KafkaError::new(ErrorKind::Retry, what));
        match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => failed(format!("{}: no broker is known", R::NAME)),
            Err(_) => failed(format!("{}: no broker answered in time", R::NAME)),
        }
    }

    async fn refresh(
        self: &Arc<Self>,
        topic: &str,
        deadline: Instant,
    ) -> Result<Arc<TopicView>, KafkaError> {
        let started = Instant::now();
        let no_time = || KafkaError::new(ErrorKind::Retry, "metadata: no time left to ask");
        let mut asking = timeout_at(deadline.into(), self.metadata.asking.lock())
            .await
            .map_err(|_| no_time())?;
        // Someone may have asked meanwhile, in vain or not.
        if let Some(view) = self.metadata.usable(topic) {
            return Ok(view);
        }
        if let Some(at) = asking.at {
            if let Some((about, error)) = &asking.failed
                && at >= started
                && about == topic
            {
                return Err(error.clone());
            }
            let earliest = at + REFRESH_PAUSE;
            if earliest >= deadline {
                return Err(no_time());
            }
            tokio::time::sleep_until(earliest.into()).await;
        }
        let result = self.ask_topic(topic, deadline).await;
        asking.at = Some(Instant::now());
        asking.failed = result
            .as_ref()
            .err()
            .map(|error| (topic.to_owned(), error.clone()));
        if result.is_ok() {
            self.pool.keep_only(&self.metadata.all_addresses());
        }
        result
    }

    /// Asks whatever is known.
    pub(crate) async fn ask_topic(
        self: &Arc<Self>,
        topic: &str,
        deadline: Instant,
    ) -> Result<Arc<TopicView>, KafkaError> {
        let asked = Instant::now();
        let name = StrBytes::from_string(topic.to_owned());
        let answer = self
            .ask_any(Context::Lookup, deadline, move |_| {
                let topic =
                    MetadataRequestTopic::default().with_name(Some(TopicName(name.clone())));
                MetadataRequest::default()
                    .with_topics(Some(vec![topic]))
                    .with_allow_auto_topic_creation(false)
            })
            .await;
        answer.and_then(|answer| self.metadata.learn(topic, answer, asked))
    }
}

fn topic_error(topic: &str, code: i16, known: Option<&mut Entry>) -> KafkaError {
    let call = format!("metadata of topic {topic}");
    let mut error = KafkaError::answered(Context::Lookup, code, &call, None);
    if code != UNKNOWN_TOPIC {
        return error;
    }
    let believed = known.is_none_or(|entry| {
        entry.stale_at = Some(Instant::now());
        entry
            .missing_since
            .get_or_insert_with(Instant::now)
            .elapsed()
            >= MISSING_MIN
    });
    if believed {
        error.kind = ErrorKind::Fatal;
        error.message = format!("topic {topic} does not exist");
    }
    error
}

#[cfg(test)]
mod tests;
