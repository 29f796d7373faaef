//! The state machine alone: time is a number that the test moves.

use super::*;

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

#[test]
fn a_new_member_is_given_an_id_and_leads_when_it_is_alone() {
    let mut sim = Sim::new();
    let (id, joining) = sim.enter();
    let joined = sim.joined(joining).expect("nobody to wait for");
    assert_eq!((joined.error, joined.generation), (code::NONE, 1));
    assert_eq!(
        (joined.leader.as_str(), joined.protocol.as_str()),
        (id.as_str(), "range")
    );
    assert_eq!(
        joined.members,
        [(id.clone(), None, Bytes::from_static(b"logs"))]
    );
    let syncing = sim.sync(&id, 1, &[(&id, "all")]);
    assert_eq!(sim.synced(syncing).expect("it leads").assignment, "all");
    assert_eq!(sim.group.state_name(), "Stable");
}

#[test]
fn an_id_that_was_never_given_out_or_not_used_in_time_is_unknown() {
    let mut sim = Sim::new();
    let stranger = sim.rejoin("stranger");
    assert_eq!(sim.joined(stranger).unwrap().error, code::UNKNOWN_MEMBER_ID);
    let request = sim.request("");
    let asked = sim.join(request);
    let id = sim.joined(asked).unwrap().member_id;
    sim.pass(SESSION);
    let late = sim.rejoin(&id);
    assert_eq!(sim.joined(late).unwrap().error, code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_generation_begins_only_when_all_have_joined_again() {
    let mut sim = Sim::new();
    let (first, _) = sim.enter();
    sim.sync(&first, 1, &[]);
    let (second, joining) = sim.enter();
    assert_eq!(sim.joined(joining), None, "the first has not joined again");
    assert_eq!(sim.heartbeat(&first, 1), code::REBALANCE_IN_PROGRESS);
    let again = sim.rejoin(&first);
    let (of_first, of_second) = (sim.joined(again).unwrap(), sim.joined(joining).unwrap());
    assert_eq!((of_first.generation, of_second.generation), (2, 2));
    assert_eq!(of_first.members.len(), 2, "the leader hears of all");
    assert!(of_second.members.is_empty(), "the others of nobody");
    let waiting = sim.sync(&second, 2, &[]);
    assert_eq!(sim.synced(waiting), None, "the leader has not assigned");
    sim.sync(&first, 2, &[(&first, "p0"), (&second, "p1")]);
    assert_eq!(sim.synced(waiting).unwrap().assignment, "p1");
    let late = sim.sync(&second, 2, &[]);
    assert_eq!(
        sim.synced(late).unwrap().assignment,
        "p1",
        "asked for twice, told twice"
    );
}

#[test]
fn a_silent_member_is_removed_after_its_session_and_the_others_rebalance() {
    let mut sim = Sim::new();
    let (first, second, generation) = sim.stable_pair();
    for _ in 0..3 {
        sim.pass(SESSION / 4);
        assert_eq!(sim.heartbeat(&first, generation), code::NONE);
    }
    sim.pass(SESSION / 4);
    assert_eq!(sim.heartbeat(&second, generation), code::UNKNOWN_MEMBER_ID);
    assert_eq!(
        sim.heartbeat(&first, generation),
        code::REBALANCE_IN_PROGRESS
    );
    let again = sim.rejoin(&first);
    assert_eq!(sim.joined(again).unwrap().members.len(), 1);
    assert_eq!(
        sim.group.may_commit(sim.now, who(&second, generation)),
        code::UNKNOWN_MEMBER_ID
    );
}

#[test]
fn a_member_that_lives_but_does_not_join_again_is_dropped_after_the_rebalance_timeout() {
    let mut sim = Sim::new();
    let (first, second, generation) = sim.stable_pair();
    let (_, third) = sim.enter();
    sim.rejoin(&first);
    let mut waited = Duration::ZERO;
    while waited + SESSION / 2 < REBALANCE {
        sim.pass(SESSION / 2);
        waited += SESSION / 2;
        assert_eq!(
            sim.heartbeat(&second, generation),
            code::REBALANCE_IN_PROGRESS
        );
        assert_eq!(sim.joined(third), None);
    }
    sim.pass(REBALANCE - waited);
    assert_eq!(sim.joined(third).unwrap().generation, generation + 1);
    assert_eq!(
        sim.heartbeat(&second, generation + 1),
        code::UNKNOWN_MEMBER_ID
    );
}

#[test]
fn a_generation_whose_leader_never_assigns_ends() {
    let mut sim = Sim::new();
    let (first, _) = sim.enter();
    let (second, joining) = sim.enter();
    sim.rejoin(&first);
    let generation = sim.joined(joining).unwrap().generation;
    let waiting = sim.sync(&second, generation, &[]);
    sim.pass(SESSION);
    assert_eq!(
        sim.synced(waiting).unwrap().error,
        code::REBALANCE_IN_PROGRESS
    );
    let again = sim.rejoin(&second);
    assert_eq!(
        sim.joined(again).unwrap().leader,
        second,
        "the silent leader is gone"
    );
}

#[test]
fn leaving_makes_the_others_rebalance_at_once() {
    let mut sim = Sim::new();
    let (first, second, generation) = sim.stable_pair();
    assert_eq!(sim.leave(&first), code::NONE);
    assert_eq!(sim.leave(&first), code::UNKNOWN_MEMBER_ID);
    assert_eq!(
        sim.heartbeat(&second, generation),
        code::REBALANCE_IN_PROGRESS
    );
    let again = sim.rejoin(&second);
    assert_eq!(sim.joined(again).unwrap().leader, second);
    sim.leave(&second);
    assert_eq!(sim.group.state_name(), "Empty");
}

#[test]
fn a_follower_that_asks_again_is_told_again_and_a_leader_rebalances() {
    let mut sim = Sim::new();
    let (first, second, generation) = sim.stable_pair();
    let told = sim.rejoin(&second);
    assert_eq!(sim.joined(told).unwrap().generation, generation);
    assert_eq!(sim.group.state_name(), "Stable");
    let asked = sim.rejoin(&first);
    assert_eq!(sim.joined(asked), None);
    assert_eq!(sim.group.state_name(), "PreparingRebalance");
}

#[test]
fn commits_are_taken_only_from_members_of_this_generation() {
    let mut sim = Sim::new();
    let tool = who("", -1);
    assert_eq!(
        sim.group.may_commit(sim.now, tool),
        code::NONE,
        "an empty group"
    );
    let (first, second, generation) = sim.stable_pair();
    let now = sim.now;
    assert_eq!(sim.group.may_commit(now, tool), code::UNKNOWN_MEMBER_ID);
    assert_eq!(
        sim.group.may_commit(now, who(&first, generation)),
        code::NONE
    );
    let stale = who(&first, generation - 1);
    assert_eq!(sim.group.may_commit(now, stale), code::ILLEGAL_GENERATION);
    let stranger = who("stranger", generation);
    assert_eq!(sim.group.may_commit(now, stranger), code::UNKNOWN_MEMBER_ID);
    sim.rejoin(&first);
    let last_words = sim.group.may_commit(now, who(&second, generation));
    assert_eq!(
        last_words,
        code::NONE,
        "while a rebalance is prepared, the old one counts"
    );
    sim.rejoin(&second);
    let early = who(&first, generation + 1);
    assert_eq!(
        sim.group.may_commit(now, early),
        code::REBALANCE_IN_PROGRESS
    );
}

#[test]
fn the_protocol_is_one_that_all_have_and_most_prefer() {
    let mut sim = Sim::new();
    let protocols = |names: &[&str]| -> Vec<(String, Bytes)> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), Bytes::new()))
            .collect()
    };
    let mut ids = Vec::new();
    let mut tokens = Vec::new();
    for names in [&["a", "b"][..], &["b", "a"], &["b", "a", "c"]] {
        let mut request = sim.request("");
        request.id_required = false;
        request.protocols = protocols(names);
        ids.push((request.fresh_id.clone(), names));
        tokens.push(sim.join(request));
    }
    for (id, names) in &ids[..2] {
        let mut request = sim.request(id);
        request.protocols = protocols(names);
        sim.join(request);
    }
    assert_eq!(sim.joined(tokens[2]).unwrap().protocol, "b");
    let mut stranger = sim.request("");
    stranger.protocols = protocols(&["c"]);
    let refused = sim.join(stranger);
    assert_eq!(
        sim.joined(refused).unwrap().error,
        code::INCONSISTENT_GROUP_PROTOCOL
    );
    let mut connect = sim.request("");
    connect.protocol_type = "connect".to_owned();
    connect.protocols = protocols(&["a"]);
    let refused = sim.join(connect);
    assert_eq!(
        sim.joined(refused).unwrap().error,
        code::INCONSISTENT_GROUP_PROTOCOL
    );
}

#[test]
fn an_empty_group_waits_for_more_members_as_long_as_it_is_told() {
    let delay = Duration::from_secs(3);
    let mut sim = Sim::with_delay(delay);
    let (_, first) = sim.enter();
    sim.pass(delay / 2);
    let (_, second) = sim.enter();
    assert_eq!((sim.joined(first), sim.joined(second)), (None, None));
    sim.pass(delay);
    assert_eq!(
        sim.joined(first).unwrap().generation,
        1,
        "one round for both"
    );
    assert_eq!(sim.joined(second).unwrap().generation, 1);
    assert!(sim.now - sim.start < REBALANCE);
}

mod with_instances {
    use super::*;

    fn static_join(sim: &mut Sim, member: &str, instance: &str) -> Token {
        let mut request = sim.request(member);
        request.instance_id = Some(instance.to_owned());
        sim.join(request)
    }

    fn static_pair(sim: &mut Sim) -> (String, String, i32) {
        let first = static_join(sim, "", "i1");
        let first = sim.joined(first).unwrap().member_id;
        let joining = static_join(sim, "", "i2");
        static_join(sim, &first, "i1");
        let second = sim.joined(joining).unwrap();
        sim.sync(
            &first,
            second.generation,
            &[(&first, "p0"), (&second.member_id, "p1")],
        );
        sim.sync(&second.member_id, second.generation, &[]);
        (first, second.member_id, second.generation)
    }

    #[test]
    fn a_static_member_that_is_back_keeps_its_part_and_fences_its_old_self() {
        let mut sim = Sim::new();
        let (_, old, generation) = static_pair(&mut sim);
        let back = static_join(&mut sim, "", "i2");
        let back = sim.joined(back).expect("no rebalance to wait for");
        assert_eq!((back.error, back.generation), (code::NONE, generation));
        assert_ne!(back.member_id, old);
        assert_eq!(sim.group.state_name(), "Stable");
        let syncing = sim.sync(&back.member_id, generation, &[]);
        assert_eq!(sim.synced(syncing).unwrap().assignment, "p1");
        let zombie = Who {
            member_id: &old,
            instance_id: Some("i2"),
            generation,
        };
        assert_eq!(
            sim.group.heartbeat(sim.now, zombie),
            code::FENCED_INSTANCE_ID
        );
        assert_eq!(
            sim.group.may_commit(sim.now, zombie),
            code::FENCED_INSTANCE_ID
        );
        let rejoin = static_join(&mut sim, &old, "i2");
        assert_eq!(sim.joined(rejoin).unwrap().error, code::FENCED_INSTANCE_ID);
    }

    #[test]
    fn a_static_leader_that_is_back_has_nothing_to_assign() {
        let mut sim = Sim::new();
        let (old, ..) = static_pair(&mut sim);
        let back = static_join(&mut sim, "", "i1");
        let back = sim.joined(back).unwrap();
        assert!(back.skip_assignment);
        assert_eq!(back.leader, back.member_id);
        let mut request = sim.request("");
        request.instance_id = Some("i1".to_owned());
        request.can_skip_assignment = false;
        let older_client = sim.join(request);
        let told = sim.joined(older_client).unwrap();
        assert_eq!(
            told.leader, back.member_id,
            "another one leads, so it is told"
        );
        assert_ne!(told.leader, old);
        assert!(told.members.is_empty());
    }

    #[test]
    fn a_static_member_that_is_away_is_kept_until_its_session_ends() {
        let mut sim = Sim::new();
        let (first, second, generation) = static_pair(&mut sim);
        sim.pass(SESSION / 2);
        assert_eq!(sim.heartbeat(&first, generation), code::NONE);
        assert_eq!(sim.group.members().count(), 2);
        sim.pass(SESSION / 2);
        assert_eq!(
            sim.heartbeat(&first, generation),
            code::REBALANCE_IN_PROGRESS
        );
        let late = static_join(&mut sim, &second, "i2");
        assert_eq!(sim.joined(late).unwrap().error, code::UNKNOWN_MEMBER_ID);
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
