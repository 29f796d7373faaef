//! The calls we make, the versions of each that we speak, and how their answers are laid out.
//!
//! On every connection the highest version that both sides know is used. The floors are Kafka
//! 1.0's or older; a ceiling is set where a later version means something else to us.

use kafka_protocol::{
    messages::{
        CreateTopicsRequest, DescribeConfigsRequest, DescribeGroupsRequest, FetchRequest,
        FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
        ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
        ProduceRequest, SaslAuthenticateRequest, SaslHandshakeRequest, SyncGroupRequest,
    },
    protocol::{Request, VersionRange},
};

use super::shape::{BYTES, I8, I16, I32, I32S, I64, Layout, TEXT, UUID, each, structure};

/// A request we may send.
pub(crate) trait Call: Request {
    /// In error messages.
    const NAME: &'static str;
    const OURS: VersionRange = Self::VERSIONS;
    /// What answers in these versions are made of.
    const ANSWER: Layout;
}

/// An answer's first bytes, in header versions 0 and 1.
pub(super) const ANSWER_HEADER: Layout = Layout {
    flexible: 1,
    fields: &[I32],
};

/// The answer to the question for versions.
pub(super) const API_VERSIONS: Layout = Layout {
    flexible: 3,
    fields: &[
        I16,
        each(&[I16, I16, I16]),
        I32.since(1),
        each(&[TEXT, I16, I16]).tagged(0),
        I64.tagged(1),
        each(&[TEXT, I16, I16]).tagged(2),
        I8.tagged(3),
    ],
};

impl Call for ProduceRequest {
    const NAME: &'static str = "produce";
    // From 13 on topics have ids instead of names; an older broker knows no ids.
    const OURS: VersionRange = VersionRange { min: 3, max: 12 };
    const ANSWER: Layout = Layout {
        flexible: 9,
        fields: &[
            each(&[
                TEXT,
                each(&[
                    I32,
                    I16,
                    I64,
                    I64,
                    I64.since(5),
                    each(&[I32, TEXT]).since(8),
                    TEXT.since(8),
                    structure(&[I32, I32]).since(10).tagged(0),
                ]),
            ]),
            I32,
            each(&[I32, TEXT, I32, TEXT]).since(10).tagged(0),
        ],
    };
}

impl Call for FetchRequest {
    const NAME: &'static str = "fetch";
    // Up to 12 topics have names, in 13 ids; what later ones add is not for us.
    const OURS: VersionRange = VersionRange { min: 4, max: 13 };
    const ANSWER: Layout = Layout {
        flexible: 12,
        fields: &[
            I32,
            I16.since(7),
            I32.since(7),
            each(&[
                TEXT.until(12),
                UUID.since(13),
                each(&[
                    I32,
                    I16,
                    I64,
                    I64,
                    I64.since(5),
                    each(&[I64, I64]),
                    I32.since(11),
                    BYTES,
                    structure(&[I32, I64]).tagged(0),
                    structure(&[I32, I32]).tagged(1),
                    structure(&[I64, I32]).tagged(2),
                ]),
            ]),
        ],
    };
}

impl Call for MetadataRequest {
    const NAME: &'static str = "metadata";
    // Before 4 a question about a topic may create it.
    const OURS: VersionRange = VersionRange { min: 4, max: 13 };
    const ANSWER: Layout = Layout {
        flexible: 9,
        fields: &[
            I32.since(3),
            each(&[I32, TEXT, I32, TEXT.since(1)]),
            TEXT.since(2),
            I32.since(1),
            each(&[
                I16,
                TEXT,
                UUID.since(10),
                I8.since(1),
                each(&[I16, I32, I32, I32.since(7), I32S, I32S, I32S.since(5)]),
                I32.since(8),
            ]),
            I32.since(8).until(10),
            I16.since(13),
        ],
    };
}

impl Call for ListOffsetsRequest {
    const NAME: &'static str = "list offsets";
    const ANSWER: Layout = Layout {
        flexible: 6,
        fields: &[
            I32.since(2),
            each(&[TEXT, each(&[I32, I16, I64, I64, I32.since(4)])]),
        ],
    };
}

impl Call for FindCoordinatorRequest {
    const NAME: &'static str = "find coordinator";
    const ANSWER: Layout = Layout {
        flexible: 3,
        fields: &[
            I32.since(1),
            I16.until(3),
            TEXT.since(1).until(3),
            I32.until(3),
            TEXT.until(3),
            I32.until(3),
            each(&[TEXT, I32, TEXT, I32, I16, TEXT]).since(4),
        ],
    };
}

impl Call for JoinGroupRequest {
    const NAME: &'static str = "join group";
    // Before 2 there is no rebalance timeout of its own, before 1 none at all.
    const OURS: VersionRange = VersionRange { min: 2, max: 9 };
    const ANSWER: Layout = Layout {
        flexible: 6,
        fields: &[
            I32.since(2),
            I16,
            I32,
            TEXT.since(7),
            TEXT,
            TEXT,
            I8.since(9),
            TEXT,
            each(&[TEXT, TEXT.since(5), BYTES]),
        ],
    };
}

impl Call for SyncGroupRequest {
    const NAME: &'static str = "sync group";
    const ANSWER: Layout = Layout {
        flexible: 4,
        fields: &[I32.since(1), I16, TEXT.since(5), TEXT.since(5), BYTES],
    };
}

impl Call for HeartbeatRequest {
    const NAME: &'static str = "heartbeat";
    const ANSWER: Layout = Layout {
        flexible: 4,
        fields: &[I32.since(1), I16],
    };
}

impl Call for LeaveGroupRequest {
    const NAME: &'static str = "leave group";
    const ANSWER: Layout = Layout {
        flexible: 4,
        fields: &[I32.since(1), I16, each(&[TEXT, TEXT, I16]).since(3)],
    };
}

impl Call for OffsetCommitRequest {
    const NAME: &'static str = "commit offsets";
    const ANSWER: Layout = Layout {
        flexible: 8,
        fields: &[
            I32.since(3),
            each(&[TEXT.until(9), UUID.since(10), each(&[I32, I16])]),
        ],
    };
}

impl Call for OffsetFetchRequest {
    const NAME: &'static str = "fetch offsets";
    const ANSWER: Layout = Layout {
        flexible: 6,
        fields: &[
            I32.since(3),
            each(&[TEXT, each(&[I32, I64, I32.since(5), TEXT, I16])]).until(7),
            I16.since(2).until(7),
            each(&[
                TEXT,
                each(&[
                    TEXT.until(9),
                    UUID.since(10),
                    each(&[I32, I64, I32, TEXT, I16]),
                ]),
                I16,
            ])
            .since(8),
        ],
    };
}

impl Call for CreateTopicsRequest {
    const NAME: &'static str = "create topics";
    const ANSWER: Layout = Layout {
        flexible: 5,
        fields: &[
            I32,
            each(&[
                TEXT,
                UUID.since(7),
                I16,
                TEXT,
                I32.since(5),
                I16.since(5),
                each(&[TEXT, TEXT, I8, I8, I8]).since(5),
                I16.since(5).tagged(0),
            ]),
        ],
    };
}

impl Call for DescribeConfigsRequest {
    const NAME: &'static str = "describe configs";
    const ANSWER: Layout = Layout {
        flexible: 4,
        fields: &[
            I32,
            each(&[
                I16,
                TEXT,
                I8,
                TEXT,
                each(&[
                    TEXT,
                    TEXT,
                    I8,
                    I8,
                    I8,
                    each(&[TEXT, TEXT, I8]),
                    I8.since(3),
                    TEXT.since(3),
                ]),
            ]),
        ],
    };
}

impl Call for SaslHandshakeRequest {
    const NAME: &'static str = "SASL handshake";
    // In 0 what follows is no call of the protocol.
    const OURS: VersionRange = VersionRange { min: 1, max: 1 };
    const ANSWER: Layout = Layout {
        flexible: i16::MAX,
        fields: &[I16, each(&[TEXT])],
    };
}

impl Call for SaslAuthenticateRequest {
    const NAME: &'static str = "SASL authenticate";
    const ANSWER: Layout = Layout {
        flexible: 2,
        fields: &[I16, TEXT, BYTES, I64.since(1)],
    };
}

impl Call for DescribeGroupsRequest {
    const NAME: &'static str = "describe groups";
    // From 6 on a group that is not there yet is an error.
    const OURS: VersionRange = VersionRange { min: 0, max: 5 };
    const ANSWER: Layout = Layout {
        flexible: 5,
        fields: &[
            I32.since(1),
            each(&[
                I16,
                TEXT,
                TEXT,
                TEXT,
                TEXT,
                each(&[TEXT, TEXT.since(4), TEXT, TEXT, BYTES, BYTES]),
                I32.since(3),
            ]),
        ],
    };
}
