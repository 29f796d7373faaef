//! Making topics.

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

use super::{Inner, NewTopic};
use crate::{
    KafkaError,
    error::{Context, ErrorKind},
    net::{Call, Lane},
};

/// Between two looks at whether the topic is there.
const PAUSE: Duration = Duration::from_millis(100);

impl Inner {
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
                    trouble = match self.ask_to_create(topic, deadline).await {
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
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        let request = request(topic, deadline)?;
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

fn request(topic: &NewTopic, deadline: Instant) -> Result<CreateTopicsRequest, KafkaError> {
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
        .with_timeout_ms(i32::try_from(left.as_millis() / 2).unwrap_or(i32::MAX)))
}
