//! The section `kafka` as types, and the rules between its keys.

use super::{
    super::{
        ClientCertificate, Compression, CreateTopic, Kafka, KafkaSasl, KafkaSecurity, KafkaTls,
        Password, SaslMechanism, Secret, value::Value, walk::Walked,
    },
    Good,
};

const PASSWORD: &str = "kafka.sasl.password";
const PASSWORD_FILE: &str = "kafka.sasl.passwordFile";
const CERT_FILE: &str = "kafka.tls.certFile";
const KEY_FILE: &str = "kafka.tls.keyFile";

pub(super) fn check(walked: &mut Walked) {
    if is_text(walked, PASSWORD) && is_text(walked, PASSWORD_FILE) {
        walked.fault(PASSWORD_FILE, "***", "password or passwordFile, not both");
    }
    for (there, absent) in [(CERT_FILE, KEY_FILE), (KEY_FILE, CERT_FILE)] {
        if is_text(walked, there) && walked.get(absent) == Some(&Value::Off) {
            walked.fault(absent, "nothing", format!("a path, as {there} has one"));
        }
    }
}

fn is_text(walked: &Walked, path: &str) -> bool {
    matches!(walked.get(path), Some(Value::Text(_)))
}

/// Whether there are a certificate and its key, or neither.
pub(super) fn is_pair(walked: &Walked) -> bool {
    is_text(walked, CERT_FILE) == is_text(walked, KEY_FILE)
}

pub(super) fn has_password(walked: &Walked) -> bool {
    is_text(walked, PASSWORD) || is_text(walked, PASSWORD_FILE)
}

pub(super) fn kafka(v: &Good<'_>) -> Kafka {
    let create_topic = (*v.value("kafka.createTopic") == Value::Section).then(|| CreateTopic {
        partitions: v.small("kafka.createTopic.partitions"),
        replication_factor: v.small("kafka.createTopic.replicationFactor"),
    });
    Kafka {
        brokers: v.list("kafka.brokers").to_vec(),
        topic: v.text("kafka.topic").to_owned(),
        group_id: v.text("kafka.groupID").to_owned(),
        group_instance_id: v.optional("kafka.groupInstanceID", |v, path| v.text(path).to_owned()),
        batch_size: v.count("kafka.batchSize"),
        batch_bytes: v.count("kafka.batchBytes"),
        batch_timeout: v.duration("kafka.batchTimeout"),
        compression: match v.text("kafka.compression") {
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => Compression::None,
        },
        async_ack: v.bool("kafka.async"),
        consumers: v.count("kafka.consumers"),
        require_all_acks: v.bool("kafka.requireAllAcks"),
        create_topic,
        security: KafkaSecurity {
            tls: (*v.value("kafka.tls") == Value::Section).then(|| tls(v)),
            sasl: (*v.value("kafka.sasl") == Value::Section).then(|| sasl(v)),
        },
    }
}

pub(super) fn tls(v: &Good<'_>) -> KafkaTls {
    KafkaTls {
        ca_file: v.optional("kafka.tls.caFile", Good::path),
        client: v.optional(CERT_FILE, |v, cert_file| ClientCertificate {
            cert_file: v.path(cert_file),
            key_file: v.path(KEY_FILE),
        }),
    }
}

pub(super) fn sasl(v: &Good<'_>) -> KafkaSasl {
    KafkaSasl {
        mechanism: match v.text("kafka.sasl.mechanism") {
            "PLAIN" => SaslMechanism::Plain,
            "SCRAM-SHA-256" => SaslMechanism::ScramSha256,
            _ => SaslMechanism::ScramSha512,
        },
        username: v.text("kafka.sasl.username").to_owned(),
        password: match v.walked.get(PASSWORD) {
            Some(Value::Text(text)) => Password::Given(Secret::new(text.clone())),
            _ => Password::File(v.path(PASSWORD_FILE)),
        },
    }
}
