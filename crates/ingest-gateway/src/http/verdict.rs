//! What becomes of a body that was decoded: whether any of its records go on, and which refusal
//! it is where none does. Pure; what is answered is built here, never sent.

use pipeline_core::{config::InvalidRecords, record::RecordErrorCode};

use super::{
    problem::{Code, Problem, RecordFaults},
    reply::RecordFault,
};
use crate::decode::{DecodedBatch, RecordBatch};

/// The records of a body that go on, and what is said of the others.
#[derive(Debug)]
pub struct Verdict {
    pub records: RecordBatch,
    pub faults: RecordFaults,
}

impl Verdict {
    /// # Errors
    /// Where none goes on.
    pub fn of(decoded: DecodedBatch, invalid_records: InvalidRecords) -> Result<Self, Problem> {
        let foreign = decoded.rejected_by_code[RecordErrorCode::ForeignSite as usize];
        let faults = RecordFaults {
            omitted: decoded.errors_omitted(),
            rejected: decoded.rejected,
            errors: decoded.errors.into_iter().map(RecordFault::from).collect(),
        };
        let records = decoded.records;
        if records.is_empty() {
            let detail = match faults.rejected {
                0 => "the body holds no record".to_owned(),
                n => format!("none of {n} records is valid"),
            };
            let code = if foreign > 0 && foreign == faults.rejected {
                Code::ForeignSite
            } else {
                Code::NoValidRecord
            };
            return Err(Problem::new(code, detail).with_records(faults));
        }
        if invalid_records == InvalidRecords::Reject && faults.rejected > 0 {
            let detail = format!(
                "{} of {} records are not valid, and ingestion.invalidRecords is `reject`",
                faults.rejected,
                faults.rejected + records.len() as u64
            );
            return Err(Problem::new(Code::InvalidRecords, detail).with_records(faults));
        }
        Ok(Self { records, faults })
    }
}
