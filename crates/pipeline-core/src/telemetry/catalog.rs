//! Every metric of Sluice: name, type, unit, help, labels. Nothing else names a metric.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Service {
    Gateway,
    Writer,
    Aggregator,
}
