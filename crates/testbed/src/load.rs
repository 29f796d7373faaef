//! The load client: many connections, each request booked with every answer that it got. It goes
//! on through restarts, refusals and silence, and sends again only what it may.

mod book;
mod judge;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use self::{
    book::Book,
    judge::{Outcome, judge},
};
use crate::{
    body::{Mix, Shape, gzip},
    http::{Client, Failure, Request, Response},
    ledger::{Fate, Ledger},
};

/// How to send.
#[derive(Clone, Debug)]
pub struct Plan {
    pub mix: Mix,
    pub connections: usize,
    /// Records a second over all connections; `None` is as fast as it goes.
    pub rate: Option<u32>,
    /// Ends by itself after so many requests.
    pub requests: Option<u32>,
    /// How long one request is tried after [`Load::stop`], or after its first refusal.
    pub patience: Duration,
    /// How long the connections wait for an answer, in turn; one that has none by then hangs up.
    pub answer_within: Vec<Duration>,
    /// Whether what was or may have been taken is sent again with its key. Not, where the
    /// duplicate window is too short for it.
    pub repeat: bool,
    /// Of the requests without a key one in so many is given up when it is refused, and so nothing
    /// of it may ever be found.
    pub give_up_every: Option<u32>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            mix: Mix::default(),
            connections: 8,
            rate: Some(20_000),
            requests: None,
            patience: Duration::from_secs(60),
            answer_within: vec![Duration::from_secs(90)],
            repeat: true,
            give_up_every: None,
        }
    }
}

/// A load that runs.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    plan: Plan,
    gateways: Vec<SocketAddr>,
    start: Instant,
    stop: AtomicBool,
    /// As in the plan, until it is changed.
    repeats: AtomicBool,
    accepted: AtomicU64,
    book: Mutex<Book>,
}

impl Plan {
    fn gives_up(&self, shape: &Shape) -> bool {
        let every = self.give_up_every.unwrap_or(0);
        !shape.keyed && every > 0 && shape.number.is_multiple_of(every)
    }
}

impl Load {
    /// Begins to send to these gateways, each connection to one of them.
    ///
    /// # Panics
    /// When there is no gateway.
    pub fn start(gateways: &[SocketAddr], plan: Plan) -> Self {
        assert!(!gateways.is_empty(), "a load needs a gateway");
        let connections = plan.connections;
        let shared = Arc::new(Shared {
            repeats: AtomicBool::new(plan.repeat),
            plan,
            gateways: gateways.to_vec(),
            start: Instant::now(),
            stop: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            book: Mutex::default(),
        });
        let threads = (0..connections)
            .map(|connection| {
                let shared = Arc::clone(&shared);
                spawn(move || shared.run(connection))
            })
            .collect();
        Self { shared, threads }
    }

    /// Records of 202s so far, each request counted once.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// How often an answer that begins so has come.
    pub fn answered(&self, answer: &str) -> u64 {
        let book = self.shared.book();
        let like = book
            .answers
            .iter()
            .filter(|(name, _)| name.starts_with(answer));
        like.map(|(_, count)| count).sum()
    }

    /// Answers so far that the contract does not allow.
    pub fn faults(&self) -> Vec<String> {
        self.shared.book().faults.clone()
    }

    /// What is known of a request now, for people.
    pub fn about(&self, request: u32) -> String {
        let book = self.shared.book();
        let known = Ledger {
            marks: book.marks.clone(),
            ..Ledger::default()
        };
        let batch = book.batches.get(&request).map_or("unknown", String::as_str);
        format!("batch {batch}, first sent in {}", known.at(request))
    }

    /// What is sent first from now on is said to fall into this.
    pub fn mark(&self, what: &str) {
        let mut book = self.shared.book();
        let next = u32::try_from(book.entries.len()).unwrap_or(u32::MAX);
        book.marks.push((next, what.to_owned()));
    }

    /// No new requests until [`Load::resume`]; waits until the fate of all others is known, and gives
    /// the book as it is then.
    pub fn pause(&self) -> Ledger {
        self.shared.book().paused.get_or_insert_with(Instant::now);
        loop {
            let book = self.shared.book();
            if book.under_way == 0 {
                return book.ledger(&self.shared.plan.mix, self.shared.start.elapsed());
            }
            drop(book);
            sleep(Duration::from_millis(5));
        }
    }

    /// Goes on at the same rate; nothing is made up for.
    pub fn resume(&self) {
        self.shared.book().resume();
    }

    /// Whether from now on what was or may have been taken is sent again with its key.
    pub fn repeat(&self, repeats: bool) {
        self.shared.repeats.store(repeats, Ordering::Relaxed);
        if !repeats {
            self.shared.book().again.clear();
        }
    }

    /// Waits until so many records are accepted; false when that takes longer than `within`.
    pub fn wait_accepted(&self, records: u64, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.accepted() < records {
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(5));
        }
        true
    }

    /// No new requests; those that run are ended properly. Returns the book.
    ///
    /// # Panics
    /// When a sending thread has panicked.
    pub fn stop(self) -> Ledger {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.finish()
    }

    /// Waits for the last of [`Plan::requests`].
    ///
    /// # Panics
    /// When a sending thread has panicked.
    pub fn finish(mut self) -> Ledger {
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("a sending thread ends by itself");
        }
        let book = self.shared.book();
        book.ledger(&self.shared.plan.mix, self.shared.start.elapsed())
    }
}

impl Drop for Load {
    /// Whoever gives up has no use for the rest; a load that was ended has no threads any more.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self, connection: usize) {
        let gateway = self.gateways[connection % self.gateways.len()];
        let patience = &self.plan.answer_within;
        let mut client = Client::new(gateway, patience[connection % patience.len()]);
        while let Some((shape, due, repeat)) = self.next() {
            let now = Instant::now();
            if due > now {
                sleep(due - now);
            }
            self.deliver(&mut client, &shape, repeat);
            self.book().under_way -= 1;
        }
    }

    /// The next request and when it is due. A request to be sent again comes first.
    fn next(&self) -> Option<(Shape, Instant, bool)> {
        let mut book = loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let book = self.book();
            if book.paused.is_none() {
                break book;
            }
            drop(book);
            sleep(Duration::from_millis(5));
        };
        if let Some(number) = book.again.pop() {
            book.under_way += 1;
            return Some((self.plan.mix.shape(number), Instant::now(), true));
        }
        let number = u32::try_from(book.entries.len()).ok()?;
        if self
            .plan
            .requests
            .is_some_and(|requests| number >= requests)
        {
            return None;
        }
        let shape = self.plan.mix.shape(number);
        let given = book.give(&shape);
        let due = match self.plan.rate {
            Some(rate) => {
                self.start + book.idle + Duration::from_secs_f64(given as f64 / f64::from(rate))
            }
            None => self.start,
        };
        Some((shape, due, false))
    }

    /// Sends a request until its fate is known or sending again could store it twice.
    fn deliver(&self, client: &mut Client, shape: &Shape, repeat: bool) {
        let plain = self.plan.mix.body(shape);
        // The same batch whatever its encoding: what is sent again comes in the other one.
        let packed = shape.gzip != repeat;
        let body = if packed { gzip(&plain) } else { plain };
        let key = format!("load-{}-{}", self.plan.mix.seed, shape.number);
        let mut headers = vec![("content-type", shape.content_type())];
        if packed {
            headers.push(("content-encoding", "gzip"));
        }
        if shape.keyed {
            headers.push(("idempotency-key", &key));
        }
        let target = shape.target();
        let request = Request {
            method: "POST",
            target: &target,
            headers: &headers,
            body: &body,
        };

        let begun = Instant::now();
        loop {
            let sent = Instant::now();
            let answer = client.send(&request);
            let outcome = self.book_answer(shape, answer, sent.elapsed(), repeat);
            let pause = match outcome {
                Outcome::Accepted | Outcome::Final => return,
                // Without a key, another try after this one could be a second copy.
                Outcome::Unknown if !shape.keyed || !self.repeats() => return,
                Outcome::Unknown => Duration::from_millis(50),
                Outcome::NotSent => Duration::from_millis(20),
                Outcome::Refused(_) if self.plan.gives_up(shape) => return,
                Outcome::Refused(pause) => pause,
            };
            if begun.elapsed() > self.plan.patience {
                return;
            }
            sleep(pause);
        }
    }

    fn book_answer(
        &self,
        shape: &Shape,
        answer: Result<Response, Failure>,
        took: Duration,
        repeat: bool,
    ) -> Outcome {
        let (name, outcome, mut fault) = judge(shape, &answer);
        let mut book = self.book();
        if let (Outcome::Accepted, Ok(response)) = (&outcome, &answer) {
            let id = response.json()["batchId"]
                .as_str()
                .unwrap_or("none")
                .to_owned();
            let known = book
                .batches
                .entry(shape.number)
                .or_insert_with(|| id.clone());
            if *known != id {
                fault = Some(format!(
                    "batch {known} was answered as {id} when sent again"
                ));
            }
        }
        *book.answers.entry(name).or_insert(0) += 1;
        book.slowest = book.slowest.max(took);
        if let Some(fault) = fault
            && book.faults.len() < 20
        {
            book.faults
                .push(format!("request {}: {fault}", shape.number));
        }
        let fate = match outcome {
            Outcome::Accepted => Fate::Accepted,
            Outcome::Unknown => Fate::Unknown,
            Outcome::Refused(_) | Outcome::NotSent | Outcome::Final => Fate::Refused,
        };
        let entry = &mut book.entries[shape.number as usize];
        if fate == Fate::Accepted && entry.fate != Fate::Accepted {
            self.accepted
                .fetch_add(u64::from(entry.good()), Ordering::Relaxed);
            if shape.again && !repeat && self.repeats() {
                entry.fate = fate;
                // Not at once: later in the load, from whichever connection is free.
                book.again.insert(0, shape.number);
                return outcome;
            }
        }
        // What one answer has promised, no later one takes back.
        entry.fate = match (entry.fate, fate) {
            (Fate::Accepted, _) | (_, Fate::Accepted) => Fate::Accepted,
            (Fate::Unknown, _) | (_, Fate::Unknown) => Fate::Unknown,
            (Fate::Refused, Fate::Refused) => Fate::Refused,
        };
        outcome
    }

    fn repeats(&self) -> bool {
        self.repeats.load(Ordering::Relaxed)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
