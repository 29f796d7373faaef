use pipeline_core::store::{read_segment, repair::Examined};

use super::{
    archive::{Archived, MINUTE},
    retention::snapshot,
    *,
};
use crate::{
    archive::{Archiving, Clock},
    rebuild::{Rebuilt, Sources, rebuild},
};

const HOURS: i64 = 60 * MINUTE;

pub(super) fn rebuild_with(
    archived: &Archived,
    without_missing: bool,
    go_on: &mut dyn FnMut(Step) -> bool,
) -> Result<Rebuilt, RunError> {
    rebuild_as(archived, (without_missing, false), go_on)
}

pub(super) fn rebuild_as(
    archived: &Archived,
    (without_missing, adopt): (bool, bool),
    go_on: &mut dyn FnMut(Step) -> bool,
) -> Result<Rebuilt, RunError> {
    let now_ms = archived.now_ms.clone();
    let archiving = Archiving {
        dir: archived.dir(),
        policy: archived.policy.clone(),
        clock: Clock::new(move || now_ms.load(std::sync::atomic::Ordering::SeqCst)),
    };
    let sources = Sources {
        logs: &archived.world.logs(),
        analytics: &archived.world.analytics(),
        archiving: &archiving,
        settings: Settings {
            portion: small(),
            ..Settings::default()
        },
        without_missing,
        adopt,
    };
    rebuild(&sources, &mut |_| {}, go_on)
}

/// What people see, without the manifests' numbers.
pub(super) fn shown(archived: &Archived) -> BTreeMap<String, Value> {
    let files = archived.world.summaries().into_iter();
    files
        .map(|(name, bytes)| {
            if name.ends_with(".html") {
                // Behind the line that tells which manifest it is made from.
                let page = String::from_utf8(bytes).unwrap();
                let (_, page) = page.split_once(" -->\n").unwrap();
                return (name, json!(page));
            }
            let mut summary: Value = serde_json::from_slice(&bytes).unwrap();
            summary.as_object_mut().unwrap().remove("manifest");
            (name, summary)
        })
        .collect()
}

/// Some archived and removed, some archived, some planned, some pending.
pub(super) fn begin(seed: u64) -> Archived {
    let mut archived = Archived::new(seed);
    for _ in 0..2 {
        archived.publish_all();
    }
    for partition in 0..3 {
        snapshot(&archived, partition);
    }
    archived.run();
    archived.pass(6 * HOURS);
    archived.run();
    archived.pass(HOURS);
    assert!(archived.run().removed > 5);
    archived.publish(0, 9);
    archived.run();
    // What comes now waits.
    let now = crate::archive::to_ms(std::time::SystemTime::now());
    archived
        .now_ms
        .store(now, std::sync::atomic::Ordering::SeqCst);
    archived.publish(1, 9);
    archived.run();
    archived
}

#[test]
fn lost_or_damaged_state_is_made_anew_with_the_same_counts() {
    let lose: [&dyn Fn(&Archived); 4] = [
        &|_| {},
        &|archived| fs::remove_dir_all(archived.world.analytics()).unwrap(),
        &|archived| {
            for path in archived.world.manifests() {
                fs::write(path, b"{").unwrap();
            }
        },
        &|archived| {
            let counts = archived.world.analytics().join("_state/counts");
            for name in files_below(&counts).into_keys() {
                fs::write(counts.join(name), b"damaged").unwrap();
            }
        },
    ];
    for (case, lose) in lose.into_iter().enumerate() {
        let mut archived = begin(51);
        let (before, rows) = (shown(&archived), archived.rows());
        let waiting = archived.world.manifest()["archive"]["pending"].clone();
        lose(&archived);
        let rebuilt = rebuild_with(&archived, false, &mut |_| true).unwrap();
        assert_eq!(rebuilt.records, archived.lines.len() as u64, "case {case}");
        assert_eq!(rebuilt.archived, rows.len() as u64);
        assert_eq!((rebuilt.missing, rebuilt.aside), (0, archived.world.aside));
        assert_eq!(shown(&archived), before, "case {case}");
        assert_eq!(archived.rows(), rows);
        let manifest = archived.world.manifest();
        let places = |pending: &Value| {
            let places = pending.as_object().unwrap().keys().cloned();
            places.collect::<Vec<_>>()
        };
        assert_eq!(places(&manifest["archive"]["pending"]), places(&waiting));
        // And it goes on from there.
        archived.publish(2, 9);
        archived.run();
        archived.pass(7 * HOURS);
        archived.run();
        archived.assert_archived();
        assert_eq!(archived.run().commits, 0);
    }
}

#[test]
fn a_rebuild_that_is_killed_changes_nothing_and_one_beside_an_aggregator_ends() {
    let archived = begin(52);
    let before = (shown(&archived), archived.world.manifest());
    let mut steps = 0;
    rebuild_with(&begin(52), false, &mut |step| {
        steps += usize::from(step != Step::RenameSummary);
        true
    })
    .unwrap();
    for at in (0..steps).step_by(7) {
        let killed = rebuild_with(&archived, false, &mut kill_at(at));
        assert!(matches!(killed, Err(RunError::Stopped)), "{killed:?}");
        if archived.world.manifest() == before.1 {
            assert_eq!(shown(&archived), before.0);
        }
    }
    let mut archived = begin(53);
    archived.publish(0, 5);
    let mut once = true;
    let outcome = rebuild_with(&archived, false, &mut |step| {
        if step == Step::SyncStates && std::mem::take(&mut once) {
            archived.run();
            archived.run();
        }
        true
    });
    assert!(
        matches!(outcome, Err(RunError::Superseded { .. })),
        "{outcome:?}"
    );
    archived.run();
    archived.pass(7 * HOURS);
    archived.run();
    archived.assert_archived();
}

#[test]
fn missing_records_are_said_and_accepted_only_when_asked() {
    let archived = begin(54);
    let path = {
        let files = files_below(&archived.dir());
        archived.dir().join(files.into_keys().next().unwrap())
    };
    let whole = fs::read(&path).unwrap();
    let before = archived.world.manifest();
    let mut damaged = whole.clone();
    damaged[whole.len() / 3] ^= 0x40;
    for bytes in [&whole[..whole.len() - 9], b"", &damaged] {
        fs::write(&path, bytes).unwrap();
        // A flipped byte is not seen by Parquet where nothing is checked; then it counts nothing wrong
        // silently only if the line is still a record: so only what is cut is asserted.
        if bytes.len() == whole.len() {
            continue;
        }
        let error = rebuild_with(&archived, false, &mut |_| true).unwrap_err();
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    fs::remove_file(&path).unwrap();
    let error = rebuild_with(&archived, false, &mut |_| true)
        .unwrap_err()
        .to_string();
    assert!(error.contains("--without-missing"), "{error}");
    assert_eq!(archived.world.manifest(), before);
    let rebuilt = rebuild_with(&archived, true, &mut |_| true).unwrap();
    assert!(rebuilt.missing > 0);
    assert_eq!(
        rebuilt.records + rebuilt.missing,
        archived.lines.len() as u64
    );
    archived.run();
    // A file that stands twice is said, too.
    fs::write(&path, &whole).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let twin = path.with_file_name(name.replacen('0', "1", 1));
    fs::write(&twin, &whole).unwrap();
    let error = rebuild_with(&archived, true, &mut |_| true)
        .unwrap_err()
        .to_string();
    assert!(error.contains(twin.to_str().unwrap()), "{error}");
}

#[test]
fn a_repair_of_what_is_counted_halts_its_chain_until_a_rebuild_and_the_counts_stay() {
    let mut archived = Archived::new(55);
    archived.publish_all();
    archived.run();
    archived.pass(6 * HOURS);
    archived.run();
    // What comes now waits: of what is set aside, some is archived and some is not.
    let now = crate::archive::to_ms(std::time::SystemTime::now());
    archived
        .now_ms
        .store(now, std::sync::atomic::Ordering::SeqCst);
    archived.publish(0, 9);
    archived.run();
    let (before, rows) = (shown(&archived), archived.rows());
    assert!(!rows.is_empty() && rows.len() < archived.lines.len());

    let chain = archived.world.chain(0);
    let paths = archived.world.segments(0).split_off(1);
    let gone: Vec<_> = paths.iter().map(|it| read_segment(it).unwrap()).collect();
    let mut bytes = fs::read(&paths[0]).unwrap();
    bytes[20] ^= 1;
    fs::write(&paths[0], bytes).unwrap();
    let Ok(Examined::Repairable(repair)) = chain.examine(&mut || ()) else {
        panic!("its beginning is whole");
    };
    let aside = archived.world.logs().join("_aside/logs/p00000");
    let moved = chain.set_aside(&repair, &aside, &mut || true);
    assert_eq!(moved.unwrap().unwrap().len(), 2);
    let halted = || archived.run().halted;
    assert_eq!(halted()[0].partition, PartitionId(0));
    // Not before the writer has read it once more: the archive has what the chain has not.
    let early = rebuild_with(&archived, false, &mut |_| true).unwrap_err();
    assert!(early.to_string().contains("were stored"), "{early}");

    // It cuts its segments elsewhere.
    let end = chain.walk(None, &mut |_| true).unwrap().unwrap();
    assert_eq!(end.next, repair.next);
    let trailers = || gone.iter().map(|(trailer, ..)| trailer);
    let draft = Draft {
        first: end.next,
        next: trailers().next_back().unwrap().next,
        previous: end.last,
        writer: [2; 16],
        fates: trailers().flat_map(|it| it.fates.clone()).collect(),
        stored: trailers().flat_map(|it| it.stored.clone()).collect(),
        totals_before: end.totals,
        last: end.last_message,
    };
    let ndjson: Vec<u8> = gone.iter().flat_map(|(.., lines)| lines.clone()).collect();
    let published = chain.publish(&draft.encode(&ndjson, 1));
    assert_eq!(published.unwrap(), Published::Linked);
    assert_eq!(halted().len(), 1, "it has counted other segments");
    let rebuilt = rebuild_with(&archived, false, &mut |_| true).unwrap();
    assert_eq!(
        (rebuilt.records, rebuilt.missing),
        (archived.lines.len() as u64, 0)
    );
    assert_eq!(shown(&archived), before);
    assert_eq!(archived.rows(), rows);
    archived.publish(0, 5);
    let report = archived.run();
    assert_eq!((report.halted.len(), report.records), (0, 5));
    archived.pass(7 * HOURS);
    archived.run();
    archived.assert_archived();
}
