//! What a stage was asked to reach, and what it did: the last lines of a bench.

/// In the order in which they were measured.
#[derive(Default)]
pub struct Asks(Vec<String>);

impl Asks {
    pub fn at_least(&mut self, what: &str, found: f64, asked: f64) {
        self.push(what, found, ("at least", asked), found >= asked);
    }

    pub fn at_most(&mut self, what: &str, found: f64, asked: f64) {
        self.push(what, found, ("at most", asked), found <= asked);
    }

    pub fn skipped(&mut self, what: &str, why: &str) {
        self.0.push(format!("SKIPPED  {what}: {why}"));
    }

    pub fn print(&self) {
        println!("\nasked");
        for ask in &self.0 {
            println!("  {ask}");
        }
    }

    fn push(&mut self, what: &str, found: f64, (bound, asked): (&str, f64), met: bool) {
        let met = if met { "met" } else { "MISSED" };
        let digits = if found < 1000.0 { 1 } else { 0 };
        self.0.push(format!(
            "{met:<8} {found:>10.digits$} {what} ({bound} {asked})"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_reached_is_said() {
        let mut asks = Asks::default();
        asks.at_least("records", 999_999.0, 1e6);
        asks.at_least("records", 1e6, 1e6);
        asks.at_most("ms", 10.04, 10.0);
        asks.at_most("ms", 9.96, 10.0);
        asks.skipped("peer", "it is not there");
        let begins: Vec<_> = asks.0.iter().map(|ask| ask.split(' ').next()).collect();
        let expected = ["MISSED", "met", "MISSED", "met", "SKIPPED"].map(Some);
        assert_eq!(begins, expected);
    }
}
