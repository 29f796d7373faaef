//! Every key of the list, made wrong in every way its kind can be.

use super::*;

/// The key that the fault is about; an item of a list stands for the list.
pub fn place(fault: &Fault) -> String {
    let path = fault.path.strip_suffix("[0]").unwrap_or(&fault.path);
    path.replace("[0]", "[]")
}

#[test]
fn a_misspelt_key_is_refused_with_its_path_and_the_one_that_was_meant() {
    for key in KEYS {
        let (section, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        let wrong = format!("{}x", key.path);
        let faults = faults(&with(&wrong, &json!(1)));
        let start = wrong.replace("[]", "[0]") + ": found an unknown key, allowed: ";
        let hint = format!("(did you mean {name}?)");
        let found = faults
            .iter()
            .any(|fault| fault.starts_with(&start) && fault.ends_with(&hint));
        assert!(found, "{section} {name}: {faults:?}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_its_path() {
    for key in KEYS {
        for value in wrong::types(key) {
            let fault = only_fault(&with(key.path, &value));
            assert_eq!(place(&fault), key.path, "{value}: {fault}");
            assert!(!fault.allowed.is_empty() && !fault.found.is_empty());
        }
    }
}

#[test]
fn a_value_out_of_range_is_refused_with_its_path_and_the_range() {
    for key in KEYS {
        for value in wrong::values(key) {
            let fault = only_fault(&with(key.path, &value));
            assert_eq!(place(&fault), key.path, "{value}: {fault}");
        }
    }
    let fault = only_fault(&with("server.maxConnections", &json!(0)));
    assert_eq!(
        fault.to_string(),
        "server.maxConnections: found 0, allowed: a whole number from 1 to 1000000"
    );
}

#[test]
fn the_drains_delay_leaves_half_of_the_shutdown_to_the_drain() {
    let with = |delay: &str, timeout: &str| {
        let mut root = minimal();
        root["server"] = json!({"drainDelay": delay, "shutdownTimeout": timeout});
        root.to_string()
    };
    assert_eq!(faults(&with("15s", "30s")), [""; 0]);
    let fault = only_fault(&with("15001ms", "30s"));
    assert_eq!(
        fault.to_string(),
        "server.drainDelay: found 15.001s, allowed: at most half of server.shutdownTimeout (30s)"
    );
}

#[test]
fn a_certificate_needs_its_key_and_a_password_stands_in_one_place() {
    for (tls, fault_at) in [
        (json!({"certFile": "a"}), "kafka.tls.keyFile"),
        (json!({"keyFile": "a"}), "kafka.tls.certFile"),
    ] {
        let fault = only_fault(&with("kafka.tls", &tls));
        assert_eq!(fault.path, fault_at);
    }
    let sasl = |given: serde_json::Value| {
        let mut sasl = json!({"mechanism": "PLAIN", "username": "u"});
        let given = given.as_object().unwrap().clone();
        sasl.as_object_mut().unwrap().extend(given);
        with("kafka.sasl", &sasl)
    };
    let fault = only_fault(&sasl(json!({"password": "hunter2", "passwordFile": "f"})));
    assert_eq!(fault.path, "kafka.sasl.passwordFile");
    let fault = only_fault(&sasl(json!({})));
    assert_eq!(fault.path, "kafka.sasl.password");
    let config = Config::parse(&sasl(json!({"password": "hunter2"})), &no_env).unwrap();
    assert!(config.kafka.security.sasl.is_some() && config.kafka.security.tls.is_none());
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn secrets_are_never_shown() {
    for (path, value) in [
        ("auth.keys", json!([{"id": "a", "sha256": "hunter2"}])),
        ("auth.keys", json!(["hunter2"])),
        ("auth.keys", json!("hunter2")),
        ("auth.keys[].sha256", json!("${hunter2")),
        ("auth.keys[].site", json!("hunter2:80")),
        ("auth.kezs", json!("hunter2")),
        ("auth", json!("hunter2")),
        ("kafka.sasl", json!({"password": "hunter2"})),
        ("kafka.sasl", json!("hunter2")),
        ("kafka.sazl", json!({"password": "hunter2"})),
        ("kafka.brokers", json!(["user:hunter2@kafka:9092"])),
    ] {
        let faults = faults(&with(path, &value));
        assert!(!faults.is_empty());
        let hidden = !faults.iter().any(|fault| fault.contains("hunter2"));
        assert!(hidden, "{faults:?}");
    }
    let fault = only_fault(&with("auth.keys", &json!("hunter2")));
    assert_eq!(fault.found, "***");
}

#[test]
fn a_mechanism_is_no_secret() {
    let sasl = json!({"mechanism": "SCRAM-SHA-1", "username": "u", "password": "hunter2"});
    let fault = only_fault(&with("kafka.sasl", &sasl));
    assert_eq!(fault.found, "\"SCRAM-SHA-1\"");
}

/// What is named is judged as far as it is right, whatever else is wrong.
#[test]
fn the_faults_of_named_files_come_with_all_others() {
    let found = Fault {
        path: "kafka.tls.caFile".to_owned(),
        found: "no certificate".to_owned(),
        allowed: "one".to_owned(),
    };
    let dir = tempfile::tempdir().unwrap();
    let load = |kafka: serde_json::Value| {
        let file = dir.path().join("config.yaml");
        let mut root = json!({"dataDir": "/data", "kafka": kafka, "misspelt": 1});
        root["server"]["tls"] = json!({"certFile": "c", "keyFile": "k"});
        root["kafka"]["brokers"] = json!(["kafka:9092"]);
        root["kafka"]["groupID"] = json!("g");
        std::fs::write(&file, root.to_string()).unwrap();
        let mut judged = NamedFiles::default();
        let loaded = ConfigFile::load_judged(&file, |files| {
            judged = files.clone();
            vec![found.clone()]
        });
        let Err(LoadError::Faults { faults, .. }) = loaded else {
            panic!("{loaded:?}");
        };
        assert_eq!(faults.last(), Some(&found));
        assert!(faults.iter().any(|fault| fault.path == "misspelt"));
        let listener = judged.server_tls.unwrap();
        assert_eq!(listener.key_file, std::path::Path::new("/data/k"));
        judged.kafka
    };
    let tls = json!({"caFile": "ca", "certFile": "c", "keyFile": "k"});
    let sasl = json!({"mechanism": "PLAIN", "username": "u", "passwordFile": "p"});
    let security = load(json!({"tls": tls, "sasl": sasl}));
    assert!(security.tls.is_some_and(|tls| tls.client.is_some()));
    assert!(security.sasl.is_some());
    // What is not right is a fault of its own.
    for kafka in [
        json!({"tls": {"certFile": "c"}, "sasl": {"username": "u", "password": "p"}}),
        json!({"tls": {"caFile": 1}, "sasl": {"mechanism": "PLAIN", "username": "u"}}),
        json!({"tls": "on", "sasl": {"mechanism": "XYZ", "username": "u", "password": "p"}}),
    ] {
        assert_eq!(load(kafka), KafkaSecurity::default());
    }
}
