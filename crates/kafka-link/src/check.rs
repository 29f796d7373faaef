//! Whether a service can do its work on these brokers, looked at before it is started: each
//! broker's connection, TLS and login, the topic and its settings, and the rights (KIP-430). Changes
//! nothing.

mod report;
mod rights;

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::{
    messages::{
        DescribeGroupsRequest, FindCoordinatorRequest, GroupId, MetadataRequest, MetadataResponse,
        TopicName, metadata_request::MetadataRequestTopic,
        metadata_response::MetadataResponseTopic,
    },
    protocol::StrBytes,
};
use pipeline_core::config::CreateTopic;
use report::Grade;
pub use report::Report;
use rights::{CREATE, DESCRIBE, DESCRIBE_CONFIGS, NOT_TOLD, Operation, READ, WRITE};
use tokio::time::sleep;

use crate::{
    Cluster, KafkaError, NewTopic,
    cluster::{Inner, address_of},
    error::{Context, ErrorKind, name_of},
    fitness::judge,
    net::Lane,
};

/// For all of it.
const WITHIN: Duration = Duration::from_secs(30);
/// From these versions on a broker tells what we may do.
const METADATA_TELLS: i16 = 8;
const GROUPS_TELL: i16 = 3;
/// Before this version one group is asked for.
const MANY_KEYS: i16 = 4;
const UNKNOWN_TOPIC: i16 = 3;
const TOPIC_REFUSED: i16 = 29;
const GROUP_REFUSED: i16 = 30;
/// At the first question about a group, a new cluster begins to make the topic of its groups.
const GROUPS_NOT_UP: i16 = 15;
const GROUPS_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

/// What a service will do.
#[derive(Clone, Debug)]
pub struct Purpose<'a> {
    pub topic: &'a str,
    /// Makes the topic so where it does not exist.
    pub creates: Option<&'a CreateTopic>,
    /// In this group; none writes.
    pub reads_as: Option<&'a str>,
    /// Who we are to the brokers, as `User:sluice`, where that is known.
    pub principal: Option<String>,
}

/// For `--check --connect`: looks, prints what is found, and gives the exit code.
pub fn check_connect<F: Future<Output = Report>>(look: impl FnOnce() -> F) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a process that cannot have a runtime cannot look");
    let report = runtime.block_on(async { look().await });
    runtime.shutdown_background();
    // A closed stdout changes no exit code.
    let _ = write!(io::stdout(), "{report}");
    report.exit_code()
}

impl Cluster {
    /// Looks at everything that `purpose` needs, and goes on behind what is missing.
    pub async fn check(&self, purpose: &Purpose<'_>) -> Report {
        let mut look = Look {
            inner: self.inner(),
            purpose,
            deadline: Instant::now() + WITHIN,
            report: Report::default(),
        };
        if look.brokers().await {
            if look.topic().await {
                look.settings(self).await;
            }
            if let Some(group) = purpose.reads_as {
                look.group(group).await;
            }
        }
        look.report
    }
}

struct Look<'a> {
    inner: &'a Arc<Inner>,
    purpose: &'a Purpose<'a>,
    deadline: Instant,
    report: Report,
}

impl Look<'_> {
    /// Whether there is any to go on with.
    async fn brokers(&mut self) -> bool {
        let addresses: Vec<Arc<str>> = self
            .inner
            .config()
            .brokers
            .iter()
            .map(|b| (&**b).into())
            .collect();
        let mut any = false;
        for address in &addresses {
            any |= self.broker(address).await;
        }
        if !any {
            return false;
        }
        // The others, which clients are sent to.
        match self.metadata().await {
            Ok(answer) => {
                for broker in answer.brokers {
                    let address = address_of(&broker.host, broker.port);
                    if !addresses.contains(&address) {
                        self.broker(&address).await;
                    }
                }
                true
            }
            Err(error) => {
                self.report.failed(&error);
                false
            }
        }
    }

    async fn broker(&mut self, address: &Arc<str>) -> bool {
        match self.inner.reach(address, self.deadline).await {
            Ok(()) => {
                let security = &self.inner.config().security;
                let tls = security.tls.as_ref().map_or("", |_| ", TLS verified");
                let sasl = security
                    .sasl
                    .as_ref()
                    .map(|sasl| format!(", logged in with {}", sasl.mechanism.as_str()));
                let sasl = sasl.unwrap_or_default();
                self.report.note(
                    Grade::Good,
                    format!("broker {address}: connected{tls}{sasl}"),
                );
                true
            }
            Err(error) => {
                self.report.failed(&error);
                false
            }
        }
    }

    async fn metadata(&self) -> Result<MetadataResponse, KafkaError> {
        let name = StrBytes::from_string(self.purpose.topic.to_owned());
        self.inner
            .ask_any(Context::Lookup, self.deadline, move |version| {
                let topic =
                    MetadataRequestTopic::default().with_name(Some(TopicName(name.clone())));
                MetadataRequest::default()
                    .with_topics(Some(vec![topic]))
                    .with_allow_auto_topic_creation(false)
                    .with_include_topic_authorized_operations(version >= METADATA_TELLS)
            })
            .await
    }

    /// Whether it is there to be looked at further.
    async fn topic(&mut self) -> bool {
        let topic = self.purpose.topic;
        let found = match self.metadata().await {
            Ok(answer) => answer.topics.into_iter().next(),
            Err(error) => {
                self.report.failed(&error);
                return false;
            }
        };
        let Some(found) = found else {
            let what = format!("topic {topic}: the answer leaves it out");
            self.report.note(Grade::Away, what);
            return false;
        };
        match found.error_code {
            0 => {}
            UNKNOWN_TOPIC => {
                match self.purpose.creates {
                    Some(create) => self.creating(&NewTopic::kept(topic, create)).await,
                    None => {
                        let what =
                            format!("topic {topic} does not exist (or set kafka.createTopic)");
                        self.report.note(Grade::Missing, what);
                    }
                }
                return false;
            }
            TOPIC_REFUSED => {
                let needed = self.on_topic();
                self.rights("topic", topic, 0, &needed);
                return false;
            }
            code => {
                let what = format!("topic {topic}: {} ({code})", name_of(code));
                self.report.note(Grade::Away, what);
                return false;
            }
        }
        self.partitions(&found);
        let needed = self.on_topic();
        self.rights("topic", topic, found.topic_authorized_operations, &needed);
        true
    }

    /// Whether the topic, which does not exist, can be made.
    async fn creating(&mut self, topic: &NewTopic) {
        let name = &topic.name;
        match self.inner.could_create(topic, self.deadline).await {
            Ok(()) => {
                let what = format!(
                    "topic {name} does not exist; it will be made (kafka.createTopic), and that is \
                     allowed. Rights on it can be told once it exists"
                );
                self.report.note(Grade::Weak, what);
            }
            Err(error) if error.code == Some(TOPIC_REFUSED) => {
                let what = format!("topic {name} does not exist and cannot be made");
                self.report.note(Grade::Missing, what);
                self.rights("topic", name, 0, &[CREATE]);
            }
            Err(error) => self
                .report
                .failed(&error.within(&format!("create topic {name}"))),
        }
    }

    fn on_topic(&self) -> [Operation; 3] {
        let own = if self.purpose.reads_as.is_some() {
            READ
        } else {
            WRITE
        };
        [DESCRIBE, own, DESCRIBE_CONFIGS]
    }

    fn partitions(&mut self, found: &MetadataResponseTopic) {
        let all = found.partitions.len();
        let led = found.partitions.iter().filter(|p| p.leader_id.0 >= 0);
        let led = led.count();
        let what = format!(
            "topic {}: {all} partitions, {led} with a leader",
            self.purpose.topic
        );
        let grade = if led == all { Grade::Good } else { Grade::Away };
        self.report.note(grade, what);
    }

    async fn settings(&mut self, cluster: &Cluster) {
        let topic = self.purpose.topic;
        match cluster.settings(topic).await {
            // Said above, as a right that is missing.
            Err(error) if error.code == Some(TOPIC_REFUSED) => {}
            Err(error) => self.report.failed(&error),
            Ok(settings) => {
                let fitness = judge(&settings);
                if let Some(why) = &fitness.unfit {
                    self.report
                        .note(Grade::Missing, format!("topic {topic}: {why}"));
                }
                for (setting, found) in &fitness.weak {
                    self.report
                        .note(Grade::Weak, format!("topic {topic}: {setting} is {found}"));
                }
                if fitness.unfit.is_none() && fitness.weak.is_empty() {
                    self.report.note(
                        Grade::Good,
                        format!("topic {topic}: its settings keep the promise"),
                    );
                }
            }
        }
    }

    async fn group(&mut self, group: &str) {
        let until = self.deadline.min(Instant::now() + GROUPS_WITHIN);
        let found = loop {
            match self.described(group).await {
                Ok((GROUPS_NOT_UP, _)) if Instant::now() + PAUSE < until => sleep(PAUSE).await,
                found => break found,
            }
        };
        match found {
            Ok((0, told)) => self.rights("group", group, told, &[DESCRIBE, READ]),
            Ok((GROUP_REFUSED, _)) => self.rights("group", group, 0, &[DESCRIBE, READ]),
            Ok((code, _)) => {
                let what = format!("group {group}: {} ({code})", name_of(code));
                self.report.note(Grade::Away, what);
            }
            // An older broker, or one that is not Kafka: what it cannot tell is no fault.
            Err(error) if error.kind == ErrorKind::Fatal => {
                let what = format!("group {group}: the broker does not tell ({error})");
                self.report.note(Grade::Weak, what);
            }
            Err(error) => self.report.failed(&error),
        }
    }

    /// Error code, and what we may do with it.
    async fn described(&self, group: &str) -> Result<(i16, i32), KafkaError> {
        let key = StrBytes::from_string(group.to_owned());
        let asked = key.clone();
        let found = self
            .inner
            .ask_any(Context::Group, self.deadline, move |version| {
                let request = FindCoordinatorRequest::default();
                if version < MANY_KEYS {
                    request.with_key(asked.clone())
                } else {
                    request.with_coordinator_keys(vec![asked.clone()])
                }
            })
            .await?;
        let (code, host, port) = match found.coordinators.first() {
            Some(found) => (found.error_code, found.host.clone(), found.port),
            None => (found.error_code, found.host, found.port),
        };
        if code != 0 {
            return Ok((code, 0));
        }
        let answer = self
            .inner
            .call(
                &address_of(&host, port),
                Lane::Group,
                Context::Group,
                self.deadline,
                |version| {
                    DescribeGroupsRequest::default()
                        .with_groups(vec![GroupId(key)])
                        .with_include_authorized_operations(version >= GROUPS_TELL)
                },
            )
            .await?;
        let described = answer.groups.first();
        Ok(described.map_or((0, NOT_TOLD), |it| {
            (it.error_code, it.authorized_operations)
        }))
    }
}
