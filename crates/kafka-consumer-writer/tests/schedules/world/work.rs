//! What a member does beside its core: looks at chain and commit, reads the log, saves.

use std::time::Instant;

use kafka_consumer_writer::{
    batcher::{Chunk, Content},
    budget::Budget,
    dead_letters::Place,
    partition::{LoadOutcome, Memory, SaveJob, SaveOutcome},
    save::{self, SaveContext},
    takeover::{CommitFacts, Difference, LogFacts, Verdict, judge},
};
use pipeline_core::{
    Offset,
    config::StartAt,
    record::Rules,
    store::{Start, StoreId, chain::FORMAT},
};

use crate::{chain::Disk, gate::Stepped, log::Log};

pub fn store_id(store: usize) -> StoreId {
    StoreId(format!("{store:032x}"))
}

/// What a take-over decides, by the chain, the log and the last commit.
pub fn judge_load(
    store: usize,
    memory: Memory,
    log: &Log,
    committed: Option<&CommitFacts>,
) -> LoadOutcome {
    let start = Start {
        format: FORMAT,
        cluster_id: "cluster".to_owned(),
        topic_id: "topic".to_owned(),
        first_offset: memory.end.next,
    };
    let facts = LogFacts {
        cluster_id: start.cluster_id.clone(),
        topic_id: start.topic_id.clone(),
        log_start: Offset(log.start),
        log_end: Offset(log.end()),
    };
    let chain = Some((&start, &memory.end));
    let id = store_id(store);
    match judge(chain, &facts, committed, &id, StartAt::Earliest, false) {
        Verdict::GoOn => LoadOutcome::Ready(Box::new(memory)),
        Verdict::Halt(Difference::OtherStore { .. }) => LoadOutcome::Halt,
        odd => panic!("{odd:?}"),
    }
}

/// A save on its way to its first step at the disk.
pub fn begin(
    job: SaveJob,
    writer: u8,
    disk: &Disk,
    place: &Place,
    rules: &Rules,
) -> Result<Stepped<SaveOutcome>, SaveOutcome> {
    let (disk, place, rules) = (disk.clone(), place.clone(), rules.clone());
    Stepped::begin(move |gate| {
        let disk = disk.behind(gate);
        let context = SaveContext {
            chain: &disk,
            aside: &disk,
            place: &place,
            rules: &rules,
            writer: [writer; 16],
        };
        save::run(Box::new(job), &context).outcome
    })
}

pub fn fetch(
    log: &Log,
    from: Offset,
    random: &mut fastrand::Rng,
    now: Instant,
    budget: &Budget,
) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut at = from.0;
    if at < log.start {
        chunks.push(Chunk::gap(Content::Lost, Offset(log.start), now, budget));
        at = log.start;
    }
    for _ in 0..random.usize(1..4) {
        let block = log.block(at, random.i64(1..9));
        if block.next.0 <= at {
            break;
        }
        at = block.next.0;
        chunks.push(Chunk::messages(block, now, budget));
    }
    chunks
}
