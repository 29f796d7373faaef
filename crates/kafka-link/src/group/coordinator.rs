//! Which broker coordinates a group, and calls to it that follow it when it moves.
//!
//! The calls made here may be tried again: the group's generation makes a second one harmless.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{FindCoordinatorRequest, FindCoordinatorResponse},
    protocol::StrBytes,
};

use crate::{
    Cluster, KafkaError,
    cluster::address_of,
    error::{Context, ErrorKind},
    net::{Call, Lane},
};

/// Between two attempts; doubles up to the second, and a random part is taken off.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A coordinator of a group, not of transactions.
const GROUP_KEY: i8 = 0;
/// From this version on several groups may be asked for at once.
const MANY_KEYS_VERSION: i16 = 4;

pub(super) struct Coordinator {
    cluster: Cluster,
    group_id: String,
    address: Mutex<Option<Arc<str>>>,
}

/// How a call is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub lane: Lane,
    pub context: Context,
    /// How long one attempt may take.
    pub attempt: Duration,
    /// When there are no more attempts.
    pub deadline: Instant,
}

impl Coordinator {
    pub(super) fn new(cluster: Cluster, group_id: String) -> Self {
        Self {
            cluster,
            group_id,
            address: Mutex::new(None),
        }
    }

    /// Asks the coordinator until it answers with something other than "not I", "not yet" or
    /// nothing. `codes` gives the error codes of an answer.
    pub(super) async fn ask<R: Call, C: IntoIterator<Item = i16>>(
        &self,
        manner: Manner,
        build: impl Fn(i16) -> R,
        codes: impl Fn(&R::Response) -> C,
    ) -> Result<R::Response, KafkaError> {
        let mut pause = PAUSE_MIN;
        loop {
            let error = match self.attempt(manner, &build).await {
                Ok((address, answer)) => {
                    let passing = codes(&answer).into_iter().find(|code| passes(*code));
                    let Some(code) = passing else {
                        return Ok(answer);
                    };
                    let call = format!("{} of group {} at {address}", R::NAME, self.group_id);
                    KafkaError::answered(manner.context, code, &call, None)
                }
                Err(error) if error.kind == ErrorKind::Fatal => return Err(error),
                Err(error) => error,
            };
            if error.code != Some(ResponseError::CoordinatorLoadInProgress.code()) {
                *self.lock() = None;
            }
            if Instant::now() + pause >= manner.deadline {
                return Err(error);
            }
            tracing::debug!(group = self.group_id, %error, "coordinator is asked again");
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt<R: Call>(
        &self,
        manner: Manner,
        build: impl Fn(i16) -> R,
    ) -> Result<(Arc<str>, R::Response), KafkaError> {
        let deadline = manner.deadline.min(Instant::now() + manner.attempt);
        let address = self.find(deadline).await?;
        let inner = self.cluster.inner();
        let answer = match manner.lane {
            Lane::Join => {
                inner
                    .call_alone(&address, manner.lane, manner.context, deadline, build)
                    .await
            }
            _ => {
                inner
                    .call(&address, manner.lane, manner.context, deadline, build)
                    .await
            }
        };
        answer
            .map(|answer| (address, answer))
            .map_err(|error| error.within(&format!("group {}", self.group_id)))
    }

    async fn find(&self, deadline: Instant) -> Result<Arc<str>, KafkaError> {
        if let Some(address) = &*self.lock() {
            return Ok(Arc::clone(address));
        }
        let key = StrBytes::from_string(self.group_id.clone());
        let answer = self
            .cluster
            .inner()
            .ask_any(Context::Group, deadline, move |version| {
                let request = FindCoordinatorRequest::default().with_key_type(GROUP_KEY);
                if version < MANY_KEYS_VERSION {
                    request.with_key(key.clone())
                } else {
                    request.with_coordinator_keys(vec![key.clone()])
                }
            })
            .await?;
        let address = self.read_found(answer)?;
        *self.lock() = Some(Arc::clone(&address));
        Ok(address)
    }

    fn read_found(&self, answer: FindCoordinatorResponse) -> Result<Arc<str>, KafkaError> {
        let (code, detail, host, port) = match answer.coordinators.into_iter().next() {
            Some(found) => (
                found.error_code,
                found.error_message,
                found.host,
                found.port,
            ),
            None => (
                answer.error_code,
                answer.error_message,
                answer.host,
                answer.port,
            ),
        };
        if code != 0 {
            let call = format!("find coordinator of group {}", self.group_id);
            let detail = detail.as_deref();
            return Err(KafkaError::answered(Context::Group, code, &call, detail));
        }
        Ok(address_of(&host, port))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.address
            .lock()
            .expect("nothing panics while it holds this lock")
    }
}

/// Whether asking again, perhaps elsewhere, gives another answer.
fn passes(code: i16) -> bool {
    [
        ResponseError::CoordinatorLoadInProgress,
        ResponseError::CoordinatorNotAvailable,
        ResponseError::NotCoordinator,
        ResponseError::UnstableOffsetCommit,
    ]
    .iter()
    .any(|error| error.code() == code)
}
