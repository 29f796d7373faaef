//! What every error code of the protocol means for each kind of call.
//!
//! The match names every code that `kafka-protocol` knows, so a new one does not compile until
//! someone has decided about it. A code from a later broker is judged as `UnknownServerError`.

use kafka_protocol::error::{ParseResponseErrorCode, ResponseError};

use super::ErrorKind;

/// What was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Context {
    Produce,
    Fetch,
    /// Join, sync, heartbeat, leave, find the coordinator, fetch offsets.
    Group,
    Commit,
    /// Metadata, offsets, settings: reading changes nothing.
    Lookup,
    /// Making topics.
    Admin,
}

impl Context {
    /// A call that was sent and not answered: may it have changed anything that matters?
    pub(crate) fn unanswered(self) -> ErrorKind {
        match self {
            Self::Produce | Self::Commit | Self::Admin => ErrorKind::UnknownOutcome,
            Self::Fetch | Self::Group | Self::Lookup => ErrorKind::Retry,
        }
    }
}

/// The greatest code that this release knows; the least is -1, and 0 is none.
const LAST_CODE: i16 = 133;

/// Every error code that this release knows, with its name and what it means for a produce.
pub fn produce_errors() -> impl Iterator<Item = (i16, String, ErrorKind)> {
    let codes = (-1..=LAST_CODE).filter(|code| *code != 0);
    codes.map(|code| (code, name_of(code), kind_of(Context::Produce, code)))
}

/// The protocol's name of a code, as `NotEnoughReplicas`.
pub(crate) fn name_of(code: i16) -> String {
    match code.err() {
        None => "no error".to_owned(),
        Some(ResponseError::Unknown(_)) => "an error unknown to this release".to_owned(),
        Some(error) => format!("{error:?}"),
    }
}

/// What a caller does about `code` (not 0) from a call in `context`.
pub(crate) fn kind_of(context: Context, code: i16) -> ErrorKind {
    use Context::{Commit, Fetch, Group, Produce};
    use ErrorKind as Kind;
    use ResponseError as E;

    let Some(error) = code.err() else {
        return Kind::Retry;
    };
    match error {
        // The broker does not say what happened.
        E::Unknown(_)
        | E::UnknownServerError
        | E::RequestTimedOut
        | E::NetworkException
        | E::BrokerNotAvailable => context.unanswered(),

        // Appended, or perhaps appended, but not as safely as was asked for.
        E::NotEnoughReplicasAfterAppend | E::KafkaStorageError if context == Produce => {
            Kind::UnknownOutcome
        }
        E::NotEnoughReplicas | E::NotEnoughReplicasAfterAppend => Kind::Retry,

        // The wrong broker, or metadata behind the cluster's. UnknownTopicOrPartition is Fatal
        // only where metadata itself says so (see `cluster::metadata`).
        E::UnknownTopicOrPartition
        | E::UnknownTopicId
        | E::InconsistentTopicId
        | E::LeaderNotAvailable
        | E::NotLeaderOrFollower
        | E::ReplicaNotAvailable
        | E::KafkaStorageError
        | E::FencedLeaderEpoch
        | E::UnknownLeaderEpoch
        | E::ListenerNotFound
        | E::PreferredLeaderNotAvailable
        | E::EligibleLeadersNotAvailable
        | E::NewLeaderElected
        | E::IneligibleReplica
        | E::StaleBrokerEpoch
        | E::StaleControllerEpoch
        | E::NotController
        | E::UnknownControllerId
        | E::RebootstrapRequired => Kind::RefreshAndRetry,

        // Passes by itself.
        E::OffsetNotAvailable
        | E::CoordinatorLoadInProgress
        | E::CoordinatorNotAvailable
        | E::NotCoordinator
        | E::UnstableOffsetCommit
        | E::ThrottlingQuotaExceeded
        | E::ConcurrentTransactions
        | E::OperationNotAttempted
        | E::ReassignmentInProgress
        | E::ElectionNotNeeded
        | E::FetchSessionIdNotFound
        | E::InvalidFetchSessionEpoch
        | E::FetchSessionTopicIdError
        | E::ShareSessionNotFound
        | E::InvalidShareSessionEpoch
        | E::ShareSessionLimitReached
        | E::GroupMaxSizeReached
        | E::SnapshotNotFound
        | E::PositionOutOfRange => Kind::Retry,

        E::MessageTooLarge | E::RecordListTooLarge if context == Produce => Kind::TooLarge,
        E::MessageTooLarge | E::RecordListTooLarge => Kind::Fatal,

        E::CorruptMessage
        | E::InvalidRecord
        | E::InvalidTimestamp
        | E::UnsupportedForMessageFormat
        | E::InvalidRecordState => match context {
            Produce | Fetch => Kind::Poison,
            _ => Kind::Fatal,
        },

        E::OffsetOutOfRange | E::OffsetMovedToTieredStorage => match context {
            Fetch => Kind::OffsetOutOfRange,
            _ => Kind::Retry,
        },

        E::RebalanceInProgress | E::MemberIdRequired | E::StaleMemberEpoch => match context {
            Group | Commit => Kind::Rejoin,
            _ => Kind::Retry,
        },
        // A newer generation may have given this member's partitions to others.
        E::IllegalGeneration
        | E::UnknownMemberId
        | E::FencedMemberEpoch
        | E::UnreleasedInstanceId => match context {
            Group | Commit => Kind::Lost,
            _ => Kind::Fatal,
        },
        E::FencedInstanceId => match context {
            Group | Commit => Kind::Fenced,
            _ => Kind::Fatal,
        },

        // Someone has to change something: names, rights, settings, versions, the data's size.
        E::InvalidFetchSize
        | E::OffsetMetadataTooLarge
        | E::InvalidTopicException
        | E::InvalidRequiredAcks
        | E::InconsistentGroupProtocol
        | E::InvalidGroupId
        | E::InvalidSessionTimeout
        | E::InvalidCommitOffsetSize
        | E::TopicAuthorizationFailed
        | E::GroupAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::UnsupportedSaslMechanism
        | E::IllegalSaslState
        | E::UnsupportedVersion
        | E::TopicAlreadyExists
        | E::InvalidPartitions
        | E::InvalidReplicationFactor
        | E::InvalidReplicaAssignment
        | E::InvalidConfig
        | E::InvalidRequest
        | E::PolicyViolation
        | E::OutOfOrderSequenceNumber
        | E::DuplicateSequenceNumber
        | E::InvalidProducerEpoch
        | E::InvalidTxnState
        | E::InvalidProducerIdMapping
        | E::InvalidTransactionTimeout
        | E::TransactionCoordinatorFenced
        | E::TransactionalIdAuthorizationFailed
        | E::SecurityDisabled
        | E::LogDirNotFound
        | E::SaslAuthenticationFailed
        | E::UnknownProducerId
        | E::DelegationTokenAuthDisabled
        | E::DelegationTokenNotFound
        | E::DelegationTokenOwnerMismatch
        | E::DelegationTokenRequestNotAllowed
        | E::DelegationTokenAuthorizationFailed
        | E::DelegationTokenExpired
        | E::InvalidPrincipalType
        | E::NonEmptyGroup
        | E::GroupIdNotFound
        | E::TopicDeletionDisabled
        | E::UnsupportedCompressionType
        | E::NoReassignmentInProgress
        | E::GroupSubscribedToTopic
        | E::ProducerFenced
        | E::ResourceNotFound
        | E::DuplicateResource
        | E::UnacceptableCredential
        | E::InconsistentVoterSet
        | E::InvalidUpdateVersion
        | E::FeatureUpdateFailed
        | E::PrincipalDeserializationFailure
        | E::DuplicateBrokerRegistration
        | E::BrokerIdNotRegistered
        | E::InconsistentClusterId
        | E::TransactionalIdNotFound
        | E::UnsupportedAssignor
        | E::MismatchedEndpointType
        | E::UnsupportedEndpointType
        | E::UnknownSubscriptionId
        | E::TelemetryTooLarge
        | E::InvalidRegistration
        | E::TransactionAbortable
        | E::FencedStateEpoch
        | E::InvalidVoterKey
        | E::DuplicateVoter
        | E::VoterNotFound
        | E::InvalidRegularExpression
        | E::StreamsInvalidTopology
        | E::StreamsInvalidTopologyEpoch
        | E::StreamsTopologyFenced => Kind::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Context::{Admin, Commit, Fetch, Group, Lookup, Produce};

    const CONTEXTS: [Context; 6] = [Produce, Fetch, Group, Commit, Lookup, Admin];
    fn kind(context: Context, error: ResponseError) -> ErrorKind {
        kind_of(context, error.code())
    }

    #[test]
    fn every_code_has_a_name_and_a_kind_that_fits_its_context() {
        for code in (-1..=LAST_CODE).filter(|code| *code != 0) {
            assert!(
                !matches!(code.err(), Some(ResponseError::Unknown(_))),
                "{code}"
            );
            assert!(!name_of(code).contains("unknown to this release"), "{code}");
            for context in CONTEXTS {
                let kind = kind_of(context, code);
                let at = format!("{} in {context:?}: {kind:?}", name_of(code));
                match kind {
                    ErrorKind::TooLarge => assert_eq!(context, Produce, "{at}"),
                    ErrorKind::Poison => assert!(matches!(context, Produce | Fetch), "{at}"),
                    ErrorKind::OffsetOutOfRange => assert_eq!(context, Fetch, "{at}"),
                    // No broker says that: metadata does.
                    ErrorKind::OtherTopic => panic!("{at}"),
                    // Nor that, other than while a connection is made.
                    ErrorKind::Auth => panic!("{at}"),
                    ErrorKind::Rejoin | ErrorKind::Lost | ErrorKind::Fenced => {
                        assert!(matches!(context, Group | Commit), "{at}");
                    }
                    // A call that only reads has no outcome to be unknown.
                    ErrorKind::UnknownOutcome => {
                        assert!(matches!(context, Produce | Commit | Admin), "{at}");
                    }
                    ErrorKind::Retry | ErrorKind::RefreshAndRetry | ErrorKind::Fatal => {}
                }
            }
        }
    }

    #[test]
    fn the_walk_over_the_table_ends_with_the_last_code_of_the_protocol() {
        assert_eq!(produce_errors().count(), LAST_CODE as usize + 1);
        let known = |code: &i16| !matches!(code.err(), None | Some(ResponseError::Unknown(_)));
        let last = (i16::MIN..=i16::MAX).filter(known);
        assert_eq!(
            last.max(),
            Some(LAST_CODE),
            "a newer kafka-protocol knows more"
        );
    }

    #[test]
    fn what_may_have_been_appended_is_unknown() {
        for error in [
            ResponseError::RequestTimedOut,
            ResponseError::NotEnoughReplicasAfterAppend,
            ResponseError::UnknownServerError,
            ResponseError::KafkaStorageError,
            ResponseError::Unknown(1_000),
        ] {
            assert_eq!(kind(Produce, error), ErrorKind::UnknownOutcome, "{error:?}");
        }
        assert_eq!(
            kind(Produce, ResponseError::NotEnoughReplicas),
            ErrorKind::Retry
        );
    }

    #[test]
    fn a_moved_leader_asks_for_fresh_metadata() {
        for context in [Produce, Fetch, Lookup] {
            for error in [
                ResponseError::NotLeaderOrFollower,
                ResponseError::LeaderNotAvailable,
                ResponseError::UnknownTopicOrPartition,
            ] {
                assert_eq!(kind(context, error), ErrorKind::RefreshAndRetry);
            }
        }
    }

    #[test]
    fn data_that_is_refused_is_told_from_data_that_is_too_large() {
        assert_eq!(
            kind(Produce, ResponseError::MessageTooLarge),
            ErrorKind::TooLarge
        );
        assert_eq!(
            kind(Produce, ResponseError::RecordListTooLarge),
            ErrorKind::TooLarge
        );
        for error in [
            ResponseError::CorruptMessage,
            ResponseError::InvalidRecord,
            ResponseError::InvalidTimestamp,
        ] {
            assert_eq!(kind(Produce, error), ErrorKind::Poison);
        }
    }

    #[test]
    fn a_member_thrown_out_has_lost_a_fenced_one_ends_and_a_rebalancing_one_rejoins() {
        for context in [Group, Commit] {
            assert_eq!(
                kind(context, ResponseError::RebalanceInProgress),
                ErrorKind::Rejoin
            );
            for error in [
                ResponseError::UnknownMemberId,
                ResponseError::IllegalGeneration,
            ] {
                assert_eq!(kind(context, error), ErrorKind::Lost);
            }
            let fenced = kind(context, ResponseError::FencedInstanceId);
            assert_eq!(fenced, ErrorKind::Fenced);
        }
    }

    #[test]
    fn rights_and_names_are_fatal_everywhere() {
        for context in CONTEXTS {
            for error in [
                ResponseError::TopicAuthorizationFailed,
                ResponseError::SaslAuthenticationFailed,
                ResponseError::InvalidTopicException,
                ResponseError::UnsupportedVersion,
            ] {
                assert_eq!(kind(context, error), ErrorKind::Fatal);
            }
        }
    }
}
