use super::*;

#[test]
fn a_process_killed_before_any_step_counts_all_once() {
    let straight = World::with_records(1);
    straight
        .aggregator_with(small())
        .run(&mut |_| true)
        .unwrap();
    straight.assert_counted();

    let mut at = 0;
    loop {
        // The same seed: the same store.
        let world = World::with_records(1);
        let killed = world.aggregator_with(small()).run(&mut kill_at(at));
        let over = killed.is_ok();
        world.aggregator_with(small()).run(&mut |_| true).unwrap();
        world.assert_counted();
        assert_eq!(
            world.summaries(),
            straight.summaries(),
            "killed at step {at}"
        );
        // What the killed one left is gone by the next start.
        world.run().unwrap();
        let names = |world: &World| {
            let state = files_below(&world.analytics().join("_state"));
            state
                .into_keys()
                .filter(|file| file.starts_with("counts/"))
                .count()
        };
        assert_eq!(names(&world), names(&straight), "killed at step {at}");
        if over {
            break;
        }
        at += 1;
    }
    assert!(at > 60, "{at} steps");
}

#[test]
fn processes_killed_again_and_again_count_all_once() {
    let mut kills = 0;
    for seed in 0..20 {
        let mut world = World::with_records(seed);
        let mut full = 0;
        while full < 3 {
            let at = world.rng.usize(..40);
            match world.aggregator_with(small()).run(&mut kill_at(at)) {
                Err(RunError::Stopped) => kills += 1,
                Err(error) => panic!("seed {seed}: {error}"),
                Ok(_) => {
                    full += 1;
                    world.assert_counted();
                    let partition = world.rng.i32(0..4);
                    world.publish_random(partition, 10);
                }
            }
        }
        world.run().unwrap();
        world.assert_counted();
    }
    assert!(kills > 40, "{kills}");
}

#[test]
fn a_process_that_was_stopped_goes_on_by_itself() {
    let world = World::with_records(2);
    let mut aggregator = world.aggregator_with(small());
    let mut at = 0;
    while aggregator.run(&mut kill_at(at)).is_err() {
        at += 7;
    }
    aggregator.run(&mut |_| true).unwrap();
    world.assert_counted();
}
