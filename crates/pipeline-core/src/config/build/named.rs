//! The files that a configuration names and a service judges, also where other keys have faults.

use super::{
    super::{NamedFiles, ServerTls, value::Value},
    Good, kafka,
};

/// Those whose section is right; of the others the faults say what is to be done first.
pub(super) fn named(v: &Good<'_>) -> NamedFiles {
    let is_right = |section: &str, keys: &[&str]| {
        let read = |key: &&str| v.walked.get(&format!("{section}.{key}")).is_some();
        v.walked.get(section) == Some(&Value::Section) && keys.iter().all(read)
    };
    let mut files = NamedFiles::default();
    // Without it, nobody knows where a relative path leads to.
    if v.walked.get("dataDir").is_none() {
        return files;
    }
    if is_right("server.tls", &["certFile", "keyFile"]) {
        files.server_tls = Some(server_tls(v));
    }
    if is_right("kafka.tls", &["caFile", "certFile", "keyFile"]) && kafka::is_pair(v.walked) {
        files.kafka.tls = Some(kafka::tls(v));
    }
    if is_right("kafka.sasl", &["mechanism", "username"]) && kafka::has_password(v.walked) {
        files.kafka.sasl = Some(kafka::sasl(v));
    }
    files
}

pub(super) fn server_tls(v: &Good<'_>) -> ServerTls {
    ServerTls {
        cert_file: v.path("server.tls.certFile"),
        key_file: v.path("server.tls.keyFile"),
    }
}
