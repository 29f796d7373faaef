//! Whether a service can do its work on these brokers, looked at before it is started: each
//! broker's connection, TLS and login, the topic and its settings, and the rights (KIP-430). Changes
//! nothing.

mod report;

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    Cluster, KafkaError,
    cluster::{Inner, address_of},
    error::{Context, ErrorKind, name_of},
    fitness::judge,
    net::Lane,
};
use kafka_protocol::{
    messages::{
        DescribeGroupsRequest, FindCoordinatorRequest, GroupId, MetadataRequest, MetadataResponse,
        TopicName, metadata_request::MetadataRequestTopic,
        metadata_response::MetadataResponseTopic,
    },
    protocol::StrBytes,
};

use report::Grade;
pub use report::Report;

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
/// What stands for rights that are not told.
const NOT_TOLD: i32 = i32::MIN;

/// An operation of Kafka's rights: its name, and its bit.
type Operation = (&'static str, u32);
const READ: Operation = ("Read", 3);
const WRITE: Operation = ("Write", 4);
const DESCRIBE: Operation = ("Describe", 8);
const DESCRIBE_CONFIGS: Operation = ("DescribeConfigs", 10);

/// What a service will do.
#[derive(Clone, Debug)]
pub struct Purpose<'a> {
    pub topic: &'a str,
    /// Makes the topic where it does not exist.
    pub creates: bool,
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
        if look.brokers().await && look.topic().await {
            look.settings(self).await;
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
            UNKNOWN_TOPIC if self.purpose.creates => {
                let what = format!(
                    "topic {topic} does not exist; it will be made (kafka.createTopic), for which \
                     the right Create on the topic is needed"
                );
                self.report.note(Grade::Weak, what);
                return false;
            }
            UNKNOWN_TOPIC => {
                let what = format!("topic {topic} does not exist (or set kafka.createTopic)");
                self.report.note(Grade::Missing, what);
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

    /// Compares what the broker says we may do with what we need.
    fn rights(&mut self, kind: &str, name: &str, told: i32, needed: &[Operation]) {
        let names = |operations: &[Operation]| {
            let names: Vec<_> = operations.iter().map(|(name, _)| *name).collect();
            names.join(", ")
        };
        if told == NOT_TOLD {
            let what = format!(
                "rights on {kind} {name}: the broker does not tell; needed are {}",
                names(needed)
            );
            self.report.note(Grade::Weak, what);
            return;
        }
        let lacks = |(_, bit): &Operation| told & (1 << bit) == 0;
        let missing: Vec<Operation> = needed.iter().copied().filter(lacks).collect();
        if missing.is_empty() {
            let what = format!("rights on {kind} {name}: {}", names(needed));
            self.report.note(Grade::Good, what);
        }
        let principal = self.purpose.principal.as_deref().unwrap_or("PRINCIPAL");
        for (operation, _) in missing {
            let what = format!(
                "right {operation} on {kind} {name}: kafka-acls.sh --bootstrap-server BROKER --add \
                 --allow-principal '{principal}' --operation {operation} --{kind} '{name}'"
            );
            self.report.note(Grade::Missing, what);
        }
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
        match self.described(group).await {
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
