//! Where the logs end, for the books: asked every second, and before each look at the metrics, so
//! that what they say is not yet read is no older than the look. Judges nothing: the members do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_link::Cluster;
use pipeline_core::{lifecycle::admin::Render, telemetry::MetricsHandle};
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(1);
/// How long a look at the metrics waits for Kafka; then it says how old its log ends are.
const LOOK_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct LogEnds {
    shared: Arc<Shared>,
    cluster: Cluster,
    /// When the last time began that Kafka was asked. Held while it is: never twice at once.
    asked: Mutex<Option<Instant>>,
}

impl LogEnds {
    #[must_use]
    pub fn new(shared: Arc<Shared>, cluster: Cluster) -> Arc<Self> {
        Arc::new(Self {
            shared,
            cluster,
            asked: Mutex::default(),
        })
    }

    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Runs until it is dropped.
    pub async fn keep(self: Arc<Self>) {
        let mut clock = interval(EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = clock.tick().await.into_std();
            self.not_older_than(now).await;
        }
    }

    /// The metrics, with the logs' ends as they are after this look began wherever Kafka answers
    /// in time.
    #[must_use]
    pub fn render(self: &Arc<Self>, metrics: MetricsHandle) -> Render {
        let ends = Arc::clone(self);
        Render::new(move || {
            let (ends, metrics) = (Arc::clone(&ends), metrics.clone());
            async move {
                let begun = Instant::now();
                // Beside, as a request to Kafka is not given up half way.
                let asking = tokio::spawn(Arc::clone(&ends).asked_since(begun));
                let _ = timeout(LOOK_MAX, asking).await;
                ends.shared.books.shown(begun, || metrics.render())
            }
        })
    }

    async fn asked_since(self: Arc<Self>, begun: Instant) {
        self.not_older_than(begun).await;
    }

    /// Several that wait for the same answer are served by one that began after all of them.
    async fn not_older_than(&self, begun: Instant) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|asked| asked >= begun) {
            return;
        }
        let now = Instant::now();
        let books = &self.shared.books;
        let mut complete = false;
        if let Ok(topic) = self.cluster.topic_now(&self.shared.topic).await {
            books.in_topic(topic.partitions.iter().map(|known| known.id), now);
            complete = true;
        }
        let partitions = books.partitions();
        let ends = self.cluster.log_ends(&self.shared.topic, &partitions).await;
        for (partition, end) in ends {
            match end {
                Ok(end) => books.log_end(partition, end),
                // Those who join the group say what is wrong with Kafka.
                Err(_) => complete = false,
            }
        }
        if complete {
            books.ends_known(now);
        }
        *asked = Some(now);
    }
}
