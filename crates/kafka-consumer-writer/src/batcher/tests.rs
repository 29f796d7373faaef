use bytes::Bytes;
use kafka_link::{HeaderSlot, Message};

use super::*;

const LIMITS: FlushLimits = FlushLimits {
    flush_size: 512,
    flush_interval: Duration::from_millis(500),
    batch_records_max: 4_096,
    batch_bytes_max: 1_000_000,
};

fn chunk(first: i64, records: u32, arrived: Instant) -> Chunk {
    let messages = (0..i64::from(records))
        .map(|n| Message {
            offset: Offset(first + n),
            timestamp_ms: 0,
            value: None,
            header: HeaderSlot::Absent,
        })
        .collect();
    let bytes = u64::from(records) * 100;
    let next = Offset(first + i64::from(records));
    Chunk {
        content: Content::Messages(MessageBlock {
            bytes: Bytes::new(),
            messages,
            first: Offset(first),
            next,
        }),
        next,
        arrived,
        bytes,
        reserved: Budget::new(u64::MAX).take(bytes),
    }
}

#[test]
fn flush_at_size() {
    let now = Instant::now();
    let mut batcher = Batcher::new(LIMITS, Offset(10));
    batcher.push(chunk(10, 511, now));
    assert!(batcher.take(now).is_none(), "one record is missing");
    batcher.push(chunk(521, 1, now));
    let batch = batcher.take(now).expect("512 records are there");
    assert_eq!((batch.first, batch.next), (Offset(10), Offset(522)));
    assert_eq!((batch.records, batch.trigger), (512, Trigger::Size));
    assert!(batcher.is_empty() && batcher.records() == 0 && batcher.bytes() == 0);
    assert!(batcher.take(now + LIMITS.flush_interval).is_none());
}

#[test]
fn flush_at_interval() {
    let start = Instant::now();
    let mut batcher = Batcher::new(LIMITS, Offset(0));
    assert_eq!(batcher.due_at(), None);
    batcher.push(chunk(0, 1, start));
    // What comes later waits no longer than what came first.
    batcher.push(chunk(1, 1, start + Duration::from_millis(400)));
    let due_at = start + LIMITS.flush_interval;
    assert_eq!(batcher.due_at(), Some(due_at));
    assert!(batcher.take(due_at - Duration::from_nanos(1)).is_none());
    let batch = batcher.take(due_at).expect("the interval is over");
    assert_eq!((batch.records, batch.trigger), (2, Trigger::Interval));
}

#[test]
fn a_batch_grows_while_a_save_is_slow_up_to_its_bound() {
    let now = Instant::now();
    let mut batcher = Batcher::new(LIMITS, Offset(0));
    for n in 0..10 {
        batcher.push(chunk(n * 1_000, 1_000, now));
    }
    let sizes: Vec<_> = std::iter::from_fn(|| batcher.take(now))
        .map(|batch| (batch.first.0, batch.records))
        .collect();
    assert_eq!(sizes, [(0, 4_000), (4_000, 4_000), (8_000, 2_000)]);
    // One chunk over the bound goes alone.
    batcher.push(chunk(10_000, 5_000, now));
    assert_eq!(batcher.take(now).expect("due").records, 5_000);
}

#[test]
fn a_gap_alone_is_a_batch_after_the_interval() {
    let now = Instant::now();
    let mut batcher = Batcher::new(LIMITS, Offset(5));
    batcher.push(Chunk {
        content: Content::Lost,
        next: Offset(1_000_000),
        ..chunk(5, 1, now)
    });
    assert!(batcher.take(now).is_none());
    let batch = batcher.take(now + LIMITS.flush_interval).expect("due");
    assert_eq!((batch.records, batch.next), (0, Offset(1_000_000)));
}

/// Saves of random lengths, some of which never end: the drain ends with all saved, or exactly
/// at its deadline.
#[test]
fn forced_flush_ends_within_its_deadline() {
    let mut seen = (0, 0);
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let start = Instant::now();
        let mut batcher = Batcher::new(LIMITS, Offset(0));
        let chunks = random.i64(0..300);
        for n in 0..chunks {
            batcher.push(chunk(n * 100, 100, start));
        }
        let drain = Drain {
            deadline: start + Duration::from_millis(1_000),
            why: Trigger::Shutdown,
        };
        batcher.force(Trigger::Shutdown);
        let (mut now, mut saved) = (start, Offset(0));
        let mut in_flight: Option<(Instant, Offset)> = None;
        let end = loop {
            if in_flight.is_none()
                && let Some(batch) = batcher.take(now)
            {
                let takes = Duration::from_millis(match random.u32(0..10) {
                    0 => u64::MAX / 4,
                    _ => random.u64(1..300),
                });
                let ends = now
                    .checked_add(takes)
                    .unwrap_or(now + Duration::from_secs(9));
                in_flight = Some((ends, batch.next));
            }
            let left = in_flight.is_some() || !batcher.is_empty();
            match drain.state(now, left) {
                DrainState::Going => {}
                ended => break ended,
            }
            let (ends, next) = in_flight.expect("a drain that goes on saves at once");
            now = ends.min(drain.deadline);
            if ends <= now {
                saved = next;
                in_flight = None;
            }
        };
        assert!(now <= drain.deadline, "seed {seed}");
        if end == DrainState::Flushed {
            assert_eq!(saved, Offset(chunks * 100), "seed {seed}");
            seen.0 += 1;
        } else {
            assert!(
                now == drain.deadline && saved.0 < chunks * 100,
                "seed {seed}"
            );
            seen.1 += 1;
        }
    }
    assert!(seen.0 > 50 && seen.1 > 50, "both ends are met: {seen:?}");
}
