//! Writes the reference page and both example files from the list of keys, and checks that what
//! stands in the repository is the same. To write them anew:
//! `UPDATE_DOCS=1 cargo test -p pipeline-core config::reference`.

use std::{fmt::Write, fs, path::PathBuf};

use super::{
    keys::{self, KEYS, Key, OFF, REQUIRED, SECTIONS},
    value::Kind,
};

/// Values of keys in an example that are not the default, and of those that have none.
type Values = &'static [(&'static str, &'static str)];

const LOCAL_HEAD: &str = "Sluice on one machine: the gateway, the writer and the aggregator beside one Kafka \
    broker. One file for all three; each takes it with --config.";

const LOCAL: Values = &[
    ("dataDir", "data"),
    ("kafka.brokers", "[127.0.0.1:9092]"),
    ("kafka.groupID", "sluice"),
    ("kafka.createTopic", "on"),
    ("kafka.createTopic.partitions", "4"),
    ("kafka.createTopic.replicationFactor", "1"),
];

const PRODUCTION_HEAD: &str = "Sluice in a cluster: any number of gateways and writers, one aggregator, a Kafka with \
    three brokers or more. One file for all three; each takes it with --config. Writers of \
    one store and the aggregator share the file system under storage.logsDir. Nobody can send before a key of theirs \
    stands under auth.keys: ingest-gateway keys new makes one.";

const PRODUCTION: Values = &[
    ("dataDir", "/var/lib/sluice"),
    ("server.addr", "0.0.0.0:8080"),
    ("server.adminAddr", "0.0.0.0:9101"),
    ("auth.enabled", "true"),
    ("auth.keys", "on"),
    ("auth.keys[].id", "example"),
    ("auth.keys[].sha256", NO_KEY),
    (
        "kafka.brokers",
        "[kafka-1.example.com:9092, kafka-2.example.com:9092, kafka-3.example.com:9092]",
    ),
    ("kafka.groupID", "sluice"),
    ("kafka.consumers", "2"),
    ("kafka.createTopic", "on"),
    ("kafka.createTopic.partitions", "12"),
    ("kafka.createTopic.replicationFactor", "3"),
    ("consumer.adminAddr", "0.0.0.0:9102"),
    ("aggregation.adminAddr", "0.0.0.0:9103"),
    ("telemetry.log.format", "json"),
];

/// A hash that no key has, until someone puts another in its place.
const NO_KEY: &str =
    "${SLUICE_KEY_SHA256:-0000000000000000000000000000000000000000000000000000000000000000}";

/// What stands, commented out, where there is no default that would show how it looks.
const SAMPLES: Values = &[
    ("server.tls.certFile", "tls/server.crt"),
    ("server.tls.keyFile", "tls/server.key"),
    ("auth.keys[].id", "example"),
    ("auth.keys[].sha256", NO_KEY),
    ("auth.keys[].sha256File", "keys/example.sha256"),
    ("auth.keys[].site", "www.example.com"),
    ("auth.keys[].recordsPerSecond", "10000"),
    ("ingestion.rejectsDir", "rejects"),
    ("kafka.groupInstanceID", "${HOSTNAME:-writer-1}"),
    ("kafka.tls.caFile", "tls/kafka-ca.crt"),
    ("kafka.tls.certFile", "tls/kafka-client.crt"),
    ("kafka.tls.keyFile", "tls/kafka-client.key"),
    ("kafka.sasl.mechanism", "SCRAM-SHA-512"),
    ("kafka.sasl.username", "sluice"),
    ("kafka.sasl.password", "${KAFKA_PASSWORD}"),
    ("kafka.sasl.passwordFile", "keys/kafka-password"),
    ("storage.archiveRetention", "365d"),
    ("storage.analyticsRetention", "730d"),
];

/// A blank at which [`comment`] does not break a line.
const NO_BREAK: char = '\u{a0}';

pub(crate) fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

const AGAIN: &str = "UPDATE_DOCS=1 cargo test -p pipeline-core config::reference";

#[test]
fn the_reference_page_says_what_the_code_does() {
    agrees("docs/configuration.md", &page(), AGAIN);
}

#[test]
fn both_examples_hold_every_key_with_its_default_in_words() {
    agrees(
        "config/examples/config.v2.local.yaml",
        &example(LOCAL_HEAD, LOCAL),
        AGAIN,
    );
    agrees(
        "config/examples/config.v2.production.yaml",
        &example(PRODUCTION_HEAD, PRODUCTION),
        AGAIN,
    );
}

/// Holds for each page that is written from a list: `again` writes it anew.
pub(crate) fn agrees(path: &str, written: &str, again: &str) {
    let file = file(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, written).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        found == written,
        "{path} differs from the list in the code: {again} writes it anew"
    );
}

fn page() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         <!-- Written from crates/pipeline-core/src/config/keys.rs by \
         `UPDATE_DOCS=1 cargo test -p pipeline-core config::reference`. -->\n\n\
         One YAML file for all three services, given with `--config FILE` (default \
         `config/config.yaml`). `--check` validates it and exits with 0, or 78 where it has faults; \
         all of them are printed at once, each with its YAML path, what was found and what is \
         allowed. Unknown and duplicate keys are faults. Two files to start from: \
         [one machine](../config/examples/config.v2.local.yaml) and \
         [a cluster](../config/examples/config.v2.production.yaml).\n\n\
         - **Durations** are a number and a unit: `500ms`, `10s`, `5m`, `1h`, `7d`.\n\
         - **Sizes** are bytes, or a number and a unit: `2000000`, `64MiB` (1024 × 1024), `64MB` \
         (1000 × 1000); `B`, `KB`, `MB`, `GB`, `TB`, `PB`, `KiB`, `MiB`, `GiB`, `TiB`, `PiB`.\n\
         - **Paths** that are relative begin at `dataDir`, and that at the working directory. `~` \
         is not expanded.\n\
         - **Variables** of the environment: `${NAME}`, or `${NAME:-default}` for where it is \
         unset or empty; in values only, after YAML is read, so that what they hold is never \
         YAML. An unset variable without a default is a fault. `$${` stands for `${`.\n\
         - **Not available yet** marks what a later release does: such a key is accepted at its \
         default and refused at any other value, never ignored.\n\n\
         Keys that contradict each other are faults too: a `server.addr` that is not loopback \
         without `auth.enabled` or `auth.allowAnonymous`; an `ingestion.producerWriteTimeout` that \
         is not less than `server.requestTimeout`; two listeners on one port; one directory for \
         two purposes.\n",
    );
    let mut section = None;
    for key in KEYS {
        let (top, name) = key.path.split_once('.').unwrap_or(("", key.path));
        if section != Some(top) {
            section = Some(top);
            let about = SECTIONS.iter().find(|(name, _)| *name == top);
            match about {
                Some((name, about)) => write!(out, "\n## `{name}`\n\n{about}\n\n").unwrap(),
                None => out.push_str("\n## At the top\n\n"),
            }
            out.push_str("| key | default | allowed | meaning |\n|---|---|---|---|\n");
        }
        let default = match key.default {
            REQUIRED => "required".to_owned(),
            OFF => "off".to_owned(),
            default => format!("`{default}`"),
        };
        writeln!(
            out,
            "| `{name}` | {default} | {} | {} |",
            key.kind.allowed(),
            key.help
        )
        .unwrap();
    }
    out
}

fn example(head: &str, values: Values) -> String {
    let mut out = String::new();
    comment(&mut out, 0, head);
    out.push_str("#\n");
    comment(
        &mut out,
        0,
        "Every key stands here, behind what it means and its default. A key behind a # is off. \
         Any value may come from the environment, as ${NAME} or ${NAME:-default}. \
         docs/configuration.md has it all in one table.",
    );
    out.push('\n');
    let mut open: Vec<&str> = Vec::new();
    for key in KEYS {
        sections(&mut out, &mut open, key);
        entry(&mut out, key, values);
    }
    out
}

/// Opens the plain sections that `key` stands in and the one before did not.
fn sections(out: &mut String, open: &mut Vec<&'static str>, key: &'static Key) {
    let ends = key.path.match_indices('.').map(|(at, _)| &key.path[..at]);
    let around: Vec<&'static str> = ends.collect();
    for (depth, path) in around.iter().enumerate() {
        if open.get(depth) != Some(path) && !path.ends_with("[]") && keys::find(path).is_none() {
            if depth == 0 {
                out.push('\n');
                let about = SECTIONS.iter().find(|(name, _)| name == path).unwrap().1;
                comment(out, 0, about);
            }
            let name = path.rsplit('.').next().unwrap();
            writeln!(out, "{:1$}{name}:", "", depth * 2).unwrap();
        }
    }
    *open = around;
}

fn entry(out: &mut String, key: &Key, values: Values) {
    let depth = key.path.matches('.').count() + key.path.matches("[]").count();
    let (mut indent, name) = (depth * 2, key.path.rsplit('.').next().unwrap());

    let default = match key.default {
        REQUIRED => "Required.".to_owned(),
        // Never broken across lines.
        default => format!("Default:{NO_BREAK}{default}"),
    };
    let dash = if key.path == "auth.keys[].id" {
        // The first key of a list's section.
        indent -= 2;
        "- "
    } else {
        ""
    };
    let words = format!("{} {default}", key.help.replace('`', ""));
    comment(out, indent, &words);
    let set = |values: Values| values.iter().find(|(path, _)| *path == key.path);
    let in_what_is_off = KEYS.iter().any(|around| {
        is_section(around) && is_inside(key.path, around.path) && !is_on(around, values)
    });
    // What is off by default stands as it would look, and does nothing.
    let is_sample = set(values).is_none() && (set(SAMPLES).is_some() || is_section(key));
    let hash = if in_what_is_off || is_sample { "#" } else { "" };
    let value = match set(values).or_else(|| set(SAMPLES)) {
        // A section; its keys follow.
        Some((_, "on")) => String::new(),
        Some((_, value)) => format!(" {value}"),
        None if KEYS.iter().any(|other| is_inside(other.path, key.path)) => String::new(),
        None => format!(" {}", key.default),
    };
    writeln!(out, "{:indent$}{hash}{dash}{name}:{value}", "").unwrap();
}

fn is_section(key: &Key) -> bool {
    matches!(key.kind, Kind::Section | Kind::Sections)
}

fn is_on(key: &Key, values: Values) -> bool {
    values.contains(&(key.path, "on"))
}

fn is_inside(path: &str, section: &str) -> bool {
    path.strip_prefix(section)
        .is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// Comment lines of at most 100 columns.
fn comment(out: &mut String, indent: usize, words: &str) {
    let mut line = String::new();
    for word in words.split(' ') {
        let word = word.replace(NO_BREAK, " ");
        if !line.is_empty() && indent + 2 + line.len() + 1 + word.len() > 100 {
            writeln!(out, "{:indent$}# {line}", "").unwrap();
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    writeln!(out, "{:indent$}# {line}", "").unwrap();
}
