//! `ingest-gateway keys new`: a fresh API key, and the line that lets it in.
//!
//! The key goes to stdout and nowhere else: the configuration holds only its SHA-256, so a key
//! that is lost cannot be had again.

use std::io::{self, Write};

use clap::Subcommand;
use pipeline_core::{config::ApiKey, lifecycle::exit, record::check_site};
use sha2::{Digest, Sha256};

/// So that a key is known as one wherever it turns up.
const PREFIX: &str = "slk_";
const KEY_BYTES: usize = 32;
/// Random bytes of an id that nobody chose.
const ID_BYTES: usize = 4;

#[derive(Subcommand, Debug)]
pub enum KeysCommand {
    /// Print a fresh key, and behind it the line for auth.keys of the configuration
    New(NewKey),
}

#[derive(clap::Args, Clone, Debug)]
pub struct NewKey {
    /// Name of the key in logs and batch identities (default: a random one)
    #[arg(long, value_parser = id)]
    pub id: Option<String>,
    /// Bind the key to this site
    #[arg(long, value_name = "HOST", value_parser = site)]
    pub site: Option<String>,
    /// Let it send this many records in a second, on average
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub records_per_second: Option<u64>,
}

impl KeysCommand {
    #[must_use]
    pub fn run(self) -> u8 {
        let Self::New(new) = self;
        match new.make().and_then(|(key, line)| say(&key, &line)) {
            Ok(()) => exit::OK,
            Err(error) => {
                let _ = writeln!(io::stderr(), "no key was made: {error}");
                exit::FAILED
            }
        }
    }
}

impl NewKey {
    /// A key that nobody has seen, and its entry of `auth.keys`, as one line of YAML.
    ///
    /// # Errors
    /// Where the system has no randomness to give.
    pub fn make(&self) -> io::Result<(String, String)> {
        let key = format!("{PREFIX}{}", hex(&random::<KEY_BYTES>()?));
        let id = match &self.id {
            Some(id) => id.clone(),
            None => format!("key-{}", hex(&random::<ID_BYTES>()?)),
        };
        let sha256 = hex(&Sha256::digest(key.as_bytes()));
        let mut line = format!("- {{id: {}, sha256: \"{sha256}\"", quoted(&id));
        if let Some(site) = &self.site {
            line.push_str(&format!(", site: {}", quoted(site)));
        }
        if let Some(rate) = self.records_per_second {
            line.push_str(&format!(", recordsPerSecond: {rate}"));
        }
        line.push('}');
        Ok((key, line))
    }
}

/// What is to be copied goes to stdout, two lines; words about it to stderr.
fn say(key: &str, line: &str) -> io::Result<()> {
    let mut err = io::stderr();
    let mut out = io::stdout();
    let _ = writeln!(err, "The key, for the client; it is shown only this once:");
    writeln!(out, "{key}")?;
    out.flush()?;
    let _ = writeln!(
        err,
        "The line for the configuration, under auth.keys (SIGHUP makes a gateway read it):"
    );
    writeln!(out, "{line}")?;
    out.flush()
}

/// JSON's string is one of YAML; in a value of the configuration `${` would be a variable.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text.replace("${", "$${")).to_string()
}

fn id(text: &str) -> Result<String, String> {
    ApiKey::check_id(text)
        .map(|()| text.to_owned())
        .map_err(|allowed| format!("allowed is {allowed}"))
}

fn site(text: &str) -> Result<String, String> {
    check_site(text)
        .map(|()| text.to_owned())
        .map_err(|error| error.message)
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: NewKey = NewKey {
        id: None,
        site: None,
        records_per_second: None,
    };

    #[test]
    fn each_key_has_256_bits_of_its_own_and_its_line_the_hash() {
        let (first, line) = PLAIN.make().unwrap();
        let (second, _) = PLAIN.make().unwrap();
        assert_ne!(first, second);
        let bits = first.strip_prefix(PREFIX).unwrap();
        assert_eq!(bits.len(), 2 * KEY_BYTES);
        assert!(bits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(line.contains(&hex(&Sha256::digest(first.as_bytes()))));
        assert!(!line.contains(bits));
    }
}
