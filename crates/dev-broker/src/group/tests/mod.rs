//! The state machine alone: time is a number that the test moves.

use super::*;

mod instances;
mod rounds;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

/// A group, a clock, and every answer that has come.
struct Sim {
    group: Group,
    start: Instant,
    now: Instant,
    token: Token,
    answers: HashMap<Token, Answer>,
}

impl Sim {
    fn new() -> Self {
        Self::with_delay(Duration::ZERO)
    }

    fn with_delay(delay: Duration) -> Self {
        let now = Instant::now();
        Self {
            group: Group::new(delay),
            start: now,
            now,
            token: 0,
            answers: HashMap::new(),
        }
    }

    fn request(&mut self, member: &str) -> Join {
        self.token += 1;
        Join {
            token: self.token,
            member_id: member.to_owned(),
            instance_id: None,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), Bytes::from_static(b"logs"))],
            id_required: true,
            can_skip_assignment: true,
            fresh_id: format!("m{}", self.token),
        }
    }

    fn join(&mut self, join: Join) -> Token {
        let token = join.token;
        self.step(|group, now, out| group.join(now, join, out));
        token
    }

    /// Asks for an id and joins with it: the id, and the join that waits.
    fn enter(&mut self) -> (String, Token) {
        let request = self.request("");
        let asked = self.join(request);
        let given = self.joined(asked).expect("answered at once");
        assert_eq!(given.error, code::MEMBER_ID_REQUIRED);
        let again = self.request(&given.member_id);
        let token = self.join(again);
        (given.member_id, token)
    }

    fn rejoin(&mut self, member: &str) -> Token {
        let request = self.request(member);
        self.join(request)
    }

    fn sync(
        &mut self,
        member: &str,
        generation: i32,
        assignments: &[(&str, &'static str)],
    ) -> Token {
        self.token += 1;
        let token = self.token;
        let assignments = assignments
            .iter()
            .map(|(id, text)| ((*id).to_owned(), Bytes::from_static(text.as_bytes())));
        let sync = Sync {
            token,
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
        };
        self.step(|group, now, out| group.sync(now, who(member, generation), sync, out));
        token
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> i16 {
        self.group.heartbeat(self.now, who(member, generation))
    }

    fn leave(&mut self, member: &str) -> i16 {
        self.step(|group, now, out| group.leave(now, member, None, out))
    }

    /// Moves the clock on, firing every timer at its time.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.group.next_deadline().filter(|next| *next <= until) {
            self.now = next.max(self.now);
            self.step(|group, now, out| group.tick(now, out));
        }
        self.now = until;
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Group, Instant, &mut Vec<Answer>) -> T) -> T {
        let mut out = Vec::new();
        let result = step(&mut self.group, self.now, &mut out);
        for answer in out {
            let token = match &answer {
                Answer::Join(token, _) | Answer::Sync(token, _) => *token,
            };
            let before = self.answers.insert(token, answer);
            assert_eq!(before, None, "a request is answered once");
        }
        result
    }

    fn joined(&self, token: Token) -> Option<Joined> {
        match self.answers.get(&token)? {
            Answer::Join(_, joined) => Some(joined.clone()),
            Answer::Sync(..) => panic!("token {token} is of a sync"),
        }
    }

    fn synced(&self, token: Token) -> Option<Synced> {
        match self.answers.get(&token)? {
            Answer::Sync(_, synced) => Some(synced.clone()),
            Answer::Join(..) => panic!("token {token} is of a join"),
        }
    }

    /// Two members in a working generation; the first leads.
    fn stable_pair(&mut self) -> (String, String, i32) {
        let (first, _) = self.enter();
        let (second, joining) = self.enter();
        self.rejoin(&first);
        let generation = self.joined(joining).expect("both have joined").generation;
        self.sync(&second, generation, &[]);
        self.sync(&first, generation, &[(&first, "p0"), (&second, "p1")]);
        assert_eq!(self.group.state_name(), "Stable");
        (first, second, generation)
    }
}

fn who(member: &str, generation: i32) -> Who<'_> {
    Who {
        member_id: member,
        instance_id: None,
        generation,
    }
}

/// Members that come, go, fall silent and come back in any order.
#[test]
fn whatever_happens_every_request_is_answered_once_and_generations_only_grow() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut sim = Sim::new();
        let mut ids: Vec<String> = Vec::new();
        let mut requests: Vec<Token> = Vec::new();
        let mut generation = 0;
        for _ in 0..200 {
            let any = |random: &mut fastrand::Rng, ids: &[String]| {
                random.choice(ids).cloned().unwrap_or_default()
            };
            let at = sim.group.generation() - i32::from(random.u8(..8) == 0);
            match random.u8(..8) {
                0 => {
                    let (id, token) = sim.enter();
                    ids.push(id);
                    requests.push(token);
                }
                1..=2 if !ids.is_empty() => {
                    let id = any(&mut random, &ids);
                    requests.push(sim.rejoin(&id));
                }
                3..=4 => {
                    let id = any(&mut random, &ids);
                    requests.push(sim.sync(&id, at, &[]));
                }
                5 => {
                    let id = any(&mut random, &ids);
                    sim.heartbeat(&id, at);
                }
                6 => {
                    let id = any(&mut random, &ids);
                    sim.leave(&id);
                }
                _ => sim.pass(Duration::from_millis(random.u64(1..20_000))),
            }
            assert!(sim.group.generation() >= generation, "seed {seed}");
            generation = sim.group.generation();
        }
        sim.pass(10 * REBALANCE);
        assert!(sim.group.is_empty(), "seed {seed}: all silent, all gone");
        for token in requests {
            assert!(
                sim.answers.contains_key(&token),
                "seed {seed}: {token} waits forever"
            );
        }
    }
}
