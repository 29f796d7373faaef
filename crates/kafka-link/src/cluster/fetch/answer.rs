//! A leader's answer: what each partition gave.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::PartitionData;
use pipeline_core::{Offset, PartitionId};

use super::{Growth, Landed, Outcome, Question, partitions_of};
use crate::{
    Fetched, KafkaError,
    batch::{Aborted, Room, decode_records},
    error::{Context, ErrorKind},
};

/// Adds the partitions that had data or an error to `outcomes`. What there is no room `left` for
/// is asked for again.
pub(super) fn read_answer(
    landed: Landed,
    growth: &Growth,
    left: &mut usize,
    outcomes: &mut Vec<Outcome>,
) {
    let Landed {
        question,
        first,
        answer,
    } = landed;
    let Question {
        topic,
        leader,
        from,
        ..
    } = question;
    let answer = match answer {
        Ok(answer) if answer.error_code == 0 => answer,
        refused => {
            let error = refused.map_or_else(
                |error| error,
                |answer| {
                    let call = format!("fetch from topic {topic} at {leader}");
                    KafkaError::answered(Context::Fetch, answer.error_code, &call, None)
                },
            );
            let all = from.into_iter();
            outcomes.extend(all.map(|(partition, _)| (partition, Err(error.clone()))));
            return;
        }
    };
    let offsets: HashMap<PartitionId, Offset> = from.into_iter().collect();
    let len = |data: &PartitionData| data.records.as_ref().map_or(0, Bytes::len);
    let all: usize = partitions_of(&answer).map(len).sum();
    let (mut memory, mut wire) = (0, 0);
    let mut seen = HashSet::new();
    for data in partitions_of(&answer) {
        let partition = PartitionId(data.partition_index);
        let Some(&from) = offsets.get(&partition) else {
            continue;
        };
        if !seen.insert(partition) {
            continue;
        }
        let at = || format!("fetch from topic {topic} partition {partition} at {leader}");
        let mut room = Room {
            copied: 2 * len(data) < all,
            bytes: *left,
            taken: 0,
        };
        match read_partition(data, from, first == Some(partition), &mut room, &mut wire) {
            Ok(Some(fetched)) => outcomes.push((partition, Ok(fetched))),
            Ok(None) => {}
            Err(error) => outcomes.push((partition, Err(error.within(&at())))),
        }
        *left = room.bytes;
        memory += room.taken;
    }
    growth.heard(wire, memory);
}

/// What one partition gave; `None` where it had nothing new.
fn read_partition(
    data: &PartitionData,
    from: Offset,
    was_first: bool,
    room: &mut Room,
    wire_bytes: &mut usize,
) -> Result<Option<Fetched>, KafkaError> {
    if data.error_code != 0 {
        let call = format!(
            "offset {from} (the log begins at {}, ends at {})",
            data.log_start_offset, data.high_watermark
        );
        return Err(KafkaError::answered(
            Context::Fetch,
            data.error_code,
            &call,
            None,
        ));
    }
    let nothing = Bytes::new();
    let records = data.records.as_ref().unwrap_or(&nothing);
    let aborted = data.aborted_transactions.iter().flatten();
    let aborted: Vec<Aborted> = aborted
        .map(|aborted| Aborted {
            producer_id: aborted.producer_id.0,
            first_offset: aborted.first_offset,
        })
        .collect();
    let decoded = decode_records(records, from, &aborted, room)?;
    *wire_bytes += decoded.wire_bytes;
    if decoded.blocks.is_empty() {
        return match decoded.cut_first {
            // No later fetch would get more of it.
            Some(len) if was_first => Err(KafkaError::new(
                ErrorKind::TooLarge,
                format!("offset {from}: a batch of {len} bytes does not come whole"),
            )),
            _ => Ok(None),
        };
    }
    Ok(Some(Fetched {
        partition: PartitionId(data.partition_index),
        blocks: decoded.blocks,
        log_start: Offset(data.log_start_offset),
        high_watermark: Offset(data.high_watermark),
        next: decoded.next,
    }))
}
