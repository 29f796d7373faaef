//! A backlog in whose segments the hours lie mixed: how often it is read to be archived. Counted in
//! segments read, not in time.

use super::{archive::Archived, *};

const STRETCH: i64 = 1 << 21;
const HOURS: i64 = 3_600_000;

/// Segments read for the archive of a backlog of so many, each with records of each hour, and how
/// many plans that took.
fn read_of(stretches: usize, each: usize) -> (usize, usize) {
    let mut archived = Archived::new(9);
    for _ in 0..stretches {
        for partition in 0..2 {
            for _ in 0..each {
                archived.publish(partition, 6);
            }
            // As if so many records were between them.
            let end = archived.world.chain(partition).walk(None, &mut |_| true);
            let end = end.unwrap().unwrap().next.0;
            archived
                .world
                .skip(partition, STRETCH - end.rem_euclid(STRETCH));
        }
    }
    archived.run();
    archived.pass(7 * HOURS);
    let (mut read, mut commits) = (0, 0);
    let report = archived.aggregator().run(&mut |step| {
        read += usize::from(step == Step::ReadForArchive);
        commits += usize::from(step == Step::PutManifest);
        true
    });
    assert_eq!(report.unwrap().archived, archived.lines.len() as u64);
    archived.assert_archived();
    (read, commits - 1)
}

#[test]
fn ten_times_a_backlog_of_mixed_hours_is_ten_times_the_reading() {
    const EACH: usize = 3;
    let (one, _) = read_of(1, EACH);
    let (ten, plans) = read_of(10, EACH);
    assert!(plans >= 10, "{plans} plans: else it all fits into one");
    // A plan takes about half of what a stretch of both chains holds.
    assert!(one <= 3 * 2 * EACH, "{one} segments read");
    assert!(ten <= 10 * one + 2 * EACH, "{ten} and {one} segments read");
}
