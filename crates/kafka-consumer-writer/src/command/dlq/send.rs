//! Sends messages of the consumer DLQ to their partitions again, so that doing it twice changes
//! nothing:
//!
//! ```text
//! the partition's end ─▶ mark `sent` with it as *since*, durable ─▶ produce ─▶ mark `done`, durable
//! ```
//!
//! Each record goes under an id made from (topic id, partition, offset of the message that leads it,
//! see `records`) with sequence 0, and every further try has the *since* of the first: so the
//! writer's window knows a second copy, or says that it cannot know. In a topic made anew that
//! *since* says nothing: there a further try has 0.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_link::{
    Acks, BatchEncoder, Cluster, Codec, EncodedBatch, ErrorKind, KafkaError, TopicInfo,
};
use pipeline_core::{
    Offset,
    config::Kafka,
    envelope::{ENVELOPE_LEN, Envelope, HEADER_NAME},
    lifecycle::Shutdown,
};
use tokio::runtime::Runtime;

use super::{
    records::{Lead, replay_id},
    replay::Outcome,
};
use crate::{
    dead_letters::{
        Place,
        marks::{Mark, MarksWriter},
    },
    service::new_cluster,
    shared::now_ms,
};

/// Bounds of one send; well below what a topic takes as one batch by default.
const CHUNK_RECORDS: usize = 500;
const CHUNK_BYTES: usize = 512 << 10;
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between tries.
const PAUSE: Duration = Duration::from_millis(500);

pub struct Settings<'a> {
    pub kafka: &'a Kafka,
    pub dir: &'a Path,
    pub rate: Option<u64>,
    pub wait: Duration,
    pub new_topic: bool,
    pub shutdown: Shutdown,
}

/// One message that may go.
#[derive(Clone, Debug)]
pub struct Item {
    pub offset: Offset,
    pub lead: Lead,
    pub line: Vec<u8>,
    pub received_ms: i64,
}

/// Why it did not go on to the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    Stopped,
    GaveUp(String),
    /// The directory's trouble: what was sent cannot be marked.
    Failed(String),
}

pub struct Sender {
    runtime: Runtime,
    cluster: Cluster,
    marks: MarksWriter,
    topics: HashMap<String, Arc<TopicInfo>>,
    rate: Option<u64>,
    wait: Duration,
    new_topic: bool,
    shutdown: Shutdown,

    place: Option<Place>,
    items: Vec<Item>,
    bytes: usize,
    /// When the rate lets the next one go.
    next_at: Instant,
    sent: u64,
    left: BTreeMap<String, u64>,
    end: Option<End>,
}

impl Sender {
    /// # Panics
    /// Where the process may not have another thread.
    pub fn new(settings: Settings<'_>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a process that cannot have threads cannot send");
        let cluster = runtime.block_on(async { new_cluster(settings.kafka) });
        Self {
            runtime,
            cluster,
            marks: MarksWriter::new(settings.dir),
            topics: HashMap::new(),
            rate: settings.rate,
            wait: settings.wait,
            new_topic: settings.new_topic,
            shutdown: settings.shutdown,
            place: None,
            items: Vec::new(),
            bytes: 0,
            next_at: Instant::now(),
            sent: 0,
            left: BTreeMap::new(),
            end: None,
        }
    }

    /// Acknowledged and marked.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends what is there as soon as it is enough, or of another partition.
    ///
    /// # Errors
    /// Where it has come to an end.
    pub fn take(&mut self, place: &Place, item: Item) -> Result<(), End> {
        let full = self.items.len() >= self.records_max()
            || self.bytes + item.line.len() > CHUNK_BYTES
            || self.place.as_ref() != Some(place);
        if full {
            self.flush()?;
        }
        if self.place.as_ref() != Some(place) {
            self.place = Some(place.clone());
        }
        self.bytes += item.line.len();
        self.items.push(item);
        Ok(())
    }

    /// Sends what has been taken.
    ///
    /// # Errors
    /// Where it has come to an end, which is kept for [`Self::finish`].
    pub fn flush(&mut self) -> Result<(), End> {
        let items = std::mem::take(&mut self.items);
        self.bytes = 0;
        let Some(place) = self.place.take().filter(|_| !items.is_empty()) else {
            return Ok(());
        };
        let sent = self.send(&place, items);
        if let Err(end) = &sent {
            self.end = Some(end.clone());
        }
        sent
    }

    /// Adds what came of it to the outcome.
    pub fn finish(self, outcome: &mut Outcome) {
        outcome.sent = self.sent;
        outcome.end = self.end;
        for (why, count) in self.left {
            *outcome.left.entry(why).or_default() += count;
        }
        self.runtime.shutdown_background();
    }

    fn records_max(&self) -> usize {
        let by_rate = self.rate.and_then(|rate| usize::try_from(rate / 4).ok());
        by_rate.unwrap_or(CHUNK_RECORDS).clamp(1, CHUNK_RECORDS)
    }

    fn send(&mut self, place: &Place, mut items: Vec<Item>) -> Result<(), End> {
        self.keep_pace(items.len())?;
        if let Some(why) = self.misplaced(place)? {
            self.leave(&why, items.len());
            return Ok(());
        }
        self.learn_since(place, &mut items)?;
        let mut parts = vec![items];
        while let Some(part) = parts.pop() {
            match self.produce(place, &part)? {
                Ok(base) => self.done(place, &part, base)?,
                Err(error) => {
                    let halves = matches!(error.kind, ErrorKind::TooLarge | ErrorKind::Poison);
                    if halves && part.len() > 1 {
                        // The next one to go is the first half.
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second.to_vec(), first.to_vec()]);
                    } else {
                        self.leave(&format!("kafka refuses it: {error}"), part.len());
                    }
                }
            }
        }
        Ok(())
    }

    fn keep_pace(&mut self, records: usize) -> Result<(), End> {
        if let Some(rate) = self.rate {
            let pause = self.next_at.saturating_duration_since(Instant::now());
            self.pause(pause)?;
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no exact number")]
            let takes = Duration::from_secs_f64(records as f64 / rate as f64);
            self.next_at = Instant::now() + takes;
        }
        self.stopped()
    }

    /// Why the messages cannot go to where they came from.
    fn misplaced(&mut self, place: &Place) -> Result<Option<String>, End> {
        let name = place.topic.clone();
        if !self.topics.contains_key(&name) {
            let cluster = self.cluster.clone();
            let found = self.until_answered(async || {
                cluster.forget(&name);
                cluster.topic(&name).await
            })?;
            match found {
                Ok(info) => self.topics.insert(place.topic.clone(), info),
                Err(error) => return Ok(Some(format!("topic {}: {error}", place.topic))),
            };
        }
        let info = &self.topics[&place.topic];
        if self.is_anew(place) && !self.new_topic {
            return Ok(Some(format!(
                "topic {} was made anew (--new-topic sends it there)",
                place.topic
            )));
        }
        let partition = info.partitions.iter().any(|it| it.id == place.partition);
        let partitions = info.partitions.len();
        Ok((!partition).then(|| format!("topic {} has {partitions} partitions", place.topic)))
    }

    /// Whether the topic, once it was looked up, is another one of that name.
    fn is_anew(&self, place: &Place) -> bool {
        let found = self.topics.get(&place.topic);
        let known = !place.topic_id.is_empty();
        known && found.is_some_and(|it| !it.topic_id.is_empty() && it.topic_id != place.topic_id)
    }

    /// Makes durable that these may have been sent, and since when.
    fn learn_since(&mut self, place: &Place, items: &mut [Item]) -> Result<(), End> {
        if self.is_anew(place) {
            let tried = items.iter_mut().filter_map(|item| item.lead.since.as_mut());
            tried.for_each(|since| *since = Offset(0));
        }
        if items.iter().all(|item| item.lead.is_marked()) {
            return Ok(());
        }
        let cluster = self.cluster.clone();
        let asked = self.until_answered(async || {
            let ends = cluster.log_ends(&place.topic, &[place.partition]).await;
            let end = ends.into_iter().next().map(|(_, end)| end);
            end.unwrap_or(Ok(Offset(0)))
        })?;
        // A lower bound of the end that is too low makes it undecidable, never wrong.
        let end = asked.map_err(|error| End::GaveUp(error.to_string()))?;
        let mut marks = Vec::new();
        for lead in items.iter_mut().map(|item| &mut item.lead) {
            if let Some(record) = lead.record {
                marks.push((lead.offset, Mark::Leads { record }));
            }
            if lead.since.is_none() {
                lead.since = Some(end);
                marks.push((lead.offset, Mark::Sent { since: end }));
            }
        }
        self.mark(place, &marks)
    }

    fn produce(
        &mut self,
        place: &Place,
        items: &[Item],
    ) -> Result<Result<Offset, KafkaError>, End> {
        let encoded = encode(place, items);
        let cluster = self.cluster.clone();
        self.until_answered(async || {
            let batches = vec![(place.partition, encoded.clone())];
            let acks = Acks::All;
            let sent = cluster
                .produce(&place.topic, acks, PRODUCE_TIMEOUT, batches)
                .await;
            let mut results = sent.into_iter().map(|(_, result)| result);
            results.next().expect("one result for each partition")
        })
    }

    fn done(&mut self, place: &Place, items: &[Item], base: Offset) -> Result<(), End> {
        let mut marks = Vec::new();
        for (item, at) in items.iter().zip(base.0..) {
            let landed = Offset(at);
            marks.push((item.offset, Mark::Done { landed }));
            if item.lead.offset != item.offset {
                marks.push((item.lead.offset, Mark::Done { landed }));
            }
        }
        self.mark(place, &marks)?;
        self.sent += items.len() as u64;
        Ok(())
    }

    fn mark(&mut self, place: &Place, marks: &[(Offset, Mark)]) -> Result<(), End> {
        let failed = |error: io::Error| End::Failed(format!("failed to mark messages: {error}"));
        self.marks.append(place, marks).map_err(failed)
    }

    fn leave(&mut self, why: &str, messages: usize) {
        *self.left.entry(why.to_owned()).or_default() += messages as u64;
    }

    /// Tries until there is an answer that another try would not change, or for as long as is
    /// allowed without one.
    fn until_answered<T>(
        &self,
        mut ask: impl AsyncFnMut() -> Result<T, KafkaError>,
    ) -> Result<Result<T, KafkaError>, End> {
        let begun = Instant::now();
        loop {
            let error = match self.runtime.block_on(ask()) {
                Ok(answer) => return Ok(Ok(answer)),
                Err(error) => error,
            };
            match error.kind {
                ErrorKind::TooLarge | ErrorKind::Poison | ErrorKind::Fatal => {
                    return Ok(Err(error));
                }
                // With the same id and the same since: a second copy is a duplicate.
                ErrorKind::UnknownOutcome
                | ErrorKind::Retry
                | ErrorKind::Auth
                | ErrorKind::RefreshAndRetry
                | ErrorKind::OtherTopic
                | ErrorKind::OffsetOutOfRange
                | ErrorKind::Rejoin
                | ErrorKind::Fenced
                | ErrorKind::Lost => {}
            }
            if begun.elapsed() >= self.wait {
                return Err(End::GaveUp(error.to_string()));
            }
            self.pause(PAUSE)?;
        }
    }

    fn pause(&self, pause: Duration) -> Result<(), End> {
        let shutdown = self.shutdown.clone();
        self.runtime.block_on(async move {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.requested() => {}
            }
        });
        self.stopped()
    }

    fn stopped(&self) -> Result<(), End> {
        if self.shutdown.is_requested() {
            return Err(End::Stopped);
        }
        Ok(())
    }
}

fn encode(place: &Place, items: &[Item]) -> EncodedBatch {
    let bytes = items.iter().map(|item| item.line.len() + ENVELOPE_LEN + 32);
    let mut encoder = BatchEncoder::with_capacity(now_ms(), bytes.sum());
    for item in items {
        let envelope = Envelope {
            batch: replay_id(place, item.lead.offset),
            sequence: 0,
            received_ms: item.received_ms,
            since: item.lead.since.expect("learnt before it is sent"),
        };
        encoder.push(&item.line, Some((HEADER_NAME, &envelope.encode())));
    }
    encoder.finish(Codec::None)
}
