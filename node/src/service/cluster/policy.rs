//! Between the API's policy and the state machine's. What a request leaves open takes its default.

use quorate_proto_api::cluster::{
    AuditIssuance as WireAudit, CrlMode as WireCrlMode, KeyType as WireKeyType, NetworkProfile as WireNetwork,
    Policy as WirePolicy, Publication as WirePublication,
};
use quorate_proto_identity::KeyType;
use quorate_raft_machine::{
    AuditIssuance, CrlMode, NetworkProfile, Policy, Publication, policy::AUTHORITY_LIFETIME_LIMIT,
};
use tonic::Status;

/// Takes a policy from a request. Whether its values go together is not looked at here.
///
/// # Errors
///
/// When a value is negative, too large to be a lifetime, or a number that names no key type or network.
pub(super) fn from_wire(wire: &WirePolicy) -> Result<Policy, Status> {
    let default = Policy::default();
    Ok(Policy {
        root_lifetime: seconds("root_lifetime", wire.root_lifetime, default.root_lifetime)?,
        issuing_lifetime: seconds("issuing_lifetime", wire.issuing_lifetime, default.issuing_lifetime)?,
        x509_svid_lifetime: seconds("x509_svid_lifetime", wire.x509_svid_lifetime, default.x509_svid_lifetime)?,
        jwt_key_lifetime: seconds("jwt_key_lifetime", wire.jwt_key_lifetime, default.jwt_key_lifetime)?,
        jwt_svid_lifetime: seconds("jwt_svid_lifetime", wire.jwt_svid_lifetime, default.jwt_svid_lifetime)?,
        refresh_hint: seconds("refresh_hint", wire.refresh_hint, default.refresh_hint)?,
        root_key_type: key_type("root_key_type", wire.root_key_type, default.root_key_type)?,
        issuing_key_type: key_type("issuing_key_type", wire.issuing_key_type, default.issuing_key_type)?,
        x509_svid_key_type: key_type("x509_svid_key_type", wire.x509_svid_key_type, default.x509_svid_key_type)?,
        jwt_key_type: key_type("jwt_key_type", wire.jwt_key_type, default.jwt_key_type)?,
        network: network(wire.network, default.network)?,
        crl_mode: crl_mode(wire.crl_mode, default.crl_mode)?,
        crl_settle: match wire.crl_settle {
            None => default.crl_settle,
            Some(value) => seconds("crl_settle", value, 0)?,
        },
        publication_time: seconds("publication_time", wire.publication_time, default.publication_time)?,
        audit_issuance: audit_issuance(wire.audit_issuance, default.audit_issuance)?,
        publication: publication(wire.publication, default.publication)?,
    })
}

/// Gives a policy out, every field set.
pub(super) fn to_wire(policy: &Policy, revision: u64) -> WirePolicy {
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
    } = *policy;
    let network = match network {
        NetworkProfile::Site => WireNetwork::Site,
        NetworkProfile::Distance => WireNetwork::Distance,
    };
    let crl_mode = match crl_mode {
        CrlMode::Off => WireCrlMode::Off,
        CrlMode::WhenRevoked => WireCrlMode::WhenRevoked,
        CrlMode::Always => WireCrlMode::Always,
    };
    let audit_issuance = match audit_issuance {
        AuditIssuance::Off => WireAudit::Off,
        AuditIssuance::Recorded => WireAudit::Recorded,
        AuditIssuance::Required => WireAudit::Required,
    };
    let publication = match publication {
        Publication::Hints => WirePublication::Hints,
        Publication::ConfirmedByPeers => WirePublication::ConfirmedByPeers,
    };
    WirePolicy {
        root_lifetime: root_lifetime.into(),
        issuing_lifetime: issuing_lifetime.into(),
        x509_svid_lifetime: x509_svid_lifetime.into(),
        jwt_key_lifetime: jwt_key_lifetime.into(),
        jwt_svid_lifetime: jwt_svid_lifetime.into(),
        refresh_hint: refresh_hint.into(),
        root_key_type: wire_key_type(root_key_type).into(),
        issuing_key_type: wire_key_type(issuing_key_type).into(),
        x509_svid_key_type: wire_key_type(x509_svid_key_type).into(),
        jwt_key_type: wire_key_type(jwt_key_type).into(),
        network: network.into(),
        revision,
        crl_mode: crl_mode.into(),
        crl_settle: Some(crl_settle.into()),
        publication_time: publication_time.into(),
        audit_issuance: audit_issuance.into(),
        publication: publication.into(),
    }
}

/// Takes the revision that a change was made from; 0 stands for whichever it is.
///
/// # Errors
///
/// When 0 is given: no policy has that revision, so nothing can have been made from it.
pub(super) fn expected_revision(given: Option<u64>) -> Result<u64, Status> {
    match given {
        None => Ok(0),
        Some(0) => Err(Status::invalid_argument("expected_revision: 0 is the revision of no policy; leave it out")),
        Some(revision) => Ok(revision),
    }
}

fn seconds(field: &str, value: i64, default: u32) -> Result<u32, Status> {
    match value {
        0 => Ok(default),
        value => u32::try_from(value).map_err(|_| {
            let most = AUTHORITY_LIFETIME_LIMIT;
            Status::invalid_argument(format!("{field} is {value} s: give at most {most} s, or 0 for the default"))
        }),
    }
}

fn key_type(field: &str, number: i32, default: KeyType) -> Result<KeyType, Status> {
    match WireKeyType::try_from(number) {
        Ok(WireKeyType::Unspecified) => Ok(default),
        Ok(WireKeyType::EcP256) => Ok(KeyType::EcP256),
        Ok(WireKeyType::EcP384) => Ok(KeyType::EcP384),
        Ok(WireKeyType::Rsa2048) => Ok(KeyType::Rsa2048),
        Ok(WireKeyType::Rsa4096) => Ok(KeyType::Rsa4096),
        Ok(WireKeyType::Ed25519) => Ok(KeyType::Ed25519),
        Err(_) => Err(Status::invalid_argument(format!("{field}: {number} is no key type that this node knows"))),
    }
}

fn wire_key_type(key_type: KeyType) -> WireKeyType {
    match key_type {
        KeyType::EcP256 => WireKeyType::EcP256,
        KeyType::EcP384 => WireKeyType::EcP384,
        KeyType::Rsa2048 => WireKeyType::Rsa2048,
        KeyType::Rsa4096 => WireKeyType::Rsa4096,
        KeyType::Ed25519 => WireKeyType::Ed25519,
    }
}

fn network(number: i32, default: NetworkProfile) -> Result<NetworkProfile, Status> {
    match WireNetwork::try_from(number) {
        Ok(WireNetwork::Unspecified) => Ok(default),
        Ok(WireNetwork::Site) => Ok(NetworkProfile::Site),
        Ok(WireNetwork::Distance) => Ok(NetworkProfile::Distance),
        Err(_) => Err(Status::invalid_argument(format!("network: {number} is no network that this node knows"))),
    }
}

fn crl_mode(number: i32, default: CrlMode) -> Result<CrlMode, Status> {
    match WireCrlMode::try_from(number) {
        Ok(WireCrlMode::Unspecified) => Ok(default),
        Ok(WireCrlMode::Off) => Ok(CrlMode::Off),
        Ok(WireCrlMode::WhenRevoked) => Ok(CrlMode::WhenRevoked),
        Ok(WireCrlMode::Always) => Ok(CrlMode::Always),
        Err(_) => Err(Status::invalid_argument(format!("crl_mode: {number} is no mode that this node knows"))),
    }
}

fn audit_issuance(number: i32, default: AuditIssuance) -> Result<AuditIssuance, Status> {
    match WireAudit::try_from(number) {
        Ok(WireAudit::Unspecified) => Ok(default),
        Ok(WireAudit::Off) => Ok(AuditIssuance::Off),
        Ok(WireAudit::Recorded) => Ok(AuditIssuance::Recorded),
        Ok(WireAudit::Required) => Ok(AuditIssuance::Required),
        Err(_) => Err(Status::invalid_argument(format!("audit_issuance: {number} is nothing that this node knows"))),
    }
}

fn publication(number: i32, default: Publication) -> Result<Publication, Status> {
    match WirePublication::try_from(number) {
        Ok(WirePublication::Unspecified) => Ok(default),
        Ok(WirePublication::Hints) => Ok(Publication::Hints),
        Ok(WirePublication::ConfirmedByPeers) => Ok(Publication::ConfirmedByPeers),
        Err(_) => Err(Status::invalid_argument(format!("publication: {number} is nothing that this node knows"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_open_takes_its_default() {
        assert_eq!(from_wire(&WirePolicy::default()).unwrap(), Policy::default());
    }

    #[test]
    fn a_policy_goes_out_and_comes_back() {
        let policy = Policy {
            root_lifetime: 1_000,
            root_key_type: KeyType::Rsa4096,
            x509_svid_key_type: KeyType::Ed25519,
            network: NetworkProfile::Distance,
            crl_mode: CrlMode::Always,
            crl_settle: 0,
            publication_time: 60,
            audit_issuance: AuditIssuance::Required,
            publication: Publication::ConfirmedByPeers,
            ..Policy::default()
        };
        let wire = to_wire(&policy, 7);
        assert_eq!(wire.revision, 7);
        assert_eq!(from_wire(&wire).unwrap(), policy);
    }

    #[test]
    fn what_is_no_value_of_a_policy_is_refused_by_its_name() {
        for (wire, said) in [
            (WirePolicy { root_lifetime: -1, ..WirePolicy::default() }, "root_lifetime is -1 s"),
            (WirePolicy { refresh_hint: 1 << 40, ..WirePolicy::default() }, "refresh_hint is 1099511627776 s"),
            (WirePolicy { jwt_key_type: 99, ..WirePolicy::default() }, "jwt_key_type: 99 is no key type"),
            (WirePolicy { network: 99, ..WirePolicy::default() }, "network: 99 is no network"),
            (WirePolicy { crl_mode: 99, ..WirePolicy::default() }, "crl_mode: 99 is no mode"),
            (WirePolicy { crl_settle: Some(-1), ..WirePolicy::default() }, "crl_settle is -1 s"),
            (WirePolicy { audit_issuance: 99, ..WirePolicy::default() }, "audit_issuance: 99 is nothing"),
            (WirePolicy { publication: 99, ..WirePolicy::default() }, "publication: 99 is nothing"),
        ] {
            let status = from_wire(&wire).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().starts_with(said), "{}", status.message());
        }
        assert_eq!(expected_revision(Some(0)).unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
