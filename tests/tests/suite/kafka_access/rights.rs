//! What `--check --connect` says of the rights that a user has not.

use anyhow::{Result, ensure};
use testbed::{
    kafka::{Listener, secure},
    process::poll_until,
    stand::{Plan, Stand},
};

use super::{CONFIG, OK, Scene, WITHIN, sasl};

impl Scene {
    /// As this user, by SASL.
    fn plan_of(&self, user: &str) -> Plan {
        let password = self.cluster.secure().password_file();
        let settings = vec![
            self.tls("ca.pem", None),
            sasl("SCRAM-SHA-512", user, &password),
        ];
        self.plan(self.at(Listener::SaslSsl), settings)
    }
}

fn missing(said: &str) -> Vec<&str> {
    let lines = said.lines();
    lines.filter(|line| line.starts_with("missing")).collect()
}

#[test]
fn missing_rights_are_named_one_by_one() -> Result<()> {
    let Some(scene) = Scene::new("kafka-rights")? else {
        return Ok(());
    };
    let allowed = scene.plan_of(secure::USER);
    let topic = allowed.topic.clone();
    // Makes the topic.
    let mut stand = Stand::up(&scene.dir.join("allowed"), allowed)?;
    let there = poll_until(WITHIN, || {
        let up = Stand::metric(&stand.writers, "kafka_up") == Some(1.0);
        Ok(up.then_some(()))
    })?;
    ensure!(there.is_some(), "the topic is not made");
    for service in stand.services() {
        service.terminate_if_running()?;
    }
    let limited = || Plan {
        topic: topic.clone(),
        ..scene.plan_of(secure::LIMITED)
    };
    for (writer, own) in [(false, "Write"), (true, "Read")] {
        let (ended, said) = scene.check(limited(), writer)?;
        assert_eq!(ended, CONFIG, "{said}");
        let lines = missing(&said);
        // All at once: of the group, too.
        let of_group = lines.iter().any(|line| line.contains("--group '"));
        assert_eq!(of_group, writer, "{said}");
        assert!(
            lines.iter().any(|line| line.contains(&format!(
                "--allow-principal 'User:limited' --operation {own} --topic '{topic}'"
            ))),
            "{said}"
        );
    }
    let principal = format!("User:{}", secure::LIMITED);
    let on_topic = ["Read", "Write", "DescribeConfigs"]
        .map(|operation| ["--operation", operation])
        .concat();
    let on_topic = [&on_topic[..], &["--topic", &topic]].concat();
    scene.cluster.allow(&principal, &on_topic)?;
    let all_there = poll_until(WITHIN, || {
        let (ended, _) = scene.check(limited(), false)?;
        Ok((ended == OK).then_some(()))
    })?;
    ensure!(all_there.is_some(), "the gateway has its rights");
    // The writer still has no group.
    let (ended, said) = scene.check(limited(), true)?;
    assert_eq!(ended, CONFIG, "{said}");
    let group = format!("{topic}-writer");
    assert!(
        missing(&said)
            .iter()
            .all(|line| line.contains(&format!("--group '{group}'"))),
        "{said}"
    );
    let on_group = ["--operation", "Read", "--group", &group];
    scene.cluster.allow(&principal, &on_group)?;
    let all_there = poll_until(WITHIN, || {
        let (ended, _) = scene.check(limited(), true)?;
        Ok((ended == OK).then_some(()))
    })?;
    ensure!(all_there.is_some(), "the writer has its rights");
    scene.dir.passed()
}

/// With `kafka.createTopic`, and none made by any of it.
#[test]
fn the_right_to_make_the_topic_is_asked_for() -> Result<()> {
    let Some(scene) = Scene::new("kafka-create")? else {
        return Ok(());
    };
    let topic = scene.plan_of(secure::LIMITED).topic;
    let limited = || Plan {
        topic: topic.clone(),
        ..scene.plan_of(secure::LIMITED)
    };
    let principal = format!("User:{}", secure::LIMITED);
    let allow = |operation: &str| {
        let words = ["--operation", operation, "--topic", &topic];
        scene.cluster.allow(&principal, &words)
    };
    // Without it nobody is told that the topic does not exist.
    allow("Describe")?;
    let line = format!("--allow-principal '{principal}' --operation Create --topic '{topic}'");
    let mut last = String::new();
    let refused = poll_until(WITHIN, || {
        let (ended, said) = scene.check(limited(), false)?;
        let named = missing(&said).iter().any(|missing| missing.contains(&line));
        last = said;
        Ok((ended == CONFIG && named).then_some(()))
    })?;
    ensure!(refused.is_some(), "{last}");
    allow("Create")?;
    let allowed = poll_until(WITHIN, || {
        let (ended, said) = scene.check(limited(), false)?;
        last = said;
        Ok((ended == OK).then_some(()))
    })?;
    ensure!(allowed.is_some(), "{last}");
    let (ended, said) = scene.check(limited(), false)?;
    assert_eq!(ended, OK, "{said}");
    assert!(
        said.contains(&format!("topic {topic} does not exist; it will be made")),
        "{said}"
    );
    scene.dir.passed()
}
