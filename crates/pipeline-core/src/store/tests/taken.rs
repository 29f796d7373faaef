//! What one who died had taken from its name: it goes back where it is of the chain.

use std::{fs, path::PathBuf, thread, time::Duration};

use super::{
    super::taken::Settled,
    late::{add, snapshot, two},
    *,
};
use crate::fsx;

const PUT_BACK: Settled = Settled {
    put_back: 1,
    removed: 0,
    left: 0,
};
const REMOVED: Settled = Settled {
    put_back: 0,
    removed: 1,
    left: 0,
};

/// As one that ends between taking it and removing it or putting it back.
fn take(path: &Path) {
    let died = thread::scope(|scope| {
        let taker = scope.spawn(|| fsx::remove_if(path, |_| panic!("it ends here")));
        taker.join()
    });
    assert!(died.is_err() && !path.exists());
}

fn settle(chain: &Chain) -> Settled {
    let later = std::time::SystemTime::now() + Duration::from_secs(3_600);
    chain.settle_taken(later).unwrap()
}

fn taken(chain: &Chain) -> Vec<PathBuf> {
    let names = owner::list(chain.dir()).unwrap().into_iter();
    let taken = names.filter(|name| fsx::taken_from(name).is_some());
    taken.map(|name| chain.dir().join(name)).collect()
}

#[test]
fn what_is_of_the_chain_is_put_back_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, _) = two(dir.path());
    for _ in 0..4 {
        add(&chain, 10, 1);
    }
    chain.put_snapshot(&snapshot(&chain)).unwrap();
    let all = chain.list().unwrap().segments;
    chain.remove_before(all[1], &mut || true).unwrap();
    let end = end_of(&chain);
    let snapshots = chain.snapshots().unwrap();
    let files = [
        chain.segment_path(all[1]),
        chain.segment_path(all[2]),
        chain.segment_path(all[3]),
        snapshots[0].path.clone(),
        snapshots[1].path.clone(),
        chain.watermark_path(all[1]),
    ];
    for path in files {
        let bytes = fs::read(&path).unwrap();
        take(&path);
        let early = chain.settle_taken(std::time::SystemTime::now() - Duration::from_secs(60));
        assert_eq!(early.unwrap(), Settled::default(), "his, while he may live");
        assert_eq!(settle(&chain), PUT_BACK, "{}", path.display());
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!((end_of(&chain), taken(&chain)), (end.clone(), vec![]));
    }
    assert_eq!(settle(&chain), Settled::default());
}

#[test]
fn what_is_not_of_the_chain_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, other) = two(dir.path());
    for _ in 0..4 {
        add(&chain, 10, 1);
    }
    chain.put_snapshot(&snapshot(&chain)).unwrap();
    let all = chain.list().unwrap().segments;
    let path = |at: usize| chain.segment_path(all[at]);
    let whole = fs::read(path(3)).unwrap();
    // Another's stands under the name by then.
    take(&path(3));
    add(&other, 10, 2);
    let end = end_of(&chain);
    assert_eq!((settle(&chain), end_of(&chain)), (REMOVED, end));
    // A repair has cut the chain before it; so of a snapshot.
    let file = chain.snapshots().unwrap().remove(0).path;
    take(&path(3));
    take(&file);
    fs::remove_file(path(2)).unwrap();
    let both = Settled {
        removed: 2,
        ..REMOVED
    };
    assert_eq!(settle(&chain), both);
    assert!(!path(3).exists() && !file.exists());
    // The watermark is above it.
    take(&path(0));
    chain.put_watermark(all[1]).unwrap();
    assert_eq!(settle(&chain), REMOVED);
    // A watermark that stands on nothing.
    let mark = Offset(all[1].0 + 5);
    chain.put_watermark(mark).unwrap();
    take(&chain.watermark_path(mark));
    assert_eq!(settle(&chain), REMOVED);
    assert_eq!(chain.watermark().unwrap(), Some(all[1]));
    assert_eq!(taken(&chain).len(), 0);
    // Damaged: nobody can tell, while nothing stands in its place.
    fs::write(path(2), &whole[..whole.len() - 1]).unwrap();
    take(&path(2));
    let left = Settled {
        left: 1,
        ..Settled::default()
    };
    assert_eq!(settle(&chain), left);
    assert_eq!(taken(&chain).len(), 1);
    add(&other, 10, 2);
    assert_eq!(settle(&chain), REMOVED);
}
