//! The calls we make and the versions of each that we speak.
//!
//! On every connection the highest version that both sides know is used. The floors are Kafka
//! 1.0's or older; a ceiling is set where a later version means something else to us.

use kafka_protocol::{
    messages::{
        CreateTopicsRequest, DescribeConfigsRequest, FetchRequest, FindCoordinatorRequest,
        HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest, MetadataRequest,
        OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, SyncGroupRequest,
    },
    protocol::{Request, VersionRange},
};

/// A request we may send.
pub(crate) trait Call: Request {
    /// In error messages.
    const NAME: &'static str;
    const OURS: VersionRange = Self::VERSIONS;
}

impl Call for ProduceRequest {
    const NAME: &'static str = "produce";
    // From 13 on topics have ids instead of names; an older broker knows no ids.
    const OURS: VersionRange = VersionRange { min: 3, max: 12 };
}

impl Call for FetchRequest {
    const NAME: &'static str = "fetch";
    // Up to 12 topics have names, in 13 ids; what later ones add is not for us.
    const OURS: VersionRange = VersionRange { min: 4, max: 13 };
}

impl Call for MetadataRequest {
    const NAME: &'static str = "metadata";
    // Before 4 a question about a topic may create it.
    const OURS: VersionRange = VersionRange { min: 4, max: 13 };
}

impl Call for ListOffsetsRequest {
    const NAME: &'static str = "list offsets";
}

impl Call for FindCoordinatorRequest {
    const NAME: &'static str = "find coordinator";
}

impl Call for JoinGroupRequest {
    const NAME: &'static str = "join group";
    // Before 2 there is no rebalance timeout of its own, before 1 none at all.
    const OURS: VersionRange = VersionRange { min: 2, max: 9 };
}

impl Call for SyncGroupRequest {
    const NAME: &'static str = "sync group";
}

impl Call for HeartbeatRequest {
    const NAME: &'static str = "heartbeat";
}

impl Call for LeaveGroupRequest {
    const NAME: &'static str = "leave group";
}

impl Call for OffsetCommitRequest {
    const NAME: &'static str = "commit offsets";
}

impl Call for OffsetFetchRequest {
    const NAME: &'static str = "fetch offsets";
}

impl Call for CreateTopicsRequest {
    const NAME: &'static str = "create topics";
}

impl Call for DescribeConfigsRequest {
    const NAME: &'static str = "describe configs";
}
