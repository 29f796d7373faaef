//! Records that the topic would not take, apart from their neighbours. Pure.

use crate::decode::RecordBatch;

/// Those whose line has at most `line_bytes_max`, and the others where there are some; each keeps
/// its sequence.
pub(super) fn split(
    records: RecordBatch,
    line_bytes_max: usize,
) -> (RecordBatch, Option<RecordBatch>) {
    let len_of = |at: usize| records.range(at).len();
    let count = records.len();
    if (0..count).all(|at| len_of(at) <= line_bytes_max) {
        return (records, None);
    }
    let (mut fits, mut too_large) = (RecordBatch::default(), RecordBatch::default());
    for at in 0..count {
        let to = if len_of(at) <= line_bytes_max {
            &mut fits
        } else {
            &mut too_large
        };
        to.lines.extend_from_slice(records.line(at));
        let end = u32::try_from(to.lines.len()).expect("no longer than what it is a part of");
        to.ends.push(end);
        to.sequences.push(records.sequences[at]);
    }
    (fits, Some(too_large))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::test::batch_of;

    fn records(lines: &[&str]) -> RecordBatch {
        RecordBatch::clone(&batch_of(1, lines).records)
    }

    #[test]
    fn what_is_too_large_is_apart_and_all_keep_their_sequences() {
        let (fits, too_large) = split(records(&["ab", "abc", "", "abcd", "a"]), 2);
        assert_eq!(fits.lines, b"aba");
        assert_eq!(fits.ends, [2, 2, 3]);
        assert_eq!(fits.sequences, [0, 2, 4]);
        let too_large = too_large.unwrap();
        assert_eq!(too_large.lines, b"abcabcd");
        assert_eq!(too_large.ends, [3, 7]);
        assert_eq!(too_large.sequences, [1, 3]);
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let all = records(&["ab", "a"]);
        assert_eq!(split(all.clone(), 2), (all, None));
        assert!(split(records(&["abc"]), 2).0.ends.is_empty());
    }
}
