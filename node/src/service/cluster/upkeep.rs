//! Rare changes for the whole cluster: the recovery key, the version of commands, the time of the log.

use bytes::Bytes;
use quorate_actors::keys::SealContext;
use quorate_proto_api::cluster::{ChangeResponse, RaiseVersionRequest, ResetTimeRequest, SetRecoveryKeyRequest};
use quorate_proto_identity::{AuthorityId, UnixMillis, UnixSeconds};
use quorate_raft_machine::{AuthorityKind, Done, Operation, Recipient, RecoveryKey, State};
use tonic::{Request, Response, Status};

use super::ClusterService;
use super::change::{changed, counted, instant};
use crate::service::reads::NOT_FOUNDED;
use crate::telemetry::SECURITY;

/// Sets the recovery key, or takes it away.
pub(super) async fn set_recovery_key(
    service: &ClusterService,
    request: Request<SetRecoveryKeyRequest>,
) -> Result<Response<ChangeResponse>, Status> {
    service.ready_to_change(&request).await?;
    let SetRecoveryKeyRequest { public_key, dry_run } = request.get_ref().clone();
    let public_key = (!public_key.is_empty()).then_some(public_key);
    if let Some(key) = &public_key {
        check_recovery_key(service, key)?;
    }
    let before = service.reads.applied().read(|state| state.recovery_key().map(|key| key.id.clone()));
    let id = public_key.clone().map(|key| RecoveryKey::new(key, UnixSeconds(0)).id);
    let mut sentences = Vec::new();
    if let Some(id) = &id {
        sentences.push(format!(
            "Every authority key is sealed to the recovery key {id} too, from now on and those there are."
        ));
    }
    if let Some(before) = before.filter(|before| Some(before) != id.as_ref()) {
        sentences.push(format!("What was sealed to the recovery key {before} is erased."));
    }
    if sentences.is_empty() {
        sentences.push("There was no recovery key, and there is none.".to_owned());
    }
    let warnings = match id {
        Some(_) => vec![
            "Whoever has its private half and a copy of the state can sign as this authority: keep them apart."
                .to_owned(),
        ],
        None => Vec::new(),
    };
    if dry_run {
        return Ok(changed(sentences, warnings, None));
    }
    let (_done, log_index) = service.change(&request, Operation::SetRecoveryKey { public_key }).await?;
    Ok(changed(sentences, warnings, Some(log_index)))
}

/// Tries whether the node's own custody can seal to a key: one that it cannot would stop every rotation.
fn check_recovery_key(service: &ClusterService, public_key: &Bytes) -> Result<(), Status> {
    let cluster = service.consensus().cluster().ok_or_else(|| Status::unavailable(NOT_FOUNDED))?;
    let id = RecoveryKey::new(public_key.clone(), UnixSeconds(0)).id;
    let authority = AuthorityId::new(&id).map_err(|error| Status::internal(error.to_string()))?;
    let context = SealContext::of_authority(cluster, AuthorityKind::X509, authority, Recipient::RecoveryKey(id));
    let sealed = service.node.custody().seal(&context, b"a trial", public_key);
    sealed.map(drop).map_err(|error| {
        Status::invalid_argument(format!("public_key: {error}; `quorate recovery-key new` makes one that is"))
    })
}

/// Switches a version of commands on.
pub(super) async fn raise_version(
    service: &ClusterService,
    request: Request<RaiseVersionRequest>,
) -> Result<Response<ChangeResponse>, Status> {
    service.ready_to_change(&request).await?;
    let RaiseVersionRequest { version, dry_run } = *request.get_ref();
    let (now, most, oldest) =
        service.reads.applied().read(|state| (state.version(), common_version(state), oldest(state)));
    let version = if version == 0 { most } else { version };
    if version < now {
        return Err(Status::failed_precondition(format!(
            "version {now} is switched on, and cannot be taken back to {version}"
        )));
    }
    if version > most {
        return Err(Status::failed_precondition(format!(
            "version {version} cannot be switched on: {oldest} can do version {most}. Upgrade it first, or remove it"
        )));
    }
    if version == now {
        let sentence = format!("Version {now} is switched on, the highest that every member can do.");
        return Ok(changed(vec![sentence], Vec::new(), None));
    }
    if dry_run {
        let sentence = format!("Version {version} of commands would be switched on, from version {now}.");
        return Ok(changed(vec![sentence], Vec::new(), None));
    }
    let (_done, log_index) = service.change(&request, Operation::RaiseVersion { version }).await?;
    Ok(changed(
        vec![format!("Version {version} of commands is switched on for all members.")],
        Vec::new(),
        Some(log_index),
    ))
}

/// The highest version that every member can do.
fn common_version(state: &State) -> u32 {
    let admitted = state.members().filter(|member| member.record.status.is_admitted());
    admitted.map(|member| member.record.version).min().unwrap_or_else(|| state.version())
}

/// Which members hold the others back.
fn oldest(state: &State) -> String {
    let most = common_version(state);
    let held: Vec<&str> = state
        .members()
        .filter(|member| member.record.status.is_admitted() && member.record.version == most)
        .map(|member| member.record.name.as_str())
        .collect();
    match held.as_slice() {
        [one] => (*one).to_owned(),
        [first, ..] => format!("{first}, one of {},", counted(held.len(), "member")),
        [] => "nobody".to_owned(),
    }
}

/// Sets the time of the log.
pub(super) async fn reset_time(
    service: &ClusterService,
    request: Request<ResetTimeRequest>,
) -> Result<Response<ChangeResponse>, Status> {
    service.ready_to_change(&request).await?;
    let ResetTimeRequest { time, dry_run } = *request.get_ref();
    let clock = service.node.sources().now();
    let time = match time {
        0 => clock,
        seconds if seconds > 0 => UnixMillis(seconds.saturating_mul(1_000)),
        _ => return Err(Status::invalid_argument("time: negative")),
    };
    let before = service.reads.applied().read(|state| state.counters().time);
    let warnings = vec![format!(
        "The clock of this node says {}. A leader whose clock is ahead of the time sets it forward again with its next \
         command.",
        instant(clock.seconds())
    )];
    if dry_run {
        let sentence = format!(
            "The time of the log would be set from {} to {}.",
            instant(before.seconds()),
            instant(time.seconds())
        );
        return Ok(changed(vec![sentence], warnings, None));
    }
    let (done, log_index) = service.change(&request, Operation::ResetTime { time }).await?;
    let (before, after) = if let Done::TimeReset { before, after } = done { (before, after) } else { (before, time) };
    tracing::warn!(target: SECURITY, log_index, before = before.0, after = after.0, "the time of the log was set");
    let sentence =
        format!("The time of the log was set from {} to {}.", instant(before.seconds()), instant(after.seconds()));
    Ok(changed(vec![sentence], warnings, Some(log_index)))
}
