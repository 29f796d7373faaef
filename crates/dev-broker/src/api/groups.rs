//! The calls of a group's life: FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and
//! the tools' DescribeGroups, ListGroups, DeleteGroups. What they mean is in [`crate::group`].

use std::time::Duration;

use kafka_protocol::{
    messages::{
        DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
        FindCoordinatorRequest, FindCoordinatorResponse, GroupId, HeartbeatRequest,
        HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, SyncGroupRequest,
        SyncGroupResponse,
        delete_groups_response::DeletableGroupResult,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
        find_coordinator_response::Coordinator,
        join_group_response::JoinGroupResponseMember,
        leave_group_response::MemberResponse,
        list_groups_response::ListedGroup,
    },
    protocol::StrBytes,
};

use super::{Context, text};
use crate::{
    coordinator::Entry,
    error_code as code,
    group::{Join, Joined, Sync, Who},
};

const GROUP_KEY: i8 = 0;

pub(crate) fn find_coordinator(
    context: &Context<'_>,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let answer = FindCoordinatorResponse::default();
    if context.version < 4 {
        let found = coordinator(context, &request.key, request.key_type);
        return answer
            .with_error_code(found.error_code)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port);
    }
    let keys = request.coordinator_keys.iter();
    let each = keys.map(|key| coordinator(context, key, request.key_type));
    answer.with_coordinators(each.collect())
}

pub(crate) async fn join(context: &Context<'_>, request: JoinGroupRequest) -> JoinGroupResponse {
    let joined = join_checked(context, &request).await;
    let members = joined.members.into_iter().map(|(id, instance, metadata)| {
        let instance = instance.filter(|_| context.version >= 5);
        JoinGroupResponseMember::default()
            .with_member_id(text(&id))
            .with_group_instance_id(instance.as_deref().map(text))
            .with_metadata(metadata)
    });
    let mut answer = JoinGroupResponse::default()
        .with_error_code(joined.error)
        .with_generation_id(joined.generation)
        .with_leader(text(&joined.leader))
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect());
    let ok = joined.error == code::NONE;
    // null was allowed from version 7 on
    answer.protocol_name = (ok || context.version < 7).then(|| text(&joined.protocol));
    answer.protocol_type = (ok && context.version >= 7).then(|| text(&joined.protocol_type));
    answer.skip_assignment = joined.skip_assignment && context.version >= 9;
    answer
}

pub(crate) async fn sync(context: &Context<'_>, request: SyncGroupRequest) -> SyncGroupResponse {
    if let Err(error) = check_group(context, &request.group_id) {
        return SyncGroupResponse::default().with_error_code(error);
    }
    let who = Who {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let assignments = request.assignments.iter();
    let sync = Sync {
        token: 0,
        protocol_type: request.protocol_type.as_ref().map(StrBytes::to_string),
        protocol: request.protocol_name.as_ref().map(StrBytes::to_string),
        assignments: assignments
            .map(|a| (a.member_id.to_string(), a.assignment.clone()))
            .collect(),
    };
    let synced = context
        .shared
        .coordinator
        .sync(&request.group_id, who, sync)
        .await;
    let answer = SyncGroupResponse::default()
        .with_error_code(synced.error)
        .with_assignment(synced.assignment);
    if context.version >= 5 && synced.error == code::NONE {
        return answer
            .with_protocol_type(Some(text(&synced.protocol_type)))
            .with_protocol_name(Some(text(&synced.protocol)));
    }
    answer
}

pub(crate) fn heartbeat(context: &Context<'_>, request: HeartbeatRequest) -> HeartbeatResponse {
    let who = Who {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let error = match check_group(context, &request.group_id) {
        Ok(()) => context.shared.coordinator.heartbeat(&request.group_id, who),
        Err(error) => error,
    };
    HeartbeatResponse::default().with_error_code(error)
}

pub(crate) fn leave(context: &Context<'_>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let answer = LeaveGroupResponse::default();
    if let Err(error) = check_group(context, &request.group_id) {
        return answer.with_error_code(error);
    }
    let coordinator = &context.shared.coordinator;
    let group = &request.group_id;
    if context.version < 3 {
        return answer.with_error_code(coordinator.leave(group, &request.member_id, None));
    }
    let members = request.members.iter().map(|member| {
        let instance = member.group_instance_id.as_deref();
        MemberResponse::default()
            .with_error_code(coordinator.leave(group, &member.member_id, instance))
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
    });
    answer.with_members(members.collect())
}

pub(crate) fn describe(
    context: &Context<'_>,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| {
        let answer = DescribedGroup::default().with_group_id(id.clone());
        if let Err(error) = check_group(context, &id) {
            return answer.with_error_code(error);
        }
        context.shared.coordinator.with(&id, |entry| match entry {
            Some(entry) => described(context, entry, answer),
            None if context.version >= 6 => answer
                .with_error_code(code::GROUP_ID_NOT_FOUND)
                .with_error_message(Some(text(&format!("group {} not found", id.as_str()))))
                .with_group_state(text("Dead")),
            None => answer.with_group_state(text("Dead")),
        })
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

pub(crate) fn list(context: &Context<'_>, request: ListGroupsRequest) -> ListGroupsResponse {
    if context.shared.cluster.coordinator() != context.node {
        // every node is asked, and tells of the groups that it coordinates
        return ListGroupsResponse::default();
    }
    let wanted = |filter: &[StrBytes], is: &str| {
        filter.is_empty() || filter.iter().any(|f| f.as_str().eq_ignore_ascii_case(is))
    };
    let groups = context.shared.coordinator.each(|(id, entry)| {
        let state = entry.group.state_name();
        let mut listed = ListedGroup::default()
            .with_group_id(GroupId(text(id)))
            .with_protocol_type(text(entry.group.protocol_type()));
        if context.version >= 4 {
            listed.group_state = text(state);
        }
        if context.version >= 5 {
            listed.group_type = text("classic");
        }
        let fits =
            wanted(&request.states_filter, state) && wanted(&request.types_filter, "classic");
        fits.then_some(listed)
    });
    ListGroupsResponse::default().with_groups(groups.into_iter().flatten().collect())
}

pub(crate) fn delete(context: &Context<'_>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|id| {
        let error = match check_group(context, &id) {
            Ok(()) => {
                let store = context.shared.cluster.store();
                context.shared.coordinator.delete(store, &id)
            }
            Err(error) => error,
        };
        DeletableGroupResult::default()
            .with_group_id(id)
            .with_error_code(error)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}

/// Whether this node coordinates the group.
pub(crate) fn check_group(context: &Context<'_>, group: &str) -> Result<(), i16> {
    if group.is_empty() {
        return Err(code::INVALID_GROUP_ID);
    }
    if context.shared.cluster.coordinator() != context.node {
        return Err(code::NOT_COORDINATOR);
    }
    Ok(())
}

fn coordinator(context: &Context<'_>, key: &StrBytes, key_type: i8) -> Coordinator {
    let cluster = &context.shared.cluster;
    let node = cluster
        .node(cluster.coordinator())
        .filter(|node| node.is_up());
    let answer = Coordinator::default().with_key(key.clone());
    match node {
        Some(node) if key_type == GROUP_KEY => answer
            .with_node_id(node.id.into())
            .with_host(text(&node.addr.ip().to_string()))
            .with_port(node.addr.port().into()),
        // nobody coordinates transactions or share groups here
        _ => answer
            .with_node_id((-1).into())
            .with_port(-1)
            .with_error_code(code::COORDINATOR_NOT_AVAILABLE),
    }
}

async fn join_checked(context: &Context<'_>, request: &JoinGroupRequest) -> Joined {
    let options = &context.shared.options;
    let session_timeout = millis(request.session_timeout_ms);
    let allowed = options.session_timeout_min..=options.session_timeout_max;
    let checked = check_group(context, &request.group_id).and_then(|()| {
        let fits = request.session_timeout_ms >= 0 && allowed.contains(&session_timeout);
        if fits {
            Ok(())
        } else {
            Err(code::INVALID_SESSION_TIMEOUT)
        }
    });
    if let Err(error) = checked {
        return Joined {
            error,
            generation: -1,
            member_id: request.member_id.to_string(),
            ..Joined::default()
        };
    }
    // before version 1 one timeout served both ends
    let rebalance_timeout = match request.rebalance_timeout_ms {
        ms if ms > 0 => millis(ms),
        _ => session_timeout,
    };
    let prefix = request
        .group_instance_id
        .as_deref()
        .unwrap_or(context.client_id);
    let protocols = request.protocols.iter();
    let join = Join {
        token: 0,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(StrBytes::to_string),
        client_id: context.client_id.to_owned(),
        client_host: format!("/{}", context.host),
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols
            .map(|p| (p.name.to_string(), p.metadata.clone()))
            .collect(),
        id_required: context.version >= 4,
        can_skip_assignment: context.version >= 9,
        fresh_id: format!("{prefix}-{:032x}", fastrand::u128(..)),
    };
    context
        .shared
        .coordinator
        .join(&request.group_id, join)
        .await
}

fn described(context: &Context<'_>, entry: &Entry, answer: DescribedGroup) -> DescribedGroup {
    let group = &entry.group;
    let members = group.members().map(|(id, member)| {
        let described = DescribedGroupMember::default()
            .with_member_id(text(id))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(group.metadata_of(member))
            .with_member_assignment(member.assignment.clone());
        let instance = member
            .instance_id
            .as_deref()
            .filter(|_| context.version >= 4);
        described.with_group_instance_id(instance.map(text))
    });
    answer
        .with_group_state(text(group.state_name()))
        .with_protocol_type(text(group.protocol_type()))
        .with_protocol_data(text(group.protocol()))
        .with_members(members.collect())
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}
