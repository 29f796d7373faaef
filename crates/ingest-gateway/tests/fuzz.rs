//! The oracles of the fuzz targets on stable: every committed input, and thousands of random
//! changes of them, seeded. What a fuzzer found stays in `fuzz/seeds` and is run here for ever.

use std::{fs, path::Path};

#[path = "../fuzz/oracle/mod.rs"]
mod oracle;

/// Changes of each target's seeds.
const ROUNDS: usize = 3000;
/// Of those whose bodies are long.
const LONG_ROUNDS: usize = 300;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("a directory's entry").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", dir.display());
    files
        .iter()
        .map(|file| fs::read(file).expect("a seed"))
        .collect()
}

fn changed(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    const SPECIAL: &[u8] = b"\"\\,\n\r []{}:\0\xff\xef\xbb\xbf0-e";
    let mut data = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(1..6) {
        if data.len() < 2 {
            break;
        }
        let at = random.usize(..data.len());
        match random.u32(0..7) {
            0 => data.truncate(at.max(2)),
            1 => data[at] = random.u8(..),
            2 => data.insert(at, SPECIAL[random.usize(..SPECIAL.len())]),
            3 => drop(data.remove(at)),
            4 => data[at] ^= 1 << random.u32(0..8),
            5 => {
                let other = &seeds[random.usize(..seeds.len())];
                let from = random.usize(..=other.len());
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
            _ => {
                let to = random.usize(at..data.len()).min(at + 60);
                let piece = data[at..to].to_vec();
                data.splice(at..at, piece);
            }
        }
    }
    // Options and cuts.
    for byte in data.iter_mut().take(2) {
        *byte = random.u8(..);
    }
    data
}

fn run(target: &str, rounds: usize) {
    let (_, oracle) = oracle::TARGETS
        .into_iter()
        .find(|(name, _)| *name == target)
        .expect("a target");
    let seeds = seeds(target);
    for seed in &seeds {
        oracle(seed);
    }
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..rounds {
        let data = changed(&seeds, &mut random);
        let outcome = std::panic::catch_unwind(|| oracle(&data));
        assert!(
            outcome.is_ok(),
            "{target} fails for {}",
            data.escape_ascii()
        );
    }
}

#[test]
fn json_bodies_hold_what_the_oracle_says() {
    run("json", ROUNDS);
}

#[test]
fn ndjson_bodies_hold_what_the_oracle_says() {
    run("ndjson", ROUNDS);
}

#[test]
fn csv_bodies_hold_what_the_oracle_says() {
    run("csv", ROUNDS);
}

#[test]
fn log_lines_hold_what_the_oracle_says() {
    run("text", ROUNDS);
}

#[test]
fn compressed_bodies_are_what_other_readers_say() {
    run("inflate", ROUNDS);
}

#[test]
fn pieces_say_what_the_whole_says() {
    run("pieces", LONG_ROUNDS);
}

#[test]
fn records_hold_what_the_oracle_says() {
    run("record", ROUNDS);
}

#[test]
fn every_target_has_its_file_and_its_name_in_the_manifest() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).expect("a manifest");
    for (name, _) in oracle::TARGETS {
        assert!(
            dir.join(format!("fuzz_targets/{name}.rs")).is_file(),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
