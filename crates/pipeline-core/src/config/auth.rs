//! Who may send: the section `auth` as types, and the rules between its keys and the listener.

use std::{collections::HashMap, fmt, fs::File, io::Read, net::SocketAddr, path::Path};

use super::{
    Auth,
    value::{Item, Kind, Value, sha256},
    walk::Walked,
    yaml::Node,
};

/// Longest file with a hash.
const HASH_FILE_BYTES_MAX: u64 = 1024;

/// One API key, known by its hash alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiKey {
    /// Names it in logs and batch identities.
    pub id: String,
    pub sha256: KeyHash,
    /// The one site of its records.
    pub site: Option<String>,
    pub records_per_second: Option<u64>,
}

/// SHA-256 of a key's bytes; never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(pub [u8; 32]);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl ApiKey {
    /// Whether a key may have this id.
    ///
    /// # Errors
    /// What is allowed.
    pub fn check_id(id: &str) -> Result<(), String> {
        let good = Kind::Name.read(&Node::Text(id.to_owned())).is_some();
        good.then_some(()).ok_or_else(|| Kind::Name.allowed())
    }
}

impl Auth {
    /// Whether the gateway may listen on `addr`.
    #[must_use]
    pub fn allows(&self, addr: SocketAddr) -> bool {
        may_listen(addr, self.enabled, self.allow_anonymous)
    }
}

/// Finds every fault, and reads the hashes that stand in files of their own.
pub(super) fn check(walked: &mut Walked, data_dir: &Path) {
    read_hashes(walked, data_dir);
    check_distinct(walked, "id", "an id", str::to_owned);
    check_distinct(walked, "sha256", "a key", str::to_ascii_lowercase);
    let enabled = walked.get("auth.enabled") == Some(&Value::Bool(true));
    let none = matches!(walked.get("auth.keys"), Some(Value::Sections(keys)) if keys.is_empty());
    if enabled && none {
        walked.fault(
            "auth.keys",
            "nothing",
            "at least one key where auth.enabled is true (`ingest-gateway keys new` prints one)",
        );
    }
    if let (Some(Value::Addr(addr)), Some(Value::Bool(enabled)), Some(Value::Bool(anonymous))) = (
        walked.get("server.addr"),
        walked.get("auth.enabled"),
        walked.get("auth.allowAnonymous"),
    ) && !may_listen(*addr, *enabled, *anonymous)
    {
        let found = addr.to_string();
        walked.fault(
            "server.addr",
            found,
            "a loopback address, or any with auth.enabled or auth.allowAnonymous: true",
        );
    }
}

/// The keys of a section without faults.
pub(super) fn keys(items: &[Item]) -> Vec<ApiKey> {
    let text = |item: &Item, name: &str| match item.get(&*path_of(name)) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    items
        .iter()
        .map(|item| ApiKey {
            id: text(item, "id").expect("a key without faults has an id"),
            sha256: text(item, "sha256")
                .and_then(|digits| sha256(&digits))
                .map(KeyHash)
                .expect("a key without faults has a hash"),
            site: text(item, "site"),
            records_per_second: match item.get(&*path_of("recordsPerSecond")) {
                Some(Value::Number(number)) => Some(*number),
                _ => None,
            },
        })
        .collect()
}

fn may_listen(addr: SocketAddr, enabled: bool, anonymous: bool) -> bool {
    addr.ip().to_canonical().is_loopback() || enabled || anonymous
}

/// Puts what stands in the files of `sha256File` in the place of `sha256`.
fn read_hashes(walked: &mut Walked, data_dir: &Path) {
    let mut faults = Vec::new();
    for (index, item) in walked.items("auth.keys").iter_mut().enumerate() {
        let Some(Value::Text(file)) = item.get("auth.keys[].sha256File") else {
            continue;
        };
        let allowed = if item.contains_key("auth.keys[].sha256") {
            Err("sha256 or sha256File, not both".to_owned())
        } else {
            read_hash(&data_dir.join(file))
        };
        match allowed {
            Ok(digits) => {
                item.insert("auth.keys[].sha256", Value::Text(digits));
            }
            Err(allowed) => faults.push((index, allowed)),
        }
    }
    for (index, allowed) in faults {
        walked.fault(&format!("auth.keys[{index}].sha256File"), "***", allowed);
    }
}

/// # Errors
/// What is allowed instead.
fn read_hash(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    File::open(file)
        .and_then(|file| file.take(HASH_FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| format!("a file that can be read ({error})"))?;
    let digits = text.trim();
    sha256(digits)
        .map(|_| digits.to_owned())
        .ok_or_else(|| "a file that holds 64 hexadecimal digits and nothing else".to_owned())
}

fn check_distinct(walked: &mut Walked, name: &str, what: &str, same: fn(&str) -> String) {
    let path = path_of(name);
    let mut first = HashMap::new();
    let mut twice = Vec::new();
    for (index, item) in walked.items("auth.keys").iter().enumerate() {
        if let Some(Value::Text(text)) = item.get(&*path)
            && let Some(other) = first.insert(same(text), index)
        {
            twice.push((index, other));
        }
    }
    for (index, other) in twice {
        walked.fault(
            &format!("auth.keys[{index}].{name}"),
            "***",
            format!("{what} that auth.keys[{other}] does not have"),
        );
    }
}

fn path_of(name: &str) -> String {
    format!("auth.keys[].{name}")
}
