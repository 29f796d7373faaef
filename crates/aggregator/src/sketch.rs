//! Quantiles that can be added up: a DDSketch (<https://arxiv.org/abs/1908.10693>) of durations in
//! milliseconds. Pure; where two sketches hold the same values they are equal, however these came.
//!
//! Bucket `i` counts the values in `(g^(i-1), g^i]` with `g = (1 + e) / (1 - e)`. Any of them is
//! within the relative error `e` of `2 g^i / (g + 1)`, which is what a quantile gives.

use std::sync::LazyLock;

/// Stated of each quantile: that of the buckets, and what rounding to four digits adds.
pub const RELATIVE_ERROR: f64 = 0.01;

const BUCKET_ERROR: f64 = 0.0094;
pub const GAMMA: f64 = (1.0 + BUCKET_ERROR) / (1.0 - BUCKET_ERROR);
/// Values up to this are zero: nothing is timed finer than a nanosecond.
const ZERO_MAX: f64 = 1e-6;
/// Values above it count as it, so that there is an end to buckets: 31 years.
const VALUE_MAX: f64 = 1e12;
/// The bucket of zero, below all others.
const ZERO: i32 = i32::MIN;

/// Sorted by bucket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sketch {
    pub buckets: Vec<(i32, u64)>,
}

impl Sketch {
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// The smallest value that at least the share `q` of all values does not exceed, within
    /// [`RELATIVE_ERROR`]; `None` of nothing.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((q * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut below = 0;
        let (bucket, _) = self.buckets.iter().find(|(_, count)| {
            below += count;
            below >= rank
        })?;
        Some(value(*bucket))
    }
}

/// A sketch that is being filled: buckets by their place, as they lie close to each other. There
/// are some 2,200 in all.
#[derive(Default)]
pub struct Durations {
    zero: u64,
    /// The bucket of the first of `counts`.
    first: i32,
    counts: Vec<u64>,
}

/// Empty places that are made beside a new one.
const BESIDE: i32 = 32;

impl Durations {
    #[inline]
    pub fn add(&mut self, bucket: i32) {
        match self
            .counts
            .get_mut(bucket.wrapping_sub(self.first) as usize)
        {
            Some(count) => *count += 1,
            None => self.add_outside(bucket),
        }
    }

    #[must_use]
    pub fn memory(&self) -> usize {
        self.counts.len() * size_of::<u64>()
    }

    #[must_use]
    pub fn sketch(&self) -> Sketch {
        let places = (self.first..).zip(&self.counts);
        let buckets = [(ZERO, self.zero)].into_iter();
        let buckets = buckets.chain(places.map(|(bucket, count)| (bucket, *count)));
        Sketch {
            buckets: buckets.filter(|(_, count)| *count > 0).collect(),
        }
    }

    #[cold]
    fn add_outside(&mut self, bucket: i32) {
        if bucket == ZERO {
            self.zero += 1;
            return;
        }
        let (mut first, mut behind) = (bucket - BESIDE, bucket + BESIDE);
        if !self.counts.is_empty() {
            first = first.min(self.first);
            behind = behind.max(self.first + self.counts.len() as i32);
        }
        let mut counts = vec![0; (behind - first) as usize];
        let known = (self.first.wrapping_sub(first)) as usize;
        for (place, count) in self.counts.iter().enumerate() {
            counts[known + place] = *count;
        }
        counts[(bucket - first) as usize] += 1;
        (self.first, self.counts) = (first, counts);
    }
}

/// The bucket of a value of 0 or more.
#[inline]
#[must_use]
pub fn bucket(value: f64) -> i32 {
    if value <= ZERO_MAX {
        return ZERO;
    }
    let value = value.min(VALUE_MAX);
    let span = &SPANS[span_of(value) - span_of(ZERO_MAX)];
    span.bucket + i32::from(value > span.end)
}

/// Values that agree in exponent and the first bits of the fraction: they lie within 1/64 of each
/// other, which is less than a bucket is wide, so they are of one bucket or of two.
struct Span {
    bucket: i32,
    /// The greatest value that is of this bucket, and not of the next one.
    end: f64,
}

const SPAN_BITS: u32 = f64::MANTISSA_DIGITS - 1 - 6;

#[inline]
fn span_of(value: f64) -> usize {
    (value.to_bits() >> SPAN_BITS) as usize
}

/// A logarithm costs more than all else that is done with a duration.
static SPANS: LazyLock<Box<[Span]>> = LazyLock::new(|| {
    let spans = span_of(ZERO_MAX)..=span_of(VALUE_MAX);
    let spans = spans.map(|span| {
        let bucket = logarithm(f64::from_bits((span as u64) << SPAN_BITS));
        // Near where the bucket ends, exactly where the logarithm says so.
        let mut end = GAMMA.powi(bucket);
        while logarithm(end) > bucket {
            end = end.next_down();
        }
        while logarithm(end.next_up()) <= bucket {
            end = end.next_up();
        }
        Span { bucket, end }
    });
    spans.collect()
});

/// The bucket by its definition.
fn logarithm(value: f64) -> i32 {
    (value.ln() * (1.0 / GAMMA.ln())).ceil() as i32
}

/// What a bucket stands for, to four digits.
fn value(bucket: i32) -> f64 {
    if bucket == ZERO {
        return 0.0;
    }
    let value = 2.0 * GAMMA.powi(bucket) / (GAMMA + 1.0);
    format!("{value:.3e}").parse().expect("a number")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sketch(values: &[f64]) -> Sketch {
        let mut buckets = BTreeMap::new();
        for value in values {
            *buckets.entry(bucket(*value)).or_default() += 1;
        }
        Sketch {
            buckets: buckets.into_iter().collect(),
        }
    }

    #[test]
    fn quantiles_are_within_the_stated_error_of_the_true_ones() {
        let mut rng = fastrand::Rng::with_seed(1);
        let spreads: [fn(&mut fastrand::Rng) -> f64; 5] = [
            |rng| rng.f64() * 1000.0,
            |rng| f64::from(rng.u32(0..50)),
            |rng| 10_f64.powf(rng.f64() * 17.0 - 6.0),
            |rng| (-rng.f64().max(1e-9).ln()) * 120.0,
            |rng| GAMMA.powi(rng.i32(-100..1000)),
        ];
        for (number, spread) in spreads.into_iter().enumerate() {
            for count in [1, 2, 3, 10, 1_000, 20_000] {
                let mut values: Vec<f64> = (0..count).map(|_| spread(&mut rng)).collect();
                let sketch = sketch(&values);
                assert_eq!(sketch.count(), count as u64);
                values.sort_by(f64::total_cmp);
                for q in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
                    let rank = ((q * count as f64).ceil() as usize).clamp(1, count);
                    let (found, right) = (sketch.quantile(q).unwrap(), values[rank - 1]);
                    assert!(
                        (found - right).abs() <= RELATIVE_ERROR * right + ZERO_MAX,
                        "spread {number}: {q} of {count}: {found}, not {right}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_filled_in_any_order_is_the_same_sketch() {
        let mut rng = fastrand::Rng::with_seed(2);
        for count in [0, 1, 2, 50, 3_000] {
            let value = |rng: &mut fastrand::Rng| match rng.u8(..4) {
                0 => 0.0,
                1 => 10_f64.powf(rng.f64() * 20.0 - 7.0),
                _ => rng.f64() * 100.0,
            };
            let values: Vec<f64> = (0..count).map(|_| value(&mut rng)).collect();
            let mut filled = Durations::default();
            for value in &values {
                filled.add(bucket(*value));
            }
            assert_eq!(filled.sketch(), sketch(&values));
            assert!(filled.memory() < 20_000, "{}", filled.memory());
        }
    }

    /// Anywhere, and around each place where one ends.
    #[test]
    fn a_bucket_is_the_one_of_the_logarithm() {
        let mut rng = fastrand::Rng::with_seed(3);
        let anywhere = (0..200_000).map(|_| 10_f64.powf(rng.f64() * 18.0 - 6.0));
        let ends = SPANS.iter().flat_map(|span| {
            let begin = f64::from_bits(span.end.to_bits() >> SPAN_BITS << SPAN_BITS);
            [span.end.next_down(), span.end, span.end.next_up(), begin]
        });
        for value in anywhere.chain(ends) {
            if value > ZERO_MAX && value <= VALUE_MAX {
                assert_eq!(bucket(value), logarithm(value), "{value}");
            }
        }
    }

    #[test]
    fn there_is_an_end_to_buckets() {
        assert_eq!(bucket(0.0), bucket(1e-7));
        assert_eq!(bucket(1e12), bucket(f64::MAX));
        let span = bucket(1e12) - bucket(1.1e-6);
        assert!((0..2_500).contains(&span), "{span}");
        assert_eq!(Sketch::default().quantile(0.5), None);
    }
}
