//! A writer that wakes after a repair, or on another chain, finds that what it goes on from is gone.

use std::fs;

use super::*;

#[test]
fn a_publisher_whose_chain_was_cut_before_it_removes_its_file() {
    for own_before in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = fastrand::Rng::with_seed(15);
        let frozen = random_chain(dir.path(), &mut rng, 2);
        if own_before {
            extend(&mut rng, &frozen);
        } else {
            extend(&mut rng, &chain_3(dir.path()));
        }
        let (draft, lines) = random_draft(&mut rng, &end_of(&frozen));
        let late = draft.encode(&lines, 1);
        let other = chain_3(dir.path());
        // As a repair does: the end from the second segment on is set aside.
        let all = other.list().unwrap().segments;
        for name in &all[1..] {
            fs::remove_file(other.segment_path(*name)).unwrap();
        }
        let cut = end_of(&other);
        assert_eq!(frozen.publish(&late).unwrap(), Published::Severed);
        assert_eq!(end_of(&other), cut, "and no gap is left");
        // Others have gone on, to another segment of the same name.
        let mut trailer = cut;
        while trailer.next <= all[2] {
            let (mut draft, lines) = random_draft(&mut rng, &trailer);
            draft.writer = [0; 16];
            let segment = draft.encode(&lines, 1);
            other.publish(&segment).unwrap();
            trailer = end_of(&other);
        }
        assert_eq!(frozen.publish(&late).unwrap(), Published::Severed);
        assert_eq!(end_of(&other), trailer);
    }
}

#[test]
fn the_first_segment_of_a_chain_that_was_begun_anew_elsewhere_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(16);
    let frozen = random_chain(dir.path(), &mut rng, 0);
    let (draft, lines) = random_draft(&mut rng, &end_of(&frozen));
    let late = draft.encode(&lines, 1);
    fs::remove_file(frozen.start_path()).unwrap();
    frozen.put_start(&start_at(5_000)).unwrap();
    assert_eq!(frozen.publish(&late).unwrap(), Published::Severed);
    assert_eq!(frozen.list().unwrap().segments, []);
}

#[test]
fn nothing_is_linked_behind_a_damaged_segment_of_another_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(17);
    let chain = random_chain(dir.path(), &mut rng, 2);
    let (draft, lines) = random_draft(&mut rng, &end_of(&chain));
    let next = draft.encode(&lines, 1);
    let last = chain.list().unwrap().segments[1];
    fs::write(chain.segment_path(last), "damaged").unwrap();
    // A process of its own has not written the one before.
    assert_eq!(
        chain_3(dir.path()).publish(&next).unwrap(),
        Published::Severed
    );
    assert_eq!(chain.list().unwrap().segments.last(), Some(&last));
}

fn chain_3(root: &Path) -> Chain {
    Store::open(root).unwrap().chain("logs", PartitionId(3))
}
