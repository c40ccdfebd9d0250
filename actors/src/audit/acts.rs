//! Operations of the log as records: who asked for what, and what came of it. A pure function of what every node applies,
//! so that every node has the same records.
//!
//! Nothing secret gets in: no key, sealed or not, no hash of an invitation's secret, no certificate, and no selector, of
//! which some hold passwords (ATK-44). Words of refusals stay out as well: members of mixed versions word them differently.

use std::borrow::Cow;

use quorate_proto_identity::TrustDomain;
use quorate_raft_consensus::AppliedCommand;
use quorate_raft_machine::{
    Caller, CallerIdentity, Command, Done, Endpoint, MemberServices, NewForeignBundle, Operation, OperationResult,
    Policy, RefusalCode, RelationshipOrigin, SetHow,
    access::{AccessRule, MutualTls},
    authority::AuthorityKind,
    entry::EntryChange,
    revocation::{NewRevocation, RevocationTarget},
};

use super::record::{Kind, Record};

/// The records of one log entry, in order. A command that was a repeat has none: it did nothing, and the first one has its
/// own. Neither has an anchor of a trail: a record of it would have to be anchored again.
pub(crate) fn records(log_index: u64, commands: &[AppliedCommand]) -> Vec<Record> {
    let mut records = Vec::new();
    for (place, applied) in commands.iter().enumerate().filter(|(_, applied)| !applied.is_repeat) {
        let AppliedCommand { command, outcome, is_repeat: _ } = applied;
        for (number, (operation, result)) in command.operations.iter().zip(&outcome.results).enumerate() {
            if matches!(operation, Operation::AnchorAudit { .. }) {
                continue;
            }
            let mut record = act(command, operation, result);
            record.index = Some(log_index);
            // Both are bounded far below: 512 commands a batch, 1,000 operations a command.
            record.command = u32::try_from(place).ok();
            record.operation = u32::try_from(number).ok();
            records.push(record);
        }
    }
    records
}

/// Who asked, as records have it.
pub(crate) fn who(identity: &CallerIdentity, member: u64) -> String {
    match identity {
        CallerIdentity::Node => format!("node:{member}"),
        CallerIdentity::Unix { uid, gid, pid } => format!("unix:uid={uid},gid={gid},pid={pid}"),
        CallerIdentity::Spiffe(id) => id.to_string(),
    }
}

fn act(command: &Command, operation: &Operation, result: &OperationResult) -> Record {
    let Command { origin, caller: Caller { identity, address }, time, .. } = command;
    let mut record = Record::new(*time, Kind::Administrative, name(operation));
    record.who = Some(who(identity, origin.node));
    record.member = Some(origin.node);
    record.from = Some(address.clone()).filter(|address| !address.is_empty());
    record = wanted(record, operation);
    match result {
        Ok(done) => came_about(record, done),
        Err(refusal) => {
            record.outcome = Some(Cow::Borrowed(refused(refusal.code)));
            record
        }
    }
}

/// What operators call an operation. Names are a promise to whoever searches for them.
pub(crate) const fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Found(_) => "authority.found",
        Operation::CreateEntry(_) => "entry.create",
        Operation::UpdateEntry { .. } => "entry.update",
        Operation::DeleteEntry { .. } => "entry.delete",
        Operation::PruneExpiredEntries => "entry.prune",
        Operation::SetPolicy { .. } => "policy.set",
        Operation::PrepareX509Authority(_) => "x509_authority.prepare",
        Operation::ActivateX509Authority { .. } => "x509_authority.activate",
        Operation::TaintX509Authority { .. } => "x509_authority.taint",
        Operation::RevokeX509Authority { .. } => "x509_authority.revoke",
        Operation::SealX509Authority { .. } => "x509_authority.seal",
        Operation::PrepareJwtAuthority(_) => "jwt_authority.prepare",
        Operation::ActivateJwtAuthority { .. } => "jwt_authority.activate",
        Operation::TaintJwtAuthority { .. } => "jwt_authority.taint",
        Operation::RevokeJwtAuthority { .. } => "jwt_authority.revoke",
        Operation::SealJwtAuthority { .. } => "jwt_authority.seal",
        Operation::MarkAuthority { kind: AuthorityKind::X509, .. } => "x509_authority.replace",
        Operation::MarkAuthority { kind: AuthorityKind::Jwt, .. } => "jwt_authority.replace",
        Operation::MarkPublished { kind: AuthorityKind::X509, .. } => "x509_authority.publish",
        Operation::MarkPublished { kind: AuthorityKind::Jwt, .. } => "jwt_authority.publish",
        Operation::PruneAuthorities => "authority.prune",
        Operation::RecordIssuingCertificate(_) => "issuing_certificate.record",
        Operation::RevokeIssuingCertificate { .. } => "issuing_certificate.revoke",
        Operation::ActivateIssuingKey { .. } => "issuing_key.activate",
        Operation::RevokeIssuingKeys { .. } => "issuing_key.revoke",
        Operation::RecordCrl(_) => "crl.record",
        Operation::Revoke(_) => "revocation.create",
        Operation::RemoveRevocation { .. } => "revocation.remove",
        Operation::PruneRevocations => "revocation.prune",
        Operation::SetMember { .. } => "member.set",
        Operation::AdmitMember(_) => "member.admit",
        Operation::AnnounceMember { .. } => "member.announce",
        Operation::SetMemberRole { .. } => "member.role",
        Operation::RemoveMember { .. } => "member.remove",
        Operation::CompleteRemoval { .. } => "member.gone",
        Operation::StripSeals { .. } => "member.strip_seals",
        Operation::CreateInvitation(_) => "invitation.create",
        Operation::DeleteInvitation { .. } => "invitation.delete",
        Operation::SetRecoveryKey { .. } => "recovery_key.set",
        Operation::SetPlan(_) => "plan.set",
        Operation::RaiseEpoch => "cluster.raise_epoch",
        Operation::RaiseVersion { .. } => "cluster.raise_version",
        Operation::ResetTime { .. } => "cluster.reset_time",
        Operation::AnchorAudit { .. } => "audit.anchor",
        Operation::Restore(_) => "cluster.restore",
        Operation::CreateRelationship(_) => "relationship.create",
        Operation::UpdateRelationship { .. } => "relationship.update",
        Operation::DeleteRelationship { .. } => "relationship.delete",
        Operation::SetForeignBundle(_) => "foreign_bundle.set",
        Operation::DeleteForeignBundle { .. } => "foreign_bundle.delete",
        Operation::PutSecret { .. } => "secret.put",
        Operation::DeleteSecret { .. } => "secret.delete",
        Operation::SealSecret { .. } => "secret.seal",
        Operation::SetAcme { .. } => "acme.set",
        Operation::RequestWebCertificate { .. } => "web_certificate.request",
        Operation::BeginWebOrder { .. } => "web_order.begin",
        Operation::SetWebChallenge { .. } => "web_order.challenge",
        Operation::RecordWebCertificate(_) => "web_certificate.record",
        Operation::FailWebOrder { .. } => "web_order.fail",
        Operation::SetOidc { .. } => "oidc.set",
        Operation::CreateApiKey(_) => "api_key.create",
        Operation::RotateApiKey(_) => "api_key.rotate",
        Operation::DeleteApiKey { .. } => "api_key.delete",
        Operation::SetAccessRule { .. } => "access.set",
        Operation::SetAccessSettings { .. } => "access.settings",
    }
}

/// What was asked for.
fn wanted(mut record: Record, operation: &Operation) -> Record {
    match operation {
        Operation::Found(found) => record
            .with("cluster", found.cluster_id)
            .with("trust_domain", &found.trust_domain)
            .with("name", &found.member.name),
        Operation::CreateEntry(draft) => {
            record.spiffe_id = Some(draft.spiffe_id.to_string());
            record.entry_id = Some(draft.id.to_string());
            let flags = [("admin", draft.admin), ("downstream", draft.downstream)];
            let record = record.with("parent_id", &draft.parent_id).with("selectors", draft.selectors.len());
            flags.into_iter().filter(|(_, is_set)| *is_set).fold(record, |record, (flag, _)| record.with(flag, true))
        }
        Operation::UpdateEntry { id, change } => {
            record.spiffe_id = change.spiffe_id.as_ref().map(ToString::to_string);
            record.entry_id = Some(id.to_string());
            let record = record.with("fields", fields(change));
            let flags = [("admin", change.admin), ("downstream", change.downstream)];
            flags.into_iter().fold(record, |record, (flag, value)| match value {
                Some(value) => record.with(flag, value),
                None => record,
            })
        }
        Operation::DeleteEntry { id, revoke } => {
            record.entry_id = Some(id.to_string());
            match revoke {
                Some(reason) => record.with("revoke", reason),
                None => record,
            }
        }
        Operation::SetPolicy { policy, expected_revision: _ } => policy_of(record, policy),
        Operation::ActivateX509Authority { id, issuing_certificates } => {
            record.with("authority", id).with("issuing_certificates", issuing_certificates.len())
        }
        Operation::ActivateJwtAuthority { id }
        | Operation::TaintX509Authority { id }
        | Operation::TaintJwtAuthority { id }
        | Operation::RevokeX509Authority { id }
        | Operation::RevokeJwtAuthority { id } => record.with("authority", id),
        Operation::SealX509Authority { id, parts } | Operation::SealJwtAuthority { id, parts } => {
            record.with("authority", id).with("recipients", parts.len())
        }
        Operation::MarkAuthority { kind: _, id, compromised } => {
            record.with("authority", id).with("compromised", compromised)
        }
        Operation::MarkPublished { kind: _, id, confirmed } => {
            record.with("authority", id).with("confirmed", confirmed)
        }
        Operation::RecordIssuingCertificate(new) => record.with("member", new.member),
        Operation::RevokeIssuingCertificate { member, serial } => {
            record.serial = serial.map(|serial| serial.to_string());
            record.with("member", member)
        }
        Operation::ActivateIssuingKey { key } => record.with("issuing_key", key),
        Operation::RevokeIssuingKeys { keys, reason, root_crls: _ } => {
            let keys: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
            record.with("issuing_keys", keys.join(" ")).with("reason", reason)
        }
        Operation::RecordCrl(new) => {
            record.with("issuer", &new.issuer).with("covers", new.covers).with("revoked", new.revoked.len())
        }
        Operation::Revoke(new) => revocation(record, new),
        Operation::RemoveRevocation { number } => record.with("revocation", number),
        Operation::SetMember { number, member } => {
            let record = record.with("name", &member.name).with("role", member.role.name());
            match number {
                Some(number) => record.with("number", number),
                None => record,
            }
        }
        Operation::AdmitMember(admission) => record.with("name", &admission.name).with("build", &admission.build),
        Operation::AnnounceMember { number, addresses, version, build, serves } => services(record, serves)
            .with("number", number)
            .with("addresses", addresses.join(" "))
            .with("version", version)
            .with("build", build),
        Operation::SetMemberRole { number, role, pinned } => {
            record.with("number", number).with("role", role.name()).with("pinned", pinned)
        }
        Operation::RemoveMember { number, compromised } => {
            record.with("number", number).with("compromised", compromised)
        }
        Operation::CompleteRemoval { number } | Operation::StripSeals { number } => record.with("number", number),
        Operation::CreateInvitation(new) => {
            let record = record.with("name", &new.name).with("expires_at", new.expires_at);
            match new.role {
                Some(role) => record.with("role", role.name()),
                None => record,
            }
        }
        Operation::DeleteInvitation { name } => record.with("name", name),
        Operation::SetRecoveryKey { public_key } => record.with("set", public_key.is_some()),
        Operation::SetPlan(plan) => record
            .with("voters", plan.voters)
            .with("dead_voter_grace", plan.dead_voter_grace)
            .with("automatic", plan.automatic),
        Operation::RaiseVersion { version } => record.with("version", version),
        Operation::Restore(restore) => {
            record.with("cluster", restore.cluster_id).with("name", &restore.member.name).with("number", restore.number)
        }
        Operation::CreateRelationship(new) => {
            let record = endpoint(record.with("trust_domain", &new.trust_domain), &new.endpoint);
            record.with("configured_by", made_by(&new.origin)).with("with_bundle", new.bundle.is_some())
        }
        Operation::UpdateRelationship { trust_domain, change, expected_revision: _ } => {
            let record = record.with("trust_domain", trust_domain);
            match &change.endpoint {
                Some(changed) => endpoint(record, changed),
                None => record,
            }
            .with("pins", change.pins.is_some())
            .with("poll", change.poll.is_some())
        }
        Operation::DeleteRelationship { trust_domain } => record.with("trust_domain", trust_domain),
        Operation::SetForeignBundle(new) => foreign_bundle(record, new),
        Operation::DeleteForeignBundle { trust_domain, mode } => {
            record.with("trust_domain", trust_domain).with("mode", mode.name())
        }
        Operation::PutSecret { name, sealed } => record.with("secret", name).with("recipients", sealed.parts.len()),
        Operation::DeleteSecret { name } => record.with("secret", name),
        Operation::SealSecret { name, revision: _, parts } => {
            record.with("secret", name).with("recipients", parts.len())
        }
        Operation::SetAcme { settings: Some(settings), expected_revision: _ } => record
            .with("directory", &settings.directory)
            .with("domains", settings.domains.join(" "))
            .with("challenge", settings.challenge.name()),
        Operation::SetOidc { settings: Some(settings), expected_revision: _ } => record
            .with("issuer", &settings.issuer)
            .with("also", settings.also.join(" "))
            .with("domains", settings.domains.join(" "))
            .with("jwks_cache_time", settings.jwks_cache_time)
            .with("issuer_overlap", settings.issuer_overlap),
        Operation::SetAcme { settings: None, .. } | Operation::SetOidc { settings: None, .. } => {
            record.with("set", false)
        }
        Operation::BeginWebOrder { domain, url, directory, key: _ } => {
            record.with("domain", domain).with("order", url).with("directory", directory)
        }
        Operation::SetWebChallenge { domain, order, challenge } => {
            record.with("domain", domain).with("order", order).with("challenge", challenge.kind.name())
        }
        Operation::RecordWebCertificate(new) => record
            .with("domain", &new.domain)
            .with("order", &new.order)
            .with("not_after", super::record::timestamp(new.validity.not_after().millis())),
        Operation::RequestWebCertificate { domain } | Operation::FailWebOrder { domain, .. } => {
            record.with("domain", domain)
        }
        Operation::CreateApiKey(new) => {
            let scopes: Vec<&str> = new.scopes.iter().map(|scope| scope.name()).collect();
            record
                .with("api_key", &new.id)
                .with("trust_domain", &new.peer)
                .with("scopes", scopes.join(" "))
                .with("expires_at", new.secret.expires_at)
        }
        Operation::RotateApiKey(rotation) => record
            .with("api_key", &rotation.id)
            .with("expires_at", rotation.secret.expires_at)
            .with("overlap", rotation.overlap),
        Operation::DeleteApiKey { id } => record.with("api_key", id),
        Operation::SetAccessRule { peer, rule, expected_revision: _ } => {
            access_rule(record, peer.as_ref(), rule.as_deref())
        }
        Operation::SetAccessSettings { anonymous_endpoint } => record.with("anonymous_endpoint", anonymous_endpoint),
        Operation::ResetTime { time } => record.with("to", super::record::timestamp(*time)),
        Operation::PrepareX509Authority(_)
        | Operation::PrepareJwtAuthority(_)
        | Operation::PruneExpiredEntries
        | Operation::PruneAuthorities
        | Operation::PruneRevocations
        | Operation::RaiseEpoch
        | Operation::AnchorAudit { .. } => record,
    }
}

/// What came of it, where that says more than what was asked for.
fn came_about(mut record: Record, done: &Done) -> Record {
    record.outcome = Some(Cow::Borrowed("done"));
    match done {
        Done::EntryExists { id } => {
            record.outcome = Some(Cow::Borrowed("unchanged"));
            record.with("existing", id)
        }
        Done::EntryUpdated { id: _, revision_number } => record.with("revision", revision_number),
        Done::EntryDeleted { id: _, revocation: Some(number) } => record.with("revocation", number),
        Done::EntriesPruned { count, more: _ } => record.with("pruned", count),
        Done::PolicySet { revision } => record.with("revision", revision),
        Done::AuthorityMoved { kind: _, id, state } => record.with("authority", id).with("state", state.name()),
        Done::AuthoritiesPruned { x509, jwt, issuing } => {
            record.with("x509", x509).with("jwt", jwt).with("issuing", issuing)
        }
        Done::IssuingCertificateRecorded { member: _, key_id, serial } => {
            record.serial = Some(serial.to_string());
            record.with("issuing_key", key_id)
        }
        Done::IssuingCertificatesRevoked { member: _, count } => record.with("revoked", count),
        Done::MemberSet { number } | Done::MemberAdmitted { number } => record.with("number", number),
        Done::MemberLeaving { number: _, revoked } => record.with("revoked", revoked),
        Done::AuthoritySealed { added, .. } => record.with("added", added),
        Done::SealsStripped { number: _, count } => record.with("stripped", count),
        Done::RecoveryKeySet { id: Some(id) } => record.with("recovery_key", id),
        Done::EpochRaised { epoch } => record.with("epoch", epoch),
        Done::TimeReset { before, after: _ } => record.with("before", super::record::timestamp(*before)),
        Done::Restored { member: _, sequence, revoked } => record.with("sequence", sequence).with("revoked", revoked),
        Done::Revoked { number } => record.with("revocation", number),
        Done::RelationshipSet { trust_domain: _, revision } => record.with("revision", revision),
        Done::RelationshipDeleted { trust_domain: _, bundle } => record.with("bundle_withdrawn", bundle),
        Done::ForeignBundleSet { trust_domain: _, version, changed } => {
            if !changed {
                record.outcome = Some(Cow::Borrowed("unchanged"));
            }
            record.with("version", version)
        }
        Done::ForeignBundleDeleted { trust_domain: _, entries, more } => {
            record.with("entries", entries).with("more", more)
        }
        Done::SecretPut { name: _, revision } | Done::AcmeSet { revision } | Done::OidcSet { revision } => {
            record.with("revision", revision)
        }
        Done::SecretSealed { name: _, added } => record.with("added", added),
        Done::AccessSet { revision } => record.with("revision", revision),
        Done::IssuingKeysRevoked { certificates } => record.with("certificates", certificates),
        Done::RevocationsPruned { revocations, leaves, more: _ } => {
            record.with("revocations", revocations).with("leaves", leaves)
        }
        Done::Founded { .. }
        | Done::EntryCreated { .. }
        | Done::EntryDeleted { id: _, revocation: None }
        | Done::InvitationCreated { .. }
        | Done::InvitationDeleted { .. }
        | Done::MemberGone { .. }
        | Done::RecoveryKeySet { id: None }
        | Done::PlanSet
        | Done::VersionRaised { .. }
        | Done::RevocationRemoved { .. }
        | Done::CrlRecorded { .. }
        | Done::IssuingKeyActivated { .. }
        | Done::AuthorityMarked { .. }
        | Done::AuthorityPublished { .. }
        | Done::SecretDeleted { .. }
        | Done::WebDomainChanged { .. }
        | Done::ApiKeySet { .. }
        | Done::ApiKeyDeleted { .. }
        | Done::AuditAnchored { .. } => record,
    }
}

const fn refused(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::NotFounded => "refused:not_founded",
        RefusalCode::AlreadyFounded => "refused:already_founded",
        RefusalCode::NotFound => "refused:not_found",
        RefusalCode::AlreadyExists => "refused:already_exists",
        RefusalCode::Invalid => "refused:invalid",
        RefusalCode::WrongState => "refused:wrong_state",
        RefusalCode::Conflict => "refused:conflict",
        RefusalCode::LimitReached => "refused:limit_reached",
        RefusalCode::OutcomeForgotten => "refused:outcome_forgotten",
    }
}

/// The names of the fields that a change of an entry gives, as SPIRE's API has them.
fn fields(change: &EntryChange) -> String {
    let EntryChange {
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl,
        jwt_svid_ttl,
        federates_with,
        admin,
        downstream,
        expires_at,
        dns_names,
        store_svid,
        hint,
        additional_attributes,
        crl_per_domain,
    } = change;
    let given = [
        ("spiffe_id", spiffe_id.is_some()),
        ("parent_id", parent_id.is_some()),
        ("selectors", selectors.is_some()),
        ("x509_svid_ttl", x509_svid_ttl.is_some()),
        ("jwt_svid_ttl", jwt_svid_ttl.is_some()),
        ("federates_with", federates_with.is_some()),
        ("admin", admin.is_some()),
        ("downstream", downstream.is_some()),
        ("expires_at", expires_at.is_some()),
        ("dns_names", dns_names.is_some()),
        ("store_svid", store_svid.is_some()),
        ("hint", hint.is_some()),
        ("additional_attributes", additional_attributes.is_some()),
        ("crl_per_domain", crl_per_domain.is_some()),
    ];
    let names: Vec<&str> = given.into_iter().filter_map(|(name, is_given)| is_given.then_some(name)).collect();
    names.join(" ")
}

/// What a member says that it serves.
fn services(record: Record, serves: &MemberServices) -> Record {
    let MemberServices { bundle_endpoint, federation_api, oidc } = serves;
    let said = [("bundle_endpoint", bundle_endpoint), ("federation_api", federation_api), ("oidc", oidc)];
    said.into_iter().fold(record, |record, (name, url)| match url {
        Some(url) => record.with(name, url),
        None => record,
    })
}

/// From where a bundle is fetched, and as whom. Whoever points a relationship elsewhere is to be found.
fn endpoint(record: Record, endpoint: &Endpoint) -> Record {
    let record = record.with("profile", endpoint.profile()).with("url", endpoint.url());
    let record = match endpoint.server_spiffe_id() {
        Some(id) => record.with("server", id),
        None => record,
    };
    match endpoint {
        Endpoint::Api { credential, watch, .. } => record.with("credential", credential.name()).with("watch", watch),
        Endpoint::Web { .. } | Endpoint::Spiffe { .. } => record,
    }
}

fn made_by(origin: &RelationshipOrigin) -> String {
    match origin {
        RelationshipOrigin::Operator => "operator".to_owned(),
        RelationshipOrigin::Configuration { node } => format!("node {node}"),
    }
}

/// A foreign bundle: whose, which, and how many authorities (FED-53).
fn foreign_bundle(record: Record, new: &NewForeignBundle) -> Record {
    let NewForeignBundle { bundle, how } = new;
    let record = record
        .with("trust_domain", bundle.trust_domain())
        .with("x509_authorities", bundle.x509_authorities().len())
        .with("jwt_authorities", bundle.jwt_authorities().len());
    let record = match bundle.sequence() {
        Some(sequence) => record.with("sequence", sequence),
        None => record,
    };
    match how {
        SetHow::Fetched { relationship_revision, accept_older } => {
            record.with("relationship_revision", relationship_revision).with("accept_older", accept_older)
        }
        SetHow::Create => record.with("how", "create"),
        SetHow::Update(fields) => {
            record.with("how", "update").with("fields", fields.names().collect::<Vec<_>>().join(" "))
        }
        SetHow::Set => record.with("how", "set"),
    }
}

/// An access rule: who loosens one is to be found.
fn access_rule(record: Record, peer: Option<&TrustDomain>, rule: Option<&AccessRule>) -> Record {
    let record = record.with("peer", peer.map_or("everybody", TrustDomain::as_str));
    let Some(AccessRule { mutual_tls, api_keys, oauth, anonymous }) = rule else { return record.with("removed", true) };
    let ids = match mutual_tls {
        MutualTls::Off => "off".to_owned(),
        MutualTls::AnyId => "any".to_owned(),
        MutualTls::Ids(ids) => ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    let issuers: Vec<&str> = oauth.iter().map(|rule| rule.issuer.as_str()).collect();
    record
        .with("mutual_tls", ids)
        .with("api_keys", api_keys)
        .with("oauth", issuers.join(" "))
        .with("anonymous", anonymous)
}

/// A policy, every value of it: who loosens one is to be found.
fn policy_of(record: Record, policy: &Policy) -> Record {
    let Policy {
        root_lifetime,
        issuing_lifetime,
        x509_svid_lifetime,
        jwt_key_lifetime,
        jwt_svid_lifetime,
        refresh_hint,
        root_key_type,
        issuing_key_type,
        x509_svid_key_type,
        jwt_key_type,
        network,
        crl_mode,
        crl_settle,
        publication_time,
        audit_issuance,
        publication,
    } = policy;
    record
        .with("root_lifetime", root_lifetime)
        .with("issuing_lifetime", issuing_lifetime)
        .with("x509_svid_lifetime", x509_svid_lifetime)
        .with("jwt_key_lifetime", jwt_key_lifetime)
        .with("jwt_svid_lifetime", jwt_svid_lifetime)
        .with("refresh_hint", refresh_hint)
        .with("root_key_type", root_key_type)
        .with("issuing_key_type", issuing_key_type)
        .with("x509_svid_key_type", x509_svid_key_type)
        .with("jwt_key_type", jwt_key_type)
        .with("network", *network as u32)
        .with("crl_mode", *crl_mode as u32)
        .with("crl_settle", crl_settle)
        .with("publication_time", publication_time)
        .with("audit_issuance", *audit_issuance as u32)
        .with("publication", *publication as u32)
}

fn revocation(mut record: Record, new: &NewRevocation) -> Record {
    let NewRevocation { target, reason, ban } = new;
    let mut node = None;
    match target {
        RevocationTarget::Serial { serial } => record.serial = Some(serial.to_string()),
        RevocationTarget::SpiffeId(id) => record.spiffe_id = Some(id.to_string()),
        RevocationTarget::Entry(id) => record.entry_id = Some(id.to_string()),
        RevocationTarget::Node(member) => node = Some(member),
        RevocationTarget::Jti { jti, expires_at: _ } => record.jti = Some(jti.clone()),
    }
    let record = record.with("reason", reason).with("ban", ban);
    match node {
        Some(member) => record.with("member", member),
        None => record,
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::{EntryId, UnixMillis};
    use quorate_raft_machine::{Origin, Outcome, Refusal};

    use super::*;

    fn applied(sequence: u64, operations: Vec<Operation>, results: Vec<OperationResult>) -> AppliedCommand {
        let identity = CallerIdentity::Unix { uid: 1000, gid: 100, pid: 77 };
        let command = Command {
            origin: Origin { node: 2, boot: 5, sequence, acknowledged: 0 },
            caller: Caller { identity, address: "/run/admin.sock".into() },
            time: UnixMillis(1_000),
            operations,
        };
        AppliedCommand { command, outcome: Outcome { results }, is_repeat: false }
    }

    fn delete(id: &str) -> Operation {
        Operation::DeleteEntry { id: EntryId::new(id).unwrap(), revoke: None }
    }

    #[test]
    fn each_operation_is_a_record_with_who_what_where_and_what_came_of_it() {
        let deleted = Ok(Done::EntryDeleted { id: EntryId::new("a").unwrap(), revocation: None });
        let refused = Err(Refusal::new(RefusalCode::NotFound, "words that differ from version to version"));
        let told = records(9, &[applied(1, vec![delete("a"), delete("b")], vec![deleted, refused])]);
        let places: Vec<_> = told.iter().map(|record| record.position().unwrap().to_string()).collect();
        assert_eq!(places, ["9.0.0", "9.0.1"]);
        let outcomes: Vec<_> = told.iter().map(|record| record.outcome.as_deref().unwrap()).collect();
        assert_eq!(outcomes, ["done", "refused:not_found"]);
        let [first, second] = told.try_into().unwrap();
        assert_eq!(first.who.as_deref(), Some("unix:uid=1000,gid=100,pid=77"));
        assert_eq!((first.member, first.from.as_deref()), (Some(2), Some("/run/admin.sock")));
        assert_eq!((second.what.as_ref(), second.entry_id.as_deref()), ("entry.delete", Some("b")));
        assert!(!format!("{second:?}").contains("words"));
    }

    #[test]
    fn a_repeat_and_an_anchor_have_no_record() {
        let anchor = Operation::AnchorAudit {
            member: quorate_proto_identity::MemberNumber::FIRST,
            records: 1,
            index: 1,
            hash: [0; 32],
        };
        let anchored = Ok(Done::AuditAnchored { member: quorate_proto_identity::MemberNumber::FIRST, index: 1 });
        assert_eq!(records(3, &[applied(1, vec![anchor], vec![anchored])]), []);
        let deleted = Ok(Done::EntryDeleted { id: EntryId::new("a").unwrap(), revocation: None });
        let repeat = AppliedCommand { is_repeat: true, ..applied(1, vec![delete("a")], vec![deleted]) };
        assert_eq!(records(4, &[repeat]), []);
    }
}
