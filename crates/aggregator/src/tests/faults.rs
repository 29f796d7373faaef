//! Steps on the disk that fail, one after the other, while records are archived and segments removed.

use pipeline_core::fsx::faults::{Fault, under};

use super::{
    archive::{Archived, MINUTE},
    retention::snapshot,
};

const EIO: i32 = 5;
const HOURS: i64 = 60 * MINUTE;

#[test]
fn whatever_step_fails_each_record_is_archived_once_and_no_segment_goes_before() {
    for fault in [Fault::Fails(EIO), Fault::DoneButFails(EIO)] {
        let mut rng = fastrand::Rng::with_seed(71);
        let mut nth = 1;
        let mut failed = 0;
        loop {
            let mut archived = Archived::new(71);
            for _ in 0..2 {
                archived.publish(0, 5);
            }
            snapshot(&archived, 0);
            archived.run();
            // Each as a process of its own, which has begun well.
            let processes = [6, 1, 0].map(|hours| (hours, archived.aggregator()));
            let rule = under(archived.world.dir.path()).nth(nth).then(fault);
            for (hours, mut process) in processes {
                archived.pass(hours * HOURS);
                match process.run(&mut |_| true) {
                    Ok(_) => {}
                    Err(error) if !error.is_final() => failed += 1,
                    Err(error) => panic!("step {nth}: {error}"),
                }
            }
            let over = rule.hits() == 0;
            drop(rule);
            let gone = archived.world.segments(0).len() == 1;
            let waiting = archived.rows().len() < archived.lines.len();
            assert!(!gone || !waiting, "step {nth}");
            archived.run();
            archived.pass(HOURS);
            archived.run();
            archived.assert_archived();
            assert_eq!(archived.world.segments(0).len(), 1, "step {nth}");
            if over {
                break;
            }
            nth += rng.u64(1..6);
        }
        assert!(failed > 10 && nth > 60, "{failed} failures in {nth} steps");
    }
}
