//! Between the API's targets and reasons and the state machine's.

use quorate_proto_api::cluster::revocation_target::{Jti, Target};
use quorate_proto_api::cluster::{RevocationReason as WireReason, RevocationTarget as WireTarget};
use quorate_proto_identity::{EntryId, NodeName, SerialNumber, SpiffeId, UnixSeconds};
use quorate_raft_machine::authority::gone_at;
use quorate_raft_machine::{Member, RevocationReason, RevocationTarget, State};
use tonic::Status;

/// Hexadecimal digits of a serial number of ours: 16 bytes (CRL-01). One in decimal has 38, so neither is taken for the
/// other.
const SERIAL_HEX_DIGITS: usize = 32;

/// A serial number in decimal, or in hexadecimal as tools print it: 32 digits, with or without colons.
///
/// # Errors
///
/// When it is neither.
pub(super) fn serial(text: &str) -> Result<SerialNumber, Status> {
    let digits: String = text.chars().filter(|character| *character != ':').collect();
    let is_hex = digits.len() == SERIAL_HEX_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let parsed = if is_hex {
        u128::from_str_radix(&digits, 16).ok().and_then(|number| SerialNumber::new(number.to_be_bytes()).ok())
    } else {
        text.parse().ok()
    };
    parsed.ok_or_else(|| {
        Status::invalid_argument(format!(
            "serial: {text:?} is no serial number of ours: write it in decimal, or as its 32 hexadecimal digits"
        ))
    })
}

/// A SPIFFE ID of a field.
pub(super) fn spiffe_id(text: &str) -> Result<SpiffeId, Status> {
    SpiffeId::parse(text).map_err(|error| Status::invalid_argument(format!("spiffe_id: {error}")))
}

/// An entry's ID of a field.
pub(super) fn entry_id(text: &str) -> Result<EntryId, Status> {
    EntryId::new(text).map_err(|error| Status::invalid_argument(format!("entry_id: {error}")))
}

/// What a request is about. A node is known by its name also when it has gone.
///
/// # Errors
///
/// When it is about nothing, a value is malformed, or there is no such node.
pub(super) fn from_wire(target: Option<WireTarget>, state: &State) -> Result<RevocationTarget, Status> {
    let nothing = || Status::invalid_argument("target: missing");
    Ok(match target.and_then(|target| target.target).ok_or_else(nothing)? {
        Target::Serial(text) => RevocationTarget::Serial { serial: serial(&text)? },
        Target::SpiffeId(text) => RevocationTarget::SpiffeId(spiffe_id(&text)?),
        Target::EntryId(text) => RevocationTarget::Entry(entry_id(&text)?),
        Target::Node(name) => RevocationTarget::Node(member(&name, state)?.number),
        Target::Jti(Jti { jti, expires_at: 0 }) => {
            RevocationTarget::Jti { jti, expires_at: last_end_of_tokens(state).ok_or_else(nothing)? }
        }
        Target::Jti(Jti { jti, expires_at }) => RevocationTarget::Jti { jti, expires_at: UnixSeconds(expires_at) },
    })
}

/// Gives a target out.
pub(super) fn to_wire(target: &RevocationTarget, state: &State) -> WireTarget {
    let target = match target {
        RevocationTarget::Serial { serial } => Target::Serial(serial.to_string()),
        RevocationTarget::SpiffeId(id) => Target::SpiffeId(id.to_string()),
        RevocationTarget::Entry(id) => Target::EntryId(id.to_string()),
        RevocationTarget::Node(number) => Target::Node(
            state.member(*number).map_or_else(|| format!("member {number}"), |member| member.record.name.to_string()),
        ),
        RevocationTarget::Jti { jti, expires_at } => Target::Jti(Jti { jti: jti.clone(), expires_at: expires_at.0 }),
    };
    WireTarget { target: Some(target) }
}

/// The member of this name, or the last that had it.
fn member<'a>(name: &str, state: &'a State) -> Result<&'a Member, Status> {
    let name = NodeName::new(name).map_err(|error| Status::invalid_argument(format!("node: {name:?}: {error}")))?;
    state
        .member_by_name(&name)
        .or_else(|| state.members().filter(|member| member.record.name == name).last())
        .ok_or_else(|| Status::not_found(format!("there is no member named {name}, and none is remembered")))
}

/// When no token that was issued so far is accepted any more.
fn last_end_of_tokens(state: &State) -> Option<UnixSeconds> {
    state.jwt_authorities().map(|key| gone_at(&key.validity)).max()
}

/// The reason of a request; none is no reason.
///
/// # Errors
///
/// When the number stands for nothing.
pub(super) fn reason(number: i32) -> Result<RevocationReason, Status> {
    match WireReason::try_from(number) {
        Ok(WireReason::Unspecified | WireReason::None) => Ok(RevocationReason::Unspecified),
        Ok(WireReason::KeyCompromise) => Ok(RevocationReason::KeyCompromise),
        Ok(WireReason::CaCompromise) => Ok(RevocationReason::CaCompromise),
        Ok(WireReason::AffiliationChanged) => Ok(RevocationReason::AffiliationChanged),
        Ok(WireReason::Superseded) => Ok(RevocationReason::Superseded),
        Ok(WireReason::CessationOfOperation) => Ok(RevocationReason::CessationOfOperation),
        Ok(WireReason::PrivilegeWithdrawn) => Ok(RevocationReason::PrivilegeWithdrawn),
        Err(_) => Err(Status::invalid_argument(format!("reason: {number} is no reason that this node knows"))),
    }
}

/// Gives a reason out.
pub(super) fn wire_reason(reason: RevocationReason) -> WireReason {
    match reason {
        RevocationReason::Unspecified => WireReason::None,
        RevocationReason::KeyCompromise => WireReason::KeyCompromise,
        RevocationReason::CaCompromise => WireReason::CaCompromise,
        RevocationReason::AffiliationChanged => WireReason::AffiliationChanged,
        RevocationReason::Superseded => WireReason::Superseded,
        RevocationReason::CessationOfOperation => WireReason::CessationOfOperation,
        RevocationReason::PrivilegeWithdrawn => WireReason::PrivilegeWithdrawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_taken_as_openssl_and_others_print_it() {
        let known = SerialNumber::from_random([0x5a; 16]);
        let hex = known.to_hex();
        let colons: Vec<&str> = (0..16).map(|byte| &hex[2 * byte..2 * byte + 2]).collect();
        for text in [known.to_string(), hex.clone(), hex.to_uppercase(), colons.join(":")] {
            assert_eq!(serial(&text).unwrap(), known, "{text}");
        }
        for wrong in ["", "0", "-1", "zz", "ff", &"0".repeat(32), &"f".repeat(32), &format!("{hex}00")] {
            let status = serial(wrong).unwrap_err();
            assert!(status.message().starts_with("serial: "), "{wrong}: {status}");
        }
    }

    #[test]
    fn every_reason_goes_out_and_comes_back() {
        for known in RevocationReason::ALL {
            assert_eq!(reason(wire_reason(known).into()).unwrap(), known);
        }
        assert_eq!(reason(0).unwrap(), RevocationReason::Unspecified);
        assert_eq!(reason(99).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn a_target_of_nothing_is_refused() {
        let state = State::new();
        for target in [None, Some(WireTarget { target: None })] {
            assert_eq!(from_wire(target, &state).unwrap_err().message(), "target: missing");
        }
        let node = WireTarget { target: Some(Target::Node("node-9".into())) };
        assert_eq!(from_wire(Some(node), &state).unwrap_err().code(), tonic::Code::NotFound);
    }
}
