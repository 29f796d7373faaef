use std::fs;

use super::*;

fn firsts(chain: &Chain) -> Vec<Offset> {
    chain.names(&(Offset(0)..Offset(i64::MAX))).unwrap()
}

#[test]
fn a_range_opens_only_the_segments_that_may_hold_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(60);
    let chain = random_chain(dir.path(), &mut rng, 6);
    let all = firsts(&chain);
    let end = end_of(&chain).next;
    assert_eq!(all.len(), 6);
    for from in 0..end.0 + 3 {
        for to in [from, from + 1, from + 30, i64::MAX] {
            let names = chain.names(&(Offset(from)..Offset(to))).unwrap();
            let holds = |name: &&Offset| {
                let trailer = chain.look(**name).unwrap().unwrap().trailer;
                trailer.first.0 < to && from < trailer.next.0
            };
            let needed: Vec<Offset> = all.iter().filter(holds).copied().collect();
            assert!(
                needed.iter().all(|name| names.contains(name)),
                "[{from}, {to}): {names:?}, needed are {needed:?}"
            );
            assert!(names.len() <= needed.len() + 1, "[{from}, {to}): {names:?}");
        }
    }
}

#[test]
fn what_removal_takes_is_passed_over_and_what_is_missing_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(61);
    let chain = random_chain(dir.path(), &mut rng, 5);
    let all = firsts(&chain);
    // Listed, then removed.
    fs::remove_file(chain.segment_path(all[1])).unwrap();
    assert!(matches!(
        chain.look(all[1]),
        Err(ChainFault::Missing { path, .. }) if path == chain.segment_path(all[1])
    ));
    chain.put_watermark(all[3]).unwrap();
    assert!(chain.look(all[1]).unwrap().is_none());
    assert!(chain.read(all[1]).unwrap().is_none());
    assert_eq!(firsts(&chain), all[3..], "names below belong to no chain");
    let (visited, ndjson) = chain.read(all[4]).unwrap().unwrap();
    assert_eq!(visited.trailer.plain_len, ndjson.len() as u64);
}

#[test]
fn a_check_sees_each_byte_and_says_nothing_of_what_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = fastrand::Rng::with_seed(62);
    let chain = random_chain(dir.path(), &mut rng, 4);
    let all = firsts(&chain);
    for name in &all {
        let path = chain.segment_path(*name);
        let whole = fs::read(&path).unwrap();
        assert_eq!(chain.check(*name).unwrap(), Some(whole.len() as u64));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, bytes).unwrap();
            assert!(
                matches!(chain.check(*name), Err(ChainFault::Damaged { path: found, .. }) if found == path),
                "byte {at}"
            );
        }
        fs::write(&path, whole).unwrap();
    }
    fs::remove_file(chain.segment_path(all[0])).unwrap();
    assert!(matches!(
        chain.check(all[0]),
        Err(ChainFault::Missing { .. })
    ));
    chain.put_watermark(all[1]).unwrap();
    assert_eq!(chain.check(all[0]).unwrap(), None);
}
