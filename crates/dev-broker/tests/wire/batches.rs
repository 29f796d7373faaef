//! Batches to send, and what is in those that come.

use bytes::{Bytes, BytesMut};
use dev_broker::RawBatch;
use kafka_protocol::records::RecordBatchDecoder;

pub fn plain(values: &[&str]) -> Bytes {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    RawBatch::Plain { values }.encode()
}

/// The batch with one change and, if wanted, the checksum right again.
pub fn changed(batch: &Bytes, seal: bool, change: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    change(&mut bytes);
    if seal {
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.freeze()
}

pub fn offsets(records: Option<Bytes>) -> Vec<i64> {
    let mut bytes = records.unwrap_or_default();
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let set = RecordBatchDecoder::decode(&mut bytes).expect("whole batches");
        found.extend(set.records.iter().map(|record| record.offset));
    }
    found
}
