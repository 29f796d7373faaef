//! Static members (KIP-345): back under a new id, fenced, away.

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

#[test]
fn a_static_member_that_misses_a_round_is_still_a_member() {
    let mut sim = Sim::new();
    let (first, second, generation) = static_pair(&mut sim);
    sim.enter();
    static_join(&mut sim, &first, "i1");
    let mut waited = Duration::ZERO;
    while waited < REBALANCE {
        sim.pass(SESSION / 2);
        waited += SESSION / 2;
        // alive, but it does not join again: the last heartbeat comes after the round's end
        let alive = Who {
            member_id: &second,
            instance_id: Some("i2"),
            generation: sim.group.generation(),
        };
        sim.group.heartbeat(sim.now, alive);
    }
    assert_eq!(
        sim.group.generation(),
        generation + 1,
        "the round ended without it"
    );
    assert_eq!(
        sim.group.members().filter(|(id, _)| **id == second).count(),
        1
    );
}
