//! What a revocation does, and what it does not, in words.

use quorate_actors::{CrlsHandedOut, CutOffMember, RevokeOutcome};
use quorate_proto_api::cluster::{CrlState, CutOffIssuer, RevokeResponse, RevokedCertificate, RevokedKey};
use quorate_raft_machine::{CrlMode, NewRevocation, RevocationTarget, State};

/// Most certificates that an answer names; the rest are counted.
const NAMED_CERTIFICATES: usize = 1_000;

/// What tokens have in place of a CRL.
const TOKENS: &str = "Tokens are refused by ValidateJWTSVID and our own proxy alone: whoever checks them with the bundle \
                      accepts them until they end.";

/// What each answer about certificates says (CRL-13).
const READERS: &str = "Whoever reads them decides: a consumer that ignores CRLs, or that read its files before, accepts what \
                       is revoked until it ends.";

/// What will be done, and what whoever asks should know besides.
pub(super) fn announced(
    new: &NewRevocation,
    deleted: bool,
    cut_off: &[CutOffMember],
    state: &State,
) -> (Vec<String>, Vec<String>) {
    let NewRevocation { target, reason: _, ban } = new;
    let mut will = Vec::new();
    if let (true, RevocationTarget::Entry(id)) = (deleted, target) {
        will.push(format!("Entry {id} is deleted."));
    }
    will.push(format!("{} revoked.", subject(target, state)));
    if *ban {
        will.push(format!("No node issues to {} until the revocation is removed.", banned(target, state)));
    }
    let mut warnings = Vec::new();
    for CutOffMember { name, until, number: _ } in cut_off {
        warnings.push(format!(
            "{name} is cut off and may sign until {until}: its issuing keys are revoked whole, and every workload on it is \
             refused until it gets another SVID there."
        ));
    }
    if let RevocationTarget::Node(number) = target {
        let name = state.member(*number).map_or_else(|| number.to_string(), |member| member.record.name.to_string());
        warnings.push(format!(
            "Every workload on {name} is refused until it gets an SVID of another key or another node. Root and token keys \
             that it could open are not replaced: if its keys may be in wrong hands, `quorate cluster remove --compromised \
             {name}` does that."
        ));
    }
    if target.is_of_tokens() {
        warnings.push(TOKENS.to_owned());
    }
    let is_entitled_on = !ban && !deleted && !matches!(target, RevocationTarget::Jti { .. });
    if is_entitled_on {
        warnings.push("It is not banned: whoever is entitled gets a new one at once.".to_owned());
    }
    if target.is_of_certificates() && state.policy().is_some_and(|policy| policy.crl_mode == CrlMode::Off) {
        warnings.push(
            "The policy hands out no CRLs (crl_mode is off): consumers accept the certificates until they end."
                .to_owned(),
        );
    }
    (will, warnings)
}

fn subject(target: &RevocationTarget, state: &State) -> String {
    match target {
        RevocationTarget::Serial { serial } => format!("The X509-SVID with serial number {serial} is"),
        RevocationTarget::SpiffeId(id) => format!("Every SVID of {id} that was issued so far is"),
        RevocationTarget::Entry(id) => {
            let of = state.entry(id).map(|entry| format!(" ({})", entry.spiffe_id)).unwrap_or_default();
            format!("Every SVID that was issued for entry {id}{of} so far is")
        }
        RevocationTarget::Node(_) => format!("Every X509-SVID that {} has signed so far is", banned(target, state)),
        RevocationTarget::Jti { jti, expires_at } => format!("The token with jti {jti} is, until {expires_at},"),
    }
}

fn banned(target: &RevocationTarget, state: &State) -> String {
    match target {
        RevocationTarget::SpiffeId(id) => id.to_string(),
        RevocationTarget::Entry(id) => format!("entry {id}"),
        RevocationTarget::Node(number) => {
            let name = state.member(*number).map(|member| format!("{} (member {number})", member.record.name));
            name.unwrap_or_else(|| format!("member {number}"))
        }
        RevocationTarget::Serial { serial } => serial.to_string(),
        RevocationTarget::Jti { jti, .. } => jti.clone(),
    }
}

/// The answer before anything is done.
pub(super) fn dry_run(
    will: Vec<String>,
    warnings: Vec<String>,
    cut_off: &[CutOffMember],
    state: &State,
) -> RevokeResponse {
    RevokeResponse {
        sentences: will,
        warnings,
        cut_off: cut_off.iter().map(issuer).collect(),
        crls: Some(crl_state(state)),
        ..RevokeResponse::default()
    }
}

/// The answer when it is done (CRL-13): what was handed out, and not what anybody made of it.
pub(super) fn done(
    will: Vec<String>,
    mut warnings: Vec<String>,
    of_certificates: bool,
    outcome: &RevokeOutcome,
    state: &State,
) -> RevokeResponse {
    let RevokeOutcome { number, log_index, revoked, keys_revoked, handed_to_streams, lacking_streams, crls, cut_off } =
        outcome;
    let mut sentences = will;
    let certificates = counted(u64::try_from(revoked.len()).unwrap_or(u64::MAX), "certificate");
    if of_certificates {
        let keys = match keys_revoked.len() {
            0 => String::new(),
            count => {
                format!(", and {} revoked whole", counted(u64::try_from(count).unwrap_or(u64::MAX), "issuing key"))
            }
        };
        let put = format!("Revocation {number}: {certificates} put into CRLs{keys}");
        sentences.push(match crls {
            CrlsHandedOut::Complete { count, .. } => {
                format!("{put}; all {count} CRLs handed to {}.", counted(*handed_to_streams, "stream"))
            }
            CrlsHandedOut::Off | CrlsHandedOut::TooLarge { .. } => format!("{put}; none were handed out."),
        });
        match crls {
            CrlsHandedOut::Complete { .. } => warnings.push(READERS.to_owned()),
            CrlsHandedOut::TooLarge { bytes } => warnings.push(format!(
                "All CRLs together have {bytes} bytes, more than a stream may carry: whole keys are being revoked until they \
                 fit."
            )),
            CrlsHandedOut::Off => {}
        }
        if *lacking_streams > 0 {
            warnings.push(format!("{} had not fetched them yet.", counted(*lacking_streams, "stream")));
        }
    } else {
        sentences.push(format!("Revocation {number}: every connected member refuses it."));
    }
    RevokeResponse {
        sentences,
        warnings,
        cut_off: cut_off.iter().map(issuer).collect(),
        number: *number,
        log_index: *log_index,
        certificates: revoked
            .iter()
            .take(NAMED_CERTIFICATES)
            .map(|leaf| RevokedCertificate {
                serial: leaf.serial.to_string(),
                spiffe_id: leaf.spiffe_id.to_string(),
                not_after: leaf.not_after.0,
            })
            .collect(),
        certificate_count: u64::try_from(revoked.len()).unwrap_or(u64::MAX),
        keys: keys_revoked.iter().map(|(id, node)| RevokedKey { id: id.to_string(), node: node.clone() }).collect(),
        handed_to_streams: *handed_to_streams,
        lacking_streams: *lacking_streams,
        crls: Some(crl_state(state)),
    }
}

fn issuer(member: &CutOffMember) -> CutOffIssuer {
    CutOffIssuer { node: member.name.clone(), until: member.until.0 }
}

fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// How the CRLs stand.
pub(super) fn crl_state(state: &State) -> CrlState {
    let all = state.all_crls();
    let mode = state.policy().map(|policy| policy.crl_mode);
    let set = state.crl_set();
    let explanation = match (&set, mode) {
        (Some(_), Some(CrlMode::Always)) => "the policy hands them out always".to_owned(),
        (Some(_), _) => match state.crls_are_on_until() {
            Some(until) => format!("an hour after the last revoked certificate has ended, at {until}, it will be none"),
            None => String::new(),
        },
        (None, Some(CrlMode::Off) | None) => "the policy hands out none (crl_mode is off)".to_owned(),
        (None, Some(_)) if state.crls_are_on() => {
            "they are more than a stream may carry; whole keys are being revoked until they fit".to_owned()
        }
        (None, Some(_)) => "nothing is revoked".to_owned(),
    };
    CrlState {
        handed_out: set.is_some(),
        count: u64::try_from(all.len()).unwrap_or(u64::MAX),
        bytes: u64::try_from(all.bytes()).unwrap_or(u64::MAX),
        explanation,
    }
}
