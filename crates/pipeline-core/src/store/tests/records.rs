use std::fs;

use super::*;

/// A record as it was read.
type Read = (Offset, i64, Option<BatchId>, u32, Vec<u8>);

fn read(record: &StoredRecord<'_>) -> Read {
    let line = record.line.to_vec();
    let (offset, sequence) = (record.offset, record.sequence);
    (offset, record.received_ms, record.batch, sequence, line)
}

fn one_by_one(chain: &Chain, visited: &Visited) -> Result<Vec<Read>, ChainFault> {
    let mut records = chain.records(visited)?.expect("it is there");
    let mut all = Vec::new();
    while let Some(record) = records.next()? {
        all.push(read(&record));
    }
    Ok(all)
}

/// A chain of one segment of lines of these lengths.
fn chain_of(root: &Path, lengths: &[usize]) -> (Chain, Visited) {
    let chain = Store::open(root).unwrap().chain("logs", PartitionId(3));
    chain.put_start(&start_at(7)).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut lines = Vec::new();
    for len in lengths {
        lines.extend((0..*len).map(|_| rng.u8(b' '..=b'~')));
        lines.push(b'\n');
    }
    let end = end_of(&chain);
    let count = lengths.len() as u32;
    let draft = Draft {
        first: end.next,
        next: Offset(end.next.0 + i64::from(count)),
        previous: None,
        writer: [1; 16],
        fates: vec![FateRun {
            fate: Fate::Stored,
            count: u64::from(count),
        }],
        stored: vec![StoredRun {
            first: end.next,
            count,
            received_ms: 5,
            batch: None,
            first_sequence: 0,
        }],
        totals_before: end.totals,
        last: None,
    };
    let segment = draft.encode(&lines, crate::store::segment::LEVEL);
    assert_eq!(chain.publish(&segment).unwrap(), Published::Linked);
    let visited = chain.look(end.next).unwrap().expect("it is there");
    (chain, visited)
}

#[test]
fn records_one_by_one_are_those_of_the_whole_segment() {
    let mut rng = fastrand::Rng::with_seed(2);
    let large: Vec<usize> = (0..9_000).map(|_| rng.usize(0..900)).collect();
    for lengths in [
        &[0, 1, 2][..],
        // Longer than any piece that is held.
        &[10, 3 << 20, 0, 600 << 10, 5],
        &large,
        &[(512 << 10) - 1, 512 << 10, (512 << 10) + 1],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (chain, visited) = chain_of(dir.path(), lengths);
        let (visited, ndjson) = chain.read(visited.trailer.first).unwrap().unwrap();
        let whole: Vec<Read> = visited
            .trailer
            .records(&ndjson)
            .map(|it| read(&it))
            .collect();
        assert_eq!(whole.len(), lengths.len());
        assert!(one_by_one(&chain, &visited).unwrap() == whole);
    }
    let dir = tempfile::tempdir().unwrap();
    let chain = random_chain(dir.path(), &mut rng, 40);
    chain
        .walk(None, &mut |visited| {
            let (_, ndjson) = chain.read(visited.trailer.first).unwrap().unwrap();
            let whole = visited.trailer.records(&ndjson).map(|it| read(&it));
            assert!(one_by_one(&chain, &visited).unwrap().into_iter().eq(whole));
            true
        })
        .unwrap();
}

#[test]
fn a_segment_that_is_left_in_the_middle_spoils_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, visited) = chain_of(dir.path(), &[400 << 10; 9]);
    let whole = one_by_one(&chain, &visited).unwrap();
    for count in 0..9 {
        let mut records = chain.records(&visited).unwrap().unwrap();
        for _ in 0..count {
            records.next().unwrap().unwrap();
        }
        // Both at once, and one behind the other.
        assert!(one_by_one(&chain, &visited).unwrap() == whole);
        drop(records);
        assert!(one_by_one(&chain, &visited).unwrap() == whole);
    }
}

#[test]
fn no_damage_to_the_data_passes_the_end() {
    for lengths in [&[5; 40][..], &[300; 4_000]] {
        let dir = tempfile::tempdir().unwrap();
        let (chain, visited) = chain_of(dir.path(), lengths);
        let bytes = fs::read(&visited.path).unwrap();
        let len = visited.trailer.data_len as usize;
        for at in (0..len).step_by(1 + len / 200) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x80;
            fs::write(&visited.path, &damaged).unwrap();
            let found = one_by_one(&chain, &visited);
            assert!(
                matches!(found, Err(ChainFault::Damaged { .. })),
                "byte {at}"
            );
            fs::write(&visited.path, &bytes[..at]).unwrap();
            assert!(one_by_one(&chain, &visited).is_err(), "cut at {at}");
        }
        fs::write(&visited.path, &bytes).unwrap();
        assert_eq!(one_by_one(&chain, &visited).unwrap().len(), lengths.len());
    }
}

#[test]
fn other_lines_than_the_trailer_says_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (chain, visited) = chain_of(dir.path(), &[5; 40]);
    for (more, less) in [(1, 0), (0, 1)] {
        let mut wrong = visited.clone();
        wrong.trailer.stored[0].count += more;
        wrong.trailer.stored[0].count -= less;
        let error = one_by_one(&chain, &wrong).unwrap_err().to_string();
        assert!(error.contains("whole lines"), "{error}");
    }
    let mut wrong = visited;
    wrong.trailer.plain_len -= 1;
    let error = one_by_one(&chain, &wrong).unwrap_err().to_string();
    assert!(error.contains("239 bytes"), "{error}");
}
