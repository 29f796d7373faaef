//! Whether a topic's settings keep the promise: one judgement for all who use it. Pure.

use pipeline_core::telemetry::catalog::WEAK_SETTINGS;

use crate::cluster::TopicSettings;

/// Shorter than this, a writer that stands still over a weekend loses records.
const RETENTION_MS_MIN: i64 = 3 * 24 * 3600 * 1000;

/// What is to be said of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fitness {
    /// Why it may not be used.
    pub unfit: Option<String>,
    /// What weakens the promise: setting (of [`WEAK_SETTINGS`]) and what was found.
    pub weak: Vec<(&'static str, String)>,
}

/// Judges.
#[must_use]
pub fn judge(settings: &TopicSettings) -> Fitness {
    let [replication, insync, unclean, retention] = WEAK_SETTINGS;
    let mut fitness = Fitness::default();
    let mut policies = settings.cleanup_policy.split(',');
    if policies.any(|policy| policy.trim() == "compact") {
        fitness.unfit = Some(format!(
            "cleanup.policy is `{}`: compaction removes records; allowed is `delete`",
            settings.cleanup_policy
        ));
    }
    if settings.replication < 3 {
        fitness.weak.push((
            replication,
            format!("{}, should be 3 or more", settings.replication),
        ));
    }
    if let Some(n) = settings.min_insync_replicas
        && n < 2
    {
        fitness
            .weak
            .push((insync, format!("{n}, should be 2 or more")));
    }
    if settings.unclean_leader_election == Some(true) {
        fitness
            .weak
            .push((unclean, "true, should be false".to_owned()));
    }
    let too_short = settings
        .retention_ms
        .is_some_and(|ms| (0..RETENTION_MS_MIN).contains(&ms));
    if too_short {
        fitness.weak.push((
            retention,
            format!(
                "{} ms, should be longer than the writer's longest outage (3 days are \
                 {RETENTION_MS_MIN})",
                settings.retention_ms.unwrap_or_default()
            ),
        ));
    } else if let Some(bytes) = settings.retention_bytes
        && bytes >= 0
    {
        fitness.weak.push((
            retention,
            format!("{bytes} bytes, should be -1 (only time removes records)"),
        ));
    }
    fitness
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> TopicSettings {
        TopicSettings {
            cleanup_policy: "delete".to_owned(),
            min_insync_replicas: Some(2),
            unclean_leader_election: Some(false),
            retention_ms: Some(7 * 24 * 3600 * 1000),
            retention_bytes: Some(-1),
            max_message_bytes: Some(1_048_588),
            replication: 3,
        }
    }

    #[test]
    fn the_topic_of_the_promise_has_no_fault() {
        assert_eq!(judge(&good()), Fitness::default());
        let for_ever = TopicSettings {
            retention_ms: Some(-1),
            ..good()
        };
        assert_eq!(judge(&for_ever), Fitness::default());
    }

    #[test]
    fn compaction_is_unfit_also_beside_delete() {
        for policy in ["compact", "compact,delete", "delete, compact"] {
            let settings = TopicSettings {
                cleanup_policy: policy.to_owned(),
                ..good()
            };
            assert!(judge(&settings).unfit.unwrap().contains(policy));
        }
    }

    #[test]
    fn each_weak_setting_is_named() {
        let settings = TopicSettings {
            replication: 1,
            min_insync_replicas: Some(1),
            unclean_leader_election: Some(true),
            retention_ms: Some(1000),
            ..good()
        };
        let names: Vec<_> = judge(&settings).weak.into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, WEAK_SETTINGS);
        let by_size = TopicSettings {
            retention_bytes: Some(1 << 30),
            ..good()
        };
        assert_eq!(judge(&by_size).weak[0].0, "retention");
    }
}
