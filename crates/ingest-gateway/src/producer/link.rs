//! Keeps the view of the topic true: its shape, its settings, the partitions' ends, who is away.
//!
//! One task looks every second. Its lookup of the ends is the probe that lets an open circuit try
//! again, and keeps *since* fresh while nothing is sent from here. Never produces.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kafka_link::{
    Cluster, ErrorKind, KafkaError, NewTopic, TopicInfo,
    fitness::{Fitness, judge},
};
use pipeline_core::{Offset, PartitionId, config::CreateTopic};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::view::TopicView;
use crate::telemetry;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// After which shape and settings are asked for anew, also when all is well.
const REFRESH: Duration = Duration::from_secs(30);
/// While Kafka is away, that is said this often.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// Longest wait for one answer.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// `None`: Kafka has not answered since the start.
pub type ViewReceiver = watch::Receiver<Option<Arc<TopicView>>>;

#[derive(Debug)]
pub struct LinkConfig {
    pub topic: Arc<str>,
    pub create: Option<CreateTopic>,
}

pub struct Link {
    cluster: Cluster,
    config: LinkConfig,
    view: watch::Sender<Option<Arc<TopicView>>>,
    /// When shape and settings were last learnt.
    refreshed: Option<Instant>,
    /// What was said last, so that it is said once.
    said: Said,
}

#[derive(Default)]
struct Said {
    away: Option<Instant>,
    fitness: Fitness,
    settings: Option<String>,
}

impl Link {
    #[must_use]
    pub fn new(cluster: Cluster, config: LinkConfig) -> Self {
        Self {
            cluster,
            config,
            view: watch::Sender::new(None),
            refreshed: None,
            said: Said::default(),
        }
    }

    #[must_use]
    pub fn view(&self) -> ViewReceiver {
        self.view.subscribe()
    }

    /// Looks once, for at most `wait`: the gateway starts with Kafka away, too.
    ///
    /// # Errors
    /// Why the topic must not be used, where Kafka has answered and its settings say so.
    pub async fn first_look(&mut self, wait: Duration) -> Result<(), String> {
        if timeout(wait, self.look()).await.is_err() {
            self.say_away(&format!("no answer within {wait:?}"));
        }
        let unfit = self
            .view
            .borrow()
            .as_ref()
            .and_then(|view| view.unfit.clone());
        unfit.map_or(Ok(()), |why| {
            Err(format!("topic {}: {why}", self.config.topic))
        })
    }

    /// Looks until `stop`.
    pub async fn keep(mut self, stop: CancellationToken) {
        loop {
            // Several gateways do not ask in step.
            let pause = INTERVAL.mul_f64(0.75 + fastrand::f64() / 2.0);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look() => {}
            }
        }
    }

    async fn look(&mut self) {
        let due = self.refreshed.is_none_or(|at| at.elapsed() >= REFRESH);
        let view = self.view.borrow().clone();
        if due || view.is_some_and(|view| view.take_doubt() || view.away() > 0) {
            let began = std::time::Instant::now();
            match self.learn_shape().await {
                Ok(view) => {
                    let view = self.learn_settings(view).await;
                    self.view.send_replace(Some(Arc::new(view)));
                    self.refreshed = Some(Instant::now());
                }
                Err(error) => {
                    self.unanswered(began, &error.message);
                    return;
                }
            }
        }
        self.learn_ends().await;
    }

    async fn learn_shape(&self) -> Result<TopicView, KafkaError> {
        let info = match self.ask_topic().await {
            Err(error) if error.kind == ErrorKind::Fatal && self.config.create.is_some() => {
                self.create().await?;
                self.ask_topic().await?
            }
            asked => asked?,
        };
        let known = self.view.borrow().clone();
        let mut view = match known {
            Some(view) if *view.topic_id == *info.topic_id => view.resized(info.partitions.len()),
            known => {
                if known.is_some() {
                    tracing::warn!(
                        topic = %self.config.topic,
                        "the topic was made anew: what was known of its partitions is forgotten"
                    );
                }
                tracing::info!(
                    topic = %self.config.topic,
                    cluster = info.cluster_id,
                    partitions = info.partitions.len(),
                    "kafka knows the topic"
                );
                TopicView::new(&info.cluster_id, &info.topic_id, info.partitions.len())
            }
        };
        for partition in &info.partitions {
            view.led_by(partition.id, partition.leader);
        }
        let leaders = info.partitions.iter().filter_map(|p| p.leader);
        let leaders: BTreeSet<_> = leaders.collect();
        view.brokers = leaders.len();
        Ok(view)
    }

    async fn ask_topic(&self) -> Result<Arc<TopicInfo>, KafkaError> {
        self.cluster.forget(&self.config.topic);
        within(self.cluster.topic(&self.config.topic)).await
    }

    async fn create(&self) -> Result<(), KafkaError> {
        let Some(create) = &self.config.create else {
            return Ok(());
        };
        let topic = NewTopic::kept(&self.config.topic, create);
        within(self.cluster.create_topic(&topic)).await?;
        tracing::info!(
            topic = topic.name,
            partitions = topic.partitions,
            replication_factor = topic.replication_factor,
            "made the topic"
        );
        Ok(())
    }

    async fn learn_settings(&mut self, mut view: TopicView) -> TopicView {
        let settings = match within(self.cluster.settings(&self.config.topic)).await {
            Ok(settings) => settings,
            Err(error) => {
                // Not everyone may read them; the promise is then the operator's to judge.
                let said = Some(error.message);
                if self.said.settings != said {
                    tracing::warn!(
                        topic = %self.config.topic,
                        "failed to read the topic's settings: {}",
                        said.as_deref().unwrap_or_default()
                    );
                    self.said.settings = said;
                }
                return view;
            }
        };
        self.said.settings = None;
        if let Some(bytes) = settings.max_message_bytes {
            view.message_bytes_max = bytes;
        }
        let fitness = judge(&settings);
        view.unfit = fitness.unfit.as_deref().map(Into::into);
        let names: Vec<_> = fitness.weak.iter().map(|(name, _)| *name).collect();
        telemetry::topic_weak(&names);
        telemetry::topic_retention(settings.retention_ms);
        if fitness != self.said.fitness {
            self.say_fitness(&fitness);
            self.said.fitness = fitness;
        }
        view
    }

    /// Asks all leaders side by side: what one knows does not wait for the silence of another.
    async fn learn_ends(&mut self) {
        let Some(view) = self.view.borrow().clone() else {
            return;
        };
        let mut by_leader: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for partition in view.partition_ids() {
            let known = (partition, view.end(partition));
            let leader = view.leader(partition);
            by_leader.entry(leader).or_default().push(known);
        }
        let began = std::time::Instant::now();
        let mut asked = JoinSet::new();
        for known in by_leader.into_values() {
            let (cluster, topic) = (self.cluster.clone(), Arc::clone(&self.config.topic));
            asked.spawn(async move {
                let partitions: Vec<_> = known.iter().map(|(partition, _)| *partition).collect();
                let ends = timeout(LOOK_MAX, cluster.log_ends(&topic, &partitions)).await;
                (known, ends)
            });
        }
        let (mut answered, mut last_error) = (0, None);
        while let Some(asked) = asked.join_next().await {
            let Ok((known, ends)) = asked else {
                continue;
            };
            let known: BTreeMap<_, _> = known.into_iter().collect();
            let ends = ends.unwrap_or_else(|_| {
                let error = || Err(no_answer());
                known.keys().map(|id| (*id, error())).collect()
            });
            for (partition, end) in ends {
                match end {
                    Ok(end) => {
                        let known = known.get(&partition).copied().flatten();
                        self.learnt_end(&view, partition, known, end);
                        answered += 1;
                    }
                    Err(error) => {
                        view.lookup_failed(partition, began);
                        last_error = Some(error.message);
                    }
                }
            }
        }
        match last_error {
            Some(error) => self.say_away(&error),
            None if self.said.away.take().is_some() => tracing::info!("kafka answers again"),
            None => {}
        }
        let away = view.away();
        telemetry::kafka(answered > 0 && away < view.len(), away > 0);
    }

    fn learnt_end(
        &self,
        view: &TopicView,
        partition: PartitionId,
        known: Option<Offset>,
        end: Offset,
    ) {
        if view.looked_up(partition, known, end) {
            tracing::warn!(
                topic = %self.config.topic,
                %partition,
                %end,
                "the log ends before what was acknowledged: records were lost in kafka"
            );
        }
        view.probe_answered(partition, std::time::Instant::now());
    }

    /// No partition has answered. That counts for the circuits, so that the first batches after a
    /// quiet time do not have to find out.
    fn unanswered(&mut self, began: std::time::Instant, why: &str) {
        self.say_away(why);
        let view = self.view.borrow().clone();
        if let Some(view) = &view {
            view.partition_ids()
                .for_each(|id| view.lookup_failed(id, began));
        }
        let circuit_open = view.is_none_or(|view| view.away() > 0);
        telemetry::kafka(false, circuit_open);
    }

    /// Once when it begins, and then now and again.
    fn say_away(&mut self, why: &str) {
        if self.said.away.is_none_or(|at| at.elapsed() >= SAY_AGAIN) {
            tracing::warn!(topic = %self.config.topic, "kafka does not answer as it should: {why}");
            self.said.away = Some(Instant::now());
        }
    }

    fn say_fitness(&self, fitness: &Fitness) {
        let topic = &self.config.topic;
        if let Some(why) = &fitness.unfit {
            tracing::error!(
                %topic,
                "the topic must not be used, batches go to the dead letter queue: {why}"
            );
        }
        for (setting, found) in &fitness.weak {
            tracing::warn!(%topic, "the topic weakens the promise that a 202 is kept: {setting} is {found}");
        }
    }
}

async fn within<T>(asked: impl Future<Output = Result<T, KafkaError>>) -> Result<T, KafkaError> {
    timeout(LOOK_MAX, asked)
        .await
        .unwrap_or_else(|_| Err(no_answer()))
}

fn no_answer() -> KafkaError {
    KafkaError {
        kind: ErrorKind::Retry,
        code: None,
        message: format!("no answer within {LOOK_MAX:?}"),
    }
}
