//! Each step of a publish made to fail in each way: what stands is whole, and a second try after
//! a look at the chain stores the segment once.

use super::{
    super::verify::{Which, verify},
    *,
};
use crate::fsx::{
    Step,
    faults::{Fault, under},
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[test]
fn a_publish_that_fails_at_any_step_in_any_way_is_there_whole_or_not_at_all() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut hit = 0;
    for step in Step::ALL {
        for fault in [
            Fault::Fails(ENOSPC),
            Fault::Fails(EIO),
            Fault::HalfDone(ENOSPC),
            Fault::DoneButFails(EIO),
        ] {
            for nth in 1..=2 {
                let dir = tempfile::tempdir().unwrap();
                let chain = random_chain(dir.path(), &mut rng, 2);
                let before = end_of(&chain);
                let (draft, lines) = random_draft(&mut rng, &before);
                let segment = draft.encode(&lines, super::super::segment::LEVEL);
                let case = format!("{step:?} number {nth} {fault:?}");
                let rule = under(chain.dir()).step(step).nth(nth).then(fault);
                let first = chain.publish(&segment);
                hit += rule.hits();
                drop(rule);
                // A temporary file that cannot be removed is in nobody's way.
                assert!(
                    first.is_err() || first.unwrap() == Published::Linked,
                    "{case}"
                );
                let after = end_of(&chain);
                let there = after.next == segment.trailer.next;
                assert!(there || after == before, "{case}: {after:?}");
                let again = chain.publish(&segment).unwrap();
                assert_eq!(again == Published::NameTaken, there, "{case}: {again:?}");
                assert_eq!(end_of(&chain).last, Some(segment.link()), "{case}");
                let report = verify(dir.path(), &Which::default(), &|_, _| {}).unwrap();
                assert!(report.is_whole(), "{case}: {report:?}");
            }
        }
    }
    assert!(hit > 20, "{hit} of the faults were come to");
}
