//! Random schedules of one partition's life: several writers (fresh, dead, or frozen at any step of a
//! save and woken), a store that fails or says it failed, a broker that moves the partition and
//! loses answers, retention on both sides. Whatever the order of steps, each offset is in the chain exactly once,
//! and each record is stored exactly once, in one store.

mod chain;
mod gate;
mod log;
mod met;
mod world;

use met::Met;
use world::World;

#[test]
fn every_offset_is_in_the_chain_once_under_any_schedule() {
    let mut met = Met::default();
    for seed in 0..seeds(2_000) {
        let mut world = World::new(seed, 1_000);
        world.run();
        met.add(&world.met());
    }
    assert!(met.least() > 100, "each case is met: {met:?}");
}

/// A window so small that copies fall out of it: they become undecidable, never stored twice.
#[test]
fn a_tiny_window_stores_nothing_twice_under_any_schedule() {
    let mut undecidable = 0;
    for seed in 0..seeds(1_500) {
        undecidable += World::new(0x5eed_0000 + seed, 2).run().undecidable;
    }
    assert!(undecidable > 100, "the case is met: {undecidable}");
}

/// Members of one group that were given different directories: the first whose claim Kafka takes has
/// the partition, and no other links anything, however late it wakes.
#[test]
fn of_two_directories_one_alone_gets_a_partition_under_any_schedule() {
    let mut met = Met::default();
    for seed in 0..seeds(500) {
        let mut world = World::of_stores(0xd1_0000 + seed, 1_000, 2);
        world.run();
        met.add(&world.met());
    }
    assert!(met.least() > 10, "each case is met: {met:?}");
}

/// More on demand: `SCHEDULES=100000 cargo test -p kafka-consumer-writer --test schedules`.
fn seeds(default: u64) -> u64 {
    std::env::var("SCHEDULES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(default)
}
