use super::*;

/// Runs `other` before step number `at` of a run of `one`.
fn interrupt(
    one: &mut Aggregator,
    at: usize,
    other: &mut dyn FnMut(Step),
) -> (Result<Report, RunError>, bool) {
    let mut step = 0;
    let mut interrupted = false;
    let outcome = one.run(&mut |name| {
        if step == at {
            interrupted = true;
            other(name);
        }
        step += 1;
        true
    });
    (outcome, interrupted)
}

#[test]
fn another_aggregator_between_any_two_steps_changes_no_count() {
    let mut superseded = 0;
    let mut at = 0;
    loop {
        let world = World::with_records(1);
        let mut one = world.aggregator_with(small());
        let (outcome, interrupted) = interrupt(&mut one, at, &mut |_| {
            // It ends, whatever the other has done by then.
            world.run().unwrap();
        });
        match outcome {
            Ok(_) => {}
            Err(RunError::Superseded { .. }) => superseded += 1,
            Err(error) => panic!("interrupted at step {at}: {error}"),
        }
        world.run().unwrap();
        world.assert_counted();
        if !interrupted {
            break;
        }
        at += 1;
    }
    assert!(superseded > 20, "{superseded} of {at}");
}

#[test]
fn one_that_wakes_long_after_takes_its_manifest_back() {
    for (asleep_at, records) in [
        (Step::WriteState, 3),
        (Step::SyncChain, 3),
        (Step::PutManifest, 3),
        // Nothing to render or to remove: only the look after the put tells.
        (Step::PutManifest, 0),
    ] {
        let mut world = if records == 0 {
            let mut world = World::new(2);
            world.publish(0, Vec::new());
            world
        } else {
            World::with_records(2)
        };
        let mut one = world.aggregator();
        let mut woken = false;
        let shared = std::cell::RefCell::new(&mut world);
        let outcome = one.run(&mut |step| {
            if step == asleep_at && !woken {
                woken = true;
                let mut other = shared.borrow().aggregator();
                // Until its number has come and gone.
                for _ in 0..5 {
                    shared.borrow_mut().publish_random(0, records);
                    other.run(&mut |_| true).unwrap();
                }
            }
            true
        });
        assert!(matches!(outcome, Err(RunError::Superseded { .. })));
        assert_eq!(world.manifests().len(), 2, "its own is removed");
        world.assert_counted();
        world.run().unwrap();
        world.assert_counted();
    }
}

#[test]
fn summaries_of_one_that_lost_are_made_right_by_the_next_start() {
    let mut world = World::with_records(3);
    let mut one = world.aggregator();
    let shared = std::cell::RefCell::new(&mut world);
    let mut renames = 0;
    let outcome = one.run(&mut |step| {
        renames += usize::from(step == Step::RenameSummary);
        if renames == 2 {
            shared.borrow_mut().publish_random(0, 30);
            let other = shared.borrow().aggregator().run(&mut |_| true);
            other.unwrap();
            renames += 1;
        }
        true
    });
    assert!(matches!(outcome, Err(RunError::Superseded { .. })));
    world.run().unwrap();
    world.assert_counted();
}

#[test]
fn two_at_once_count_all_once() {
    for seed in 0..10 {
        let mut world = World::with_records(seed);
        for _ in 0..5 {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let mut aggregator = world.aggregator_with(small());
                        match aggregator.run(&mut |_| true) {
                            Ok(_) | Err(RunError::Superseded { .. }) => {}
                            Err(error) => panic!("seed {seed}: {error}"),
                        }
                    });
                }
            });
            let partition = world.rng.i32(0..3);
            world.publish_random(partition, 25);
        }
        world.run().unwrap();
        world.assert_counted();
    }
}

#[test]
fn one_that_was_idle_while_another_went_on_ends_and_changes_nothing() {
    let mut world = World::with_records(4);
    let mut one = world.aggregator();
    one.run(&mut |_| true).unwrap();
    // Once with something new for it, once without.
    for records in [20, 0] {
        world.publish_random(0, 20);
        world.run().unwrap();
        if records > 0 {
            world.publish_random(1, records);
        }
        let before = files_below(&world.analytics());
        let outcome = one.run(&mut |_| true);
        assert!(
            matches!(outcome, Err(RunError::Superseded { .. })),
            "{outcome:?}"
        );
        assert!(files_below(&world.analytics()) == before);
        world.run().unwrap();
        world.assert_counted();
        one = world.aggregator();
        one.run(&mut |_| true).unwrap();
    }
}
