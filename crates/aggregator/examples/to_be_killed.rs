//! The aggregator as it is, but that the environment can name a step for it to end at
//! (`pipeline_core::fsx::kill`: an example has what tests have, no product does), and how many bytes
//! of lines make a portion (`SLUICE_PORTION_BYTES`): for `cargo xtask chaos aggregator`.

use aggregator::Portion;

#[path = "../src/main.rs"]
#[expect(dead_code, reason = "its own `main`")]
mod product;

fn main() -> std::process::ExitCode {
    let mut portion = Portion::default();
    if let Ok(bytes) = std::env::var("SLUICE_PORTION_BYTES") {
        portion.plain_bytes_max = bytes.parse().expect("SLUICE_PORTION_BYTES: a number");
    }
    product::run(portion)
}
