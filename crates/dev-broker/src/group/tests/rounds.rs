//! Joining, leaving, falling silent: who takes part in which generation.

use super::*;

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
