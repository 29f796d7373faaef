//! `POST /logs`: one body to one batch on the queue, and its answer.
//!
//! Until the push the batch is the client's: a client that goes away takes it along, as this
//! future is dropped. From the push on it belongs to the pipeline.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Request, body::Body, header::EXPECT};
use pipeline_core::{
    BatchId,
    config::InvalidRecords,
    record::{RecordErrorCode, Rules},
};
use tokio::{sync::oneshot, time::timeout_at};

use super::{
    body::{self, BodyLimits},
    incoming::Incoming,
    problem::{Code, Problem},
    reply::Accepted,
    request::Head,
    room::Room,
    verdict::Verdict,
};
use crate::{
    auth::keys::Client,
    batch::{Answer, Batch, Kept, Progress, Waiting, memory_of},
    budget::{Budget, Share},
    decode::{BodyDecoder, BodyHead, Decoded, DecodedBatch, Limits},
    identity::{BatchKey, random_batch_id},
    producer::{
        drain::Drain,
        link::ViewReceiver,
        settle::now_ms,
        view::{MESSAGE_BYTES_MAX_DEFAULT, line_bytes_max},
    },
    queue::{PushError, Queue},
    rejects::{
        Rejects,
        keep::{Beginning, Origin},
    },
    telemetry,
};

/// What the handler needs; shared by all requests.
#[derive(Debug)]
pub struct Ingest {
    pub queue: Arc<Queue>,
    pub memory: Arc<Budget>,
    pub view: ViewReceiver,
    pub body: BodyLimits,
    pub decoded_bytes_max: u64,
    pub record_bytes_max: usize,
    pub limits: Limits,
    pub invalid_records: InvalidRecords,
    /// The client has its answer as soon as the batch is on the queue.
    pub async_ack: bool,
    /// From the end of the headers to the answer.
    pub request_timeout: Duration,
    /// What of it belongs to the dead letter queue's fsync.
    pub reserve: Duration,
    pub drain: Drain,
    /// Where what is refused is kept for people, if anywhere.
    pub rejects: Option<Rejects>,
}

impl Ingest {
    /// # Errors
    /// What is to be answered instead of a 202.
    pub async fn post(
        &self,
        request: Request<Incoming>,
        client: Arc<Client>,
    ) -> Result<Accepted, Problem> {
        let began = Instant::now();
        let deadline = began + self.request_timeout - self.reserve;
        let expects_continue = request.headers().contains_key(EXPECT);
        let (parts, mut incoming) = request.into_parts();
        let head = Head::read(&parts.uri, &parts.headers);
        // Before the first wait: it is up to 16 KiB.
        drop(parts);
        let mut origin = None;
        let read = self.read(head, &mut incoming, &client, deadline, &mut origin);
        let (decoded, room) = match read.await {
            Ok(read) => read,
            Err(problem) => {
                self.keep_body(origin, &problem);
                let hurry = self.drain.expired();
                return Err(body::let_go(incoming, expects_continue, problem, hurry).await);
            }
        };
        let received_ms = now_ms();
        let id = match decoded.id {
            Some(id) => id,
            None => random_batch_id().map_err(|error| {
                refused(false, format!("the system gives no randomness: {error}"))
            })?,
        };
        let mut decoded = decoded.batch;
        telemetry::batch_received();
        // What is rejected was work as well.
        let sent = decoded.records.len() as u64 + decoded.rejected;
        // Another request may have used the quota up meanwhile.
        client.charge(sent).map_err(over_quota)?;
        self.count_rejected(&decoded);
        if let (Some(rejects), Some((origin, _))) = (&self.rejects, origin) {
            rejects.keep(origin.records(id, &mut decoded));
        }
        let verdict = Verdict::of(decoded, self.invalid_records)?;
        let handed = self.hand_over(id, received_ms, began, deadline, verdict, room);
        handed.await.inspect_err(|problem| {
            if problem.code != Code::UnknownOutcome {
                client.refund(sent);
            }
        })
    }

    async fn read(
        &self,
        head: Result<Head, Problem>,
        incoming: &mut Incoming,
        client: &Client,
        deadline: Instant,
        origin: &mut Option<(Origin, Beginning)>,
    ) -> Result<(Decoded, Room), Problem> {
        let head = head?;
        let mut nothing = Beginning::of_nothing();
        let beginning = match &self.rejects {
            None => &mut nothing,
            Some(_) => {
                let both = (origin_of(&head, client), Beginning::of(head.encoding));
                &mut origin.insert(both).1
            }
        };
        client.admit().map_err(over_quota)?;
        if self.queue.is_full() {
            return Err(self.full());
        }
        let announced = incoming.size_hint().exact();
        body::check_announced(announced, &self.body)?;
        let entered = Room::enter(&self.memory, head.bytes, announced);
        let mut room = entered.map_err(|problem| self.in_time(problem))?;
        let decoder = BodyDecoder::new(self.body_head(head, client, announced));
        let limits = &self.body;
        let read = body::read(incoming, decoder, limits, deadline, &mut room, beginning);
        let decoded = tokio::select! {
            decoded = read => decoded.map_err(|problem| self.in_time(problem))?,
            () = self.drain.expired() => return Err(draining()),
        };
        Ok((decoded, room))
    }

    fn body_head(&self, head: Head, client: &Client, wire_len: Option<u64>) -> BodyHead {
        let message_bytes_max = self
            .view
            .borrow()
            .as_ref()
            .map_or(MESSAGE_BYTES_MAX_DEFAULT, |view| view.message_bytes_max);
        let key = head.key.as_deref().map(|key| {
            let batch = BatchKey {
                client: &client.id,
                key,
                site: head.site.as_deref().unwrap_or_default(),
                media_type: head.media.name(),
            };
            batch.begin(None)
        });
        BodyHead {
            media: head.media,
            encoding: head.encoding,
            rules: Rules {
                record_bytes_max: self.record_bytes_max.min(line_bytes_max(message_bytes_max)),
                default_site: head.site,
                bound_site: client.site.clone(),
            },
            limits: self.limits,
            decoded_bytes_max: self.decoded_bytes_max,
            wire_len,
            key,
        }
    }

    async fn hand_over(
        &self,
        id: BatchId,
        received_ms: i64,
        began: Instant,
        deadline: Instant,
        verdict: Verdict,
        mut room: Room,
    ) -> Result<Accepted, Problem> {
        // What is left then is the dead letter queue's: it might take the batch, too late for the
        // client to hear of it.
        if !self.async_ack && Instant::now() >= deadline {
            return Err(Problem::late());
        }
        let accepted = verdict.records.len();
        let memory = room.hand_over(memory_of(&verdict.records), verdict.faults.memory());
        let (answer, waiting) = oneshot::channel();
        let batch = Batch {
            id,
            received_ms,
            records: Arc::new(verdict.records),
            progress: Progress::default(),
            deadline,
            answer: (!self.async_ack).then_some(Waiting {
                to: answer,
                partly_dlq: false,
            }),
            memory,
            held: Share::default(),
        };
        match self.queue.push(batch) {
            Ok(()) => {}
            Err(PushError::Full(_)) => return Err(self.full()),
            Err(PushError::Closed(_)) => return Err(draining()),
        }
        let kept = if self.async_ack {
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
        // The books count what a 202 says.
        telemetry::records_accepted(accepted, kept);
        tracing::debug!(batch = %id, records = accepted, kept = kept.as_str(), "accepted");
        Ok(Accepted {
            batch: id,
            accepted,
            rejected: verdict.faults.rejected,
            kept,
            errors: verdict.faults.errors,
            errors_omitted: verdict.faults.omitted,
        })
    }

    /// A body that could not be read, for people.
    fn keep_body(&self, origin: Option<(Origin, Beginning)>, problem: &Problem) {
        if let (Some(rejects), Some((origin, beginning))) = (&self.rejects, origin)
            && problem.code == Code::UnreadableBody
        {
            let (code, why) = (problem.code.as_str(), problem.detail.to_string());
            rejects.keep(origin.body(code, why, &beginning));
        }
    }

    fn count_rejected(&self, decoded: &DecodedBatch) {
        for (code, records) in RecordErrorCode::ALL.iter().zip(decoded.rejected_by_code) {
            if records > 0 {
                telemetry::records_rejected(*code, records);
            }
        }
    }

    /// Of what there is no memory for now, there may be when the queue has moved on.
    fn in_time(&self, problem: Problem) -> Problem {
        match problem.code {
            Code::Memory => problem.retry_after(self.queue.retry_after_s()),
            _ => problem,
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

fn origin_of(head: &Head, client: &Client) -> Origin {
    Origin {
        received_ms: now_ms(),
        client: client.id.clone(),
        site: head.site.clone().or_else(|| client.site.clone()),
        media: head.media,
    }
}

fn over_quota(seconds: u32) -> Problem {
    let detail = "the API key has sent more than its recordsPerSecond";
    Problem::new(Code::Quota, detail).retry_after(seconds)
}

fn refused(may_be_kept: bool, why: String) -> Problem {
    let code = if may_be_kept {
        Code::UnknownOutcome
    } else {
        Code::NowhereToKeep
    };
    Problem::new(code, why).retry_after(5)
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::{
        batch::test::batch_of, http::problem::RecordFaults, producer::drain::drain,
        queue::QueueLimits,
    };

    fn ingest(async_ack: bool) -> Ingest {
        let second = Duration::from_secs(1);
        Ingest {
            queue: Arc::new(Queue::new(QueueLimits {
                batches_max: 10,
                bytes_max: 1 << 20,
                high_water: 0.9,
            })),
            memory: Budget::new(1 << 20),
            view: watch::channel(None).1,
            body: BodyLimits {
                wire_bytes_max: 1 << 20,
                stall_max: second,
            },
            decoded_bytes_max: 1 << 20,
            record_bytes_max: 1 << 20,
            limits: Limits::default(),
            invalid_records: InvalidRecords::Skip,
            async_ack,
            request_timeout: second,
            reserve: second,
            drain: drain().1,
            rejects: None,
        }
    }

    async fn hand_over_late(ingest: &Ingest) -> Result<Accepted, Problem> {
        let batch = batch_of(1, &["a"]);
        let verdict = Verdict {
            records: Arc::into_inner(batch.records).unwrap(),
            faults: RecordFaults {
                errors: Vec::new(),
                omitted: 0,
                rejected: 0,
            },
        };
        let now = Instant::now();
        let room = Room::enter(&ingest.memory, 0, None).unwrap();
        ingest.hand_over(batch.id, 0, now, now, verdict, room).await
    }

    #[tokio::test]
    async fn what_is_decoded_too_late_to_be_answered_in_time_goes_nowhere() {
        let sync = ingest(false);
        let problem = hand_over_late(&sync).await.unwrap_err();
        assert_eq!(problem.code, Code::NowhereToKeep);
        assert!(problem.retry_after.is_some());
        assert!(sync.queue.is_empty());
        // Here the answer comes at once.
        let at_once = ingest(true);
        assert_eq!(hand_over_late(&at_once).await.unwrap().kept, Kept::Queue);
        assert_eq!(at_once.queue.len(), 1);
    }
}
