//! Fetches that name topics by id (KIP-516). Everything between decoding and encoding goes by
//! name: here ids become names at the one end, and names ids at the other.

use kafka_protocol::messages::{RequestKind, ResponseKind, TopicName};
use uuid::Uuid;

use super::topic_name;
use crate::cluster::Cluster;

/// The first version of a fetch with ids.
pub(super) const FETCH_SINCE: i16 = 13;

/// The topics of one request under both names.
pub(crate) struct Ids(Vec<(TopicName, Uuid)>);

/// Names the topics of a request that goes by id. An id that nobody has is its own name.
pub(crate) fn name_topics(cluster: &Cluster, request: &mut RequestKind, version: i16) -> Ids {
    let mut ids = Vec::new();
    if let RequestKind::Fetch(fetch) = request
        && version >= FETCH_SINCE
    {
        for topic in &mut fetch.topics {
            let id = topic.topic_id;
            topic.topic = cluster.topic_by_id(id).map_or_else(
                || topic_name(&id.to_string()),
                |found| topic_name(&found.name),
            );
            ids.push((topic.topic.clone(), id));
        }
    }
    Ids(ids)
}

/// Gives the topics of the answer the ids that they were asked by.
pub(crate) fn put_ids(answer: &mut ResponseKind, Ids(ids): &Ids) {
    if let ResponseKind::Fetch(fetch) = answer {
        for topic in &mut fetch.responses {
            let asked = ids.iter().find(|(name, _)| *name == topic.topic);
            if let Some((_, id)) = asked {
                topic.topic_id = *id;
            }
        }
    }
}
