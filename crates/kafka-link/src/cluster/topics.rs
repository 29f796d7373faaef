//! Making topics, and what they are made with.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        CreateTopicsRequest, TopicName,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
    },
    protocol::StrBytes,
};

use pipeline_core::config::CreateTopic;

use super::Inner;
use crate::{
    KafkaError,
    error::{Context, ErrorKind},
    net::{Call, Lane},
};

/// Between two looks at whether the topic is there.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    pub partitions: u32,
    pub replication_factor: u16,
    /// As `("min.insync.replicas", "2")`.
    pub settings: Vec<(String, String)>,
}

impl NewTopic {
    /// With the settings that keep the promise, whatever the brokers' defaults are. Where two
    /// copies are needed for an acknowledgement, one of three brokers may be lost.
    #[must_use]
    pub fn kept(name: &str, create: &CreateTopic) -> Self {
        let in_sync = if create.replication_factor >= 3 {
            "2"
        } else {
            "1"
        };
        let settings = [
            ("cleanup.policy", "delete"),
            ("min.insync.replicas", in_sync),
            ("unclean.leader.election.enable", "false"),
        ];
        Self {
            name: name.to_owned(),
            partitions: create.partitions,
            replication_factor: create.replication_factor,
            settings: settings
                .map(|(setting, value)| (setting.to_owned(), value.to_owned()))
                .into(),
        }
    }
}

/// Whether a topic is made, or only looked whether it could be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Making {
    Now,
    Tried,
}

impl Inner {
    /// Whether the topic, which is not there, could be made now; makes none.
    pub(crate) async fn could_create(
        self: &Arc<Self>,
        topic: &NewTopic,
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        self.ask_to_create(topic, Making::Tried, deadline).await
    }

    pub(super) async fn create_topic(
        self: &Arc<Self>,
        topic: &NewTopic,
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        let call = format!("create topic {}", topic.name);
        let mut trouble;
        loop {
            // A look first: it also tells who the controller is.
            match self.view(&topic.name, deadline).await {
                Ok(view) if view.all_have_leaders() => return Ok(()),
                Ok(_) => {
                    self.metadata.forget(&topic.name);
                    let what = "not all of its partitions have a leader";
                    trouble = KafkaError::new(ErrorKind::UnknownOutcome, what);
                }
                Err(error) if error.code == Some(ResponseError::UnknownTopicOrPartition.code()) => {
                    trouble = match self.ask_to_create(topic, Making::Now, deadline).await {
                        Ok(()) => KafkaError::new(ErrorKind::UnknownOutcome, "it is not there yet"),
                        Err(error) => error,
                    };
                }
                Err(error) => trouble = error,
            }
            if !may_pass(&trouble) || Instant::now() + PAUSE >= deadline {
                return Err(trouble.within(&call));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask_to_create(
        self: &Arc<Self>,
        topic: &NewTopic,
        making: Making,
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        let request = request(topic, making, deadline)?;
        let answer = match self.metadata.controller() {
            Some(controller) => {
                self.call(
                    &controller,
                    Lane::Control,
                    Context::Admin,
                    deadline,
                    move |_| request,
                )
                .await
            }
            // Brokers without a visible controller pass the request on (KIP-590).
            None => {
                self.ask_any(Context::Admin, deadline, move |_| request.clone())
                    .await
            }
        };
        let found = answer?
            .topics
            .into_iter()
            .find(|found| found.name.as_str() == topic.name)
            .ok_or_else(|| {
                KafkaError::new(ErrorKind::UnknownOutcome, "the answer leaves it out")
            })?;
        if found.error_code == 0 || found.error_code == ResponseError::TopicAlreadyExists.code() {
            return Ok(());
        }
        let detail = found.error_message.as_deref();
        Err(KafkaError::answered(
            Context::Admin,
            found.error_code,
            CreateTopicsRequest::NAME,
            detail,
        ))
    }
}

/// Making a topic that is there changes nothing, so whatever may pass is tried again.
fn may_pass(error: &KafkaError) -> bool {
    matches!(
        error.kind,
        ErrorKind::Retry | ErrorKind::RefreshAndRetry | ErrorKind::UnknownOutcome
    )
}

fn request(
    topic: &NewTopic,
    making: Making,
    deadline: Instant,
) -> Result<CreateTopicsRequest, KafkaError> {
    let refused = |what: &str, value: &dyn std::fmt::Display| {
        let what = format!("{what} {value} is too large");
        KafkaError::new(ErrorKind::Fatal, what)
    };
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let configs = topic.settings.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    });
    let creatable = CreatableTopic::default()
        .with_name(TopicName(text(&topic.name)))
        .with_num_partitions(
            i32::try_from(topic.partitions)
                .map_err(|_| refused("a number of partitions of", &topic.partitions))?,
        )
        .with_replication_factor(
            i16::try_from(topic.replication_factor)
                .map_err(|_| refused("a replication factor of", &topic.replication_factor))?,
        )
        .with_configs(configs.collect());
    let left = deadline.saturating_duration_since(Instant::now());
    Ok(CreateTopicsRequest::default()
        .with_topics(vec![creatable])
        .with_validate_only(making == Making::Tried)
        .with_timeout_ms(i32::try_from(left.as_millis() / 2).unwrap_or(i32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_topic_keeps_the_promise_and_one_replica_to_lose() {
        for (replication_factor, in_sync) in [(1, "1"), (2, "1"), (3, "2"), (5, "2")] {
            let create = CreateTopic {
                partitions: 4,
                replication_factor,
            };
            let topic = NewTopic::kept("logs", &create);
            let setting = |name: &str| {
                let mut all = topic.settings.iter();
                all.find(|(key, _)| key == name).map(|(_, value)| &**value)
            };
            assert_eq!(setting("min.insync.replicas"), Some(in_sync));
            assert_eq!(setting("cleanup.policy"), Some("delete"));
            assert_eq!(setting("unclean.leader.election.enable"), Some("false"));
        }
    }
}
