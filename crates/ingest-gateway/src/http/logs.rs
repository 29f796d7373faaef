//! `POST /logs`: one body to one batch on the queue, and its answer.
//!
//! Until the push the batch is the client's: a client that goes away takes it along, as this
//! future is dropped. From the push on it belongs to the pipeline.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Request, body::Incoming, header::EXPECT, http::request::Parts};
use pipeline_core::{
    BatchId,
    config::InvalidRecords,
    record::{RecordErrorCode, Rules},
};
use tokio::{sync::oneshot, task::spawn_blocking, time::timeout_at};

use super::{
    body::{self, BodyLimits},
    problem::{Code, Problem, RecordFaults},
    reply::{Accepted, RecordFault},
    request::Head,
};
use crate::{
    batch::{Answer, Batch, Kept, Progress},
    decode::{BodyError, DecodedBatch, Limits, decode},
    identity::{KeyedBody, random_batch_id},
    producer::{
        drain::Drain,
        link::ViewReceiver,
        settle::now_ms,
        view::{MESSAGE_BYTES_MAX_DEFAULT, line_bytes_max},
    },
    queue::{Held, PushError, Queue},
    telemetry,
};

/// A larger body is decoded where it does not keep other connections waiting.
const INLINE_BYTES_MAX: usize = 512 * 1024;

/// What the handler needs; shared by all requests.
#[derive(Debug)]
pub struct Ingest {
    pub queue: Arc<Queue>,
    pub view: ViewReceiver,
    pub body: BodyLimits,
    pub record_bytes_max: usize,
    pub invalid_records: InvalidRecords,
    /// The client has its answer as soon as the batch is on the queue.
    pub async_ack: bool,
    /// From the end of the headers to the answer.
    pub request_timeout: Duration,
    /// What of it belongs to the dead letter queue's fsync.
    pub reserve: Duration,
    pub drain: Drain,
}

impl Ingest {
    /// # Errors
    /// What is to be answered instead of a 202.
    pub async fn post(&self, request: Request<Incoming>) -> Result<Accepted, Problem> {
        let began = Instant::now();
        let deadline = began + self.request_timeout - self.reserve;
        let expects_continue = request.headers().contains_key(EXPECT);
        let (parts, mut incoming) = request.into_parts();
        let (head, body) = match self.read(&parts, &mut incoming, deadline).await {
            Ok(read) => read,
            Err(problem) => {
                return Err(body::let_go(incoming, expects_continue, problem).await);
            }
        };
        let received_ms = now_ms();
        let (id, decoded) = self.decode(head, body).await?;
        telemetry::batch_received();
        self.count_rejected(&decoded);
        let verdict = Verdict::of(decoded, self.invalid_records)?;
        self.hand_over(id, received_ms, began, deadline, verdict)
            .await
    }

    async fn read(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        deadline: Instant,
    ) -> Result<(Head, Vec<u8>), Problem> {
        let head = Head::read(&parts.uri, &parts.headers)?;
        if self.queue.is_full() {
            return Err(self.full());
        }
        tokio::select! {
            body = body::read(incoming, head.encoding, &self.body, deadline) => Ok((head, body?)),
            () = self.drain.expired() => Err(draining()),
        }
    }

    async fn hand_over(
        &self,
        id: BatchId,
        received_ms: i64,
        began: Instant,
        deadline: Instant,
        verdict: Verdict,
    ) -> Result<Accepted, Problem> {
        let accepted = verdict.records.len();
        let (answer, waiting) = oneshot::channel();
        let batch = Batch {
            id,
            received_ms,
            records: Arc::new(verdict.records),
            progress: Progress::default(),
            deadline,
            answer: (!self.async_ack).then_some(answer),
            held: Held::default(),
        };
        match self.queue.push(batch) {
            Ok(()) => {}
            Err(PushError::Full(_)) => return Err(self.full()),
            Err(PushError::Closed(_)) => return Err(draining()),
        }
        let kept = if self.async_ack {
            telemetry::records_accepted(accepted, Kept::Queue);
            Kept::Queue
        } else {
            match timeout_at((began + self.request_timeout).into(), waiting).await {
                Ok(Ok(Answer::Kept(kept))) => kept,
                Ok(Ok(Answer::Refused { may_be_kept, why })) => {
                    return Err(refused(may_be_kept, why));
                }
                Ok(Err(_)) => {
                    let why = "the gateway ended before the batch was kept".to_owned();
                    return Err(refused(true, why));
                }
                Err(_) => {
                    let why = "no answer came within server.requestTimeout".to_owned();
                    return Err(refused(true, why));
                }
            }
        };
        Ok(Accepted {
            batch: id,
            accepted,
            rejected: verdict.faults.rejected,
            kept,
            errors: verdict.faults.errors,
            errors_omitted: verdict.faults.omitted,
        })
    }

    async fn decode(&self, head: Head, body: Vec<u8>) -> Result<(BatchId, DecodedBatch), Problem> {
        let message_bytes_max = self
            .view
            .borrow()
            .as_ref()
            .map_or(MESSAGE_BYTES_MAX_DEFAULT, |view| view.message_bytes_max);
        let record_bytes_max = self.record_bytes_max.min(line_bytes_max(message_bytes_max));
        let decoded = if body.len() <= INLINE_BYTES_MAX {
            decode_now(head, &body, record_bytes_max)
        } else {
            spawn_blocking(move || decode_now(head, &body, record_bytes_max))
                .await
                .map_err(|error| {
                    tracing::error!("decoding a body ended: {error}");
                    Problem::new(Code::UnreadableBody, "the body cannot be decoded")
                })?
        };
        decoded.map_err(|error| match error {
            BodyError::Unreadable { message } => Problem::new(Code::UnreadableBody, message),
            BodyError::TooLarge { .. } => Problem::new(Code::TooLarge, error.to_string()),
        })
    }

    fn count_rejected(&self, decoded: &DecodedBatch) {
        for (code, records) in RecordErrorCode::ALL.iter().zip(decoded.rejected_by_code) {
            if records > 0 {
                telemetry::records_rejected(*code, records);
            }
        }
    }

    fn full(&self) -> Problem {
        Problem::new(Code::QueueFull, "the work queue is full")
            .retry_after(self.queue.retry_after_s())
    }
}

#[must_use]
pub fn draining() -> Problem {
    Problem::new(Code::Draining, "the gateway is shutting down").closing()
}

/// The records of a body that go on, and what is said of the others.
#[derive(Debug)]
struct Verdict {
    records: crate::decode::RecordBatch,
    faults: RecordFaults,
}

impl Verdict {
    fn of(decoded: DecodedBatch, invalid_records: InvalidRecords) -> Result<Self, Problem> {
        let faults = RecordFaults {
            omitted: decoded.errors_omitted(),
            rejected: decoded.rejected,
            errors: decoded.errors.into_iter().map(RecordFault::from).collect(),
        };
        let records = decoded.records;
        if records.is_empty() {
            let detail = match faults.rejected {
                0 => "the body holds no record".to_owned(),
                n => format!("none of {n} records is valid"),
            };
            return Err(Problem::new(Code::NoValidRecord, detail).with_records(faults));
        }
        if invalid_records == InvalidRecords::Reject && faults.rejected > 0 {
            let detail = format!(
                "{} of {} records are not valid, and ingestion.invalidRecords is `reject`",
                faults.rejected,
                faults.rejected + records.len() as u64
            );
            return Err(Problem::new(Code::InvalidRecords, detail).with_records(faults));
        }
        Ok(Self { records, faults })
    }
}

fn decode_now(
    head: Head,
    body: &[u8],
    record_bytes_max: usize,
) -> Result<(BatchId, DecodedBatch), BodyError> {
    let id = match &head.key {
        Some(key) => KeyedBody {
            client: "",
            key,
            site: head.site.as_deref().unwrap_or_default(),
            media_type: head.media.name(),
            body,
        }
        .batch_id(),
        None => random_batch_id().map_err(|error| BodyError::Unreadable {
            message: format!("the system gives no randomness: {error}"),
        })?,
    };
    let rules = Rules {
        record_bytes_max,
        default_site: head.site,
    };
    Ok((id, decode(head.media, body, &rules, Limits::default())?))
}

fn refused(may_be_kept: bool, why: String) -> Problem {
    let code = if may_be_kept {
        Code::UnknownOutcome
    } else {
        Code::NowhereToKeep
    };
    Problem::new(code, why).retry_after(5)
}
