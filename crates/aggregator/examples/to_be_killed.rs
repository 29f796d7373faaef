//! The aggregator as it is, but that the environment can name a step for it to end at
//! (`pipeline_core::fsx::kill`: an example has what tests have, no product does): for
//! `cargo xtask chaos aggregator`.

#[path = "../src/main.rs"]
mod product;

fn main() -> std::process::ExitCode {
    product::main()
}
