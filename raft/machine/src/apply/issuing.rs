//! Issuing certificates: record, revoke, prune.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_proto_identity::{AuthorityId, MemberNumber, SerialNumber, UnixSeconds};

use super::certificates;
use crate::authority::{
    ISSUING_CERTIFICATES_LIMIT, ISSUING_CERTIFICATES_PER_MEMBER, IssuingCertificate, IssuingKey, IssuingKeyState,
    X509Authority,
};
use crate::command::NewIssuingCertificate;
use crate::event::Event;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::state::State;

/// An issuing certificate that passed every check, and what becomes of its key.
pub(super) struct CheckedIssuing {
    pub(super) certificate: IssuingCertificate,
    key: KeyRecord,
}

/// What a certificate does to the record of its key.
enum KeyRecord {
    /// Nothing.
    Kept,
    /// The key is new: its first CRL comes with it (CRL-03).
    New { crl: Bytes, crl_next_update: UnixSeconds, boot: u64 },
    /// The key is known, and its CRL is a newer one.
    NewerCrl { crl: Bytes, crl_next_update: UnixSeconds },
}

impl State {
    /// Records an issuing certificate under the active root. From the instant that its member applies this, the member
    /// may sign with it: it is the lease (design section 2, property 4).
    pub(super) fn record_issuing_certificate(
        &mut self,
        new: &NewIssuingCertificate,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let root = self
            .active_x509_authority()
            .ok_or_else(|| Refusal::wrong_state("there is no active X.509 authority"))?
            .clone();
        let checked = self.check_issuing_certificate(new, &root, now)?;
        self.check_issuing_room(std::slice::from_ref(&checked), now)?;
        let done = Done::IssuingCertificateRecorded {
            member: checked.certificate.member,
            key_id: checked.certificate.key_id.clone(),
            serial: checked.certificate.serial,
        };
        // In this order: of a key whose other certificates have all ended, this one keeps the record.
        self.record_checked(checked, now, events);
        self.prune_issuing_certificates(now, events);
        Ok(done)
    }

    /// Checks an issuing certificate under a root that is active, or becomes so in the same step: whose it is, who
    /// signed it, that it is of our profile, no longer than the policy and its root, and the CRL of its key (CRL-03).
    pub(super) fn check_issuing_certificate(
        &self,
        new: &NewIssuingCertificate,
        root: &X509Authority,
        now: UnixSeconds,
    ) -> Result<CheckedIssuing, Refusal> {
        let member = new.member;
        let what = format!("the issuing certificate of member {member}");
        if !self.is_admitted(member) {
            return Err(Refusal::not_found(format!("there is no member {member}")));
        }
        let certificate = certificates::parse(&what, &new.certificate)?;
        let root_certificate = certificates::parse("the root certificate", &root.certificate)?;
        certificates::check_authority(&what, &certificate, &self.trust_domain()?)?;
        let extensions = certificate.extensions();
        if extensions.path_length != Some(0) {
            return Err(Refusal::invalid(format!("{what} does not have path length 0")));
        }
        let signed_by_root = certificate.issuer() == root_certificate.subject()
            && extensions.authority_key_id == root_certificate.extensions().subject_key_id
            && certificate.verify_signature(root_certificate.public_key()).is_ok();
        if !signed_by_root {
            return Err(Refusal::invalid(format!("{what} is not signed by root {}", root.id)));
        }
        let validity = certificate.validity();
        certificates::check_life(&what, &validity, "issuing_lifetime", self.checked_policy()?.issuing_lifetime)?;
        if validity.not_after() > root.validity.not_after() {
            return Err(Refusal::invalid(format!(
                "{what} ends at {}, after its root, which ends at {}",
                validity.not_after(),
                root.validity.not_after()
            )));
        }
        if validity.not_after() < now {
            return Err(Refusal::wrong_state(format!("{what} ended at {}, it is {now}", validity.not_after())));
        }
        let serial = certificates::serial_number(&what, &certificate)?;
        if self.issuing_certificates().any(|known| known.serial == serial && known.issuer == root.id) {
            return Err(Refusal::new(
                RefusalCode::AlreadyExists,
                format!("an issuing certificate with serial number {serial} is recorded already"),
            ));
        }
        let key_id = certificate.authority_id();
        let key = self.check_issuing_key(new, &key_id, &certificate)?;
        Ok(CheckedIssuing {
            certificate: IssuingCertificate {
                member,
                key_id,
                serial,
                issuer: root.id.clone(),
                certificate: new.certificate.clone(),
                validity,
                recorded_at: now,
                revoked_at: None,
            },
            key,
        })
    }

    /// Checks the key of an issuing certificate: that no other member has it, and that a CRL of it is current for as
    /// long as the certificate lives. Answers the record of the key, if that is to change.
    fn check_issuing_key(
        &self,
        new: &NewIssuingCertificate,
        key_id: &AuthorityId,
        certificate: &quorate_proto_identity::x509::Certificate,
    ) -> Result<KeyRecord, Refusal> {
        let known = self.issuing_key(key_id);
        if let Some(other) = known.map(|known| known.member).filter(|other| *other != new.member) {
            return Err(Refusal::invalid(format!("key {key_id} is that of member {other}, not of {}", new.member)));
        }
        if self.x509_authority(key_id).is_some() {
            return Err(Refusal::invalid(format!("key {key_id} is that of a root")));
        }
        if let Some(known) = known
            && new.crl.is_empty()
        {
            certificates::check_crl_lasts(key_id, known.crl_next_update, certificate)?;
            return Ok(KeyRecord::Kept);
        }
        let what = format!("the CRL of key {key_id}");
        let crl_next_update = certificates::check_crl(&what, &new.crl, certificate)?;
        let crl = new.crl.clone();
        let Some(known) = known else {
            return Ok(KeyRecord::New { crl, crl_next_update, boot: new.boot });
        };
        // What was revoked since the key's last CRL must not rise again: an empty CRL takes the place of an empty one
        // only, and of one that is older by its number.
        let is_newer = certificates::crl_number(&crl) > certificates::crl_number(&known.crl)
            && self.revoked_leaves_of(key_id).next().is_none();
        if is_newer {
            return Ok(KeyRecord::NewerCrl { crl, crl_next_update });
        }
        certificates::check_crl_lasts(key_id, known.crl_next_update, certificate)?;
        Ok(KeyRecord::Kept)
    }

    /// Checks that there is room for these certificates, what has expired not counted.
    pub(super) fn check_issuing_room(&self, checked: &[CheckedIssuing], now: UnixSeconds) -> Result<(), Refusal> {
        let kept = || self.issuing_certificates().filter(|issuing| !issuing.is_prunable(now));
        if kept().count().saturating_add(checked.len()) > ISSUING_CERTIFICATES_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!("there are more than {ISSUING_CERTIFICATES_LIMIT} issuing certificates"),
            ));
        }
        for issuing in checked {
            let member = issuing.certificate.member;
            if kept().filter(|kept| kept.member == member).count() >= ISSUING_CERTIFICATES_PER_MEMBER {
                return Err(Refusal::new(
                    RefusalCode::LimitReached,
                    format!(
                        "member {member} has {ISSUING_CERTIFICATES_PER_MEMBER} issuing certificates that have not ended"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Puts a checked certificate, and its key if that is new, into the state.
    ///
    /// While CRLs are handed out a new key does not sign yet: not everybody has its CRL (CRL-07).
    pub(super) fn record_checked(&mut self, checked: CheckedIssuing, now: UnixSeconds, events: &mut Vec<Event>) {
        let CheckedIssuing { certificate, key } = checked;
        let id = certificate.key_id.clone();
        match key {
            KeyRecord::Kept => {}
            KeyRecord::New { crl, crl_next_update, boot } => {
                let mut counters = self.counters();
                let number = counters.next_key_number;
                counters.next_key_number = number.saturating_add(1);
                self.counters.put((), counters);
                let state = if self.crls_are_on() { IssuingKeyState::Prepared } else { IssuingKeyState::Signing };
                let key = IssuingKey {
                    id: id.clone(),
                    member: certificate.member,
                    crl,
                    crl_next_update,
                    number,
                    boot,
                    state,
                    covered: 0,
                    recorded_at: now,
                };
                self.issuing_keys.put(id, key);
            }
            KeyRecord::NewerCrl { crl, crl_next_update } => {
                if let Some(known) = self.issuing_keys.get(&id).cloned() {
                    self.issuing_keys.put(id.clone(), IssuingKey { crl, crl_next_update, ..known });
                    events.push(Event::CrlRecorded { issuer: id });
                }
            }
        }
        events
            .push(Event::IssuingCertificateChanged { member: certificate.member, key_id: certificate.key_id.clone() });
        self.issuing.put((certificate.key_id.clone(), certificate.serial), certificate);
    }

    /// Revokes one certificate of a member, or all: what fences it.
    pub(super) fn revoke_issuing_certificates(
        &mut self,
        member: MemberNumber,
        serial: Option<SerialNumber>,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        if self.member(member).is_none() {
            return Err(Refusal::not_found(format!("there is no member {member}")));
        }
        if let Some(serial) = serial
            && !self.issuing_certificates().any(|issuing| issuing.member == member && issuing.serial == serial)
        {
            return Err(Refusal::not_found(format!("member {member} has no issuing certificate {serial}")));
        }
        let count = self.revoke_where(now, events, |issuing| {
            issuing.member == member && serial.is_none_or(|serial| serial == issuing.serial)
        });
        Ok(Done::IssuingCertificatesRevoked { member, count })
    }

    /// Revokes the unrevoked certificates that the condition picks, and answers how many.
    pub(super) fn revoke_where(
        &mut self,
        now: UnixSeconds,
        events: &mut Vec<Event>,
        picks: impl Fn(&IssuingCertificate) -> bool,
    ) -> u64 {
        let revoked: Vec<IssuingCertificate> = self
            .issuing_certificates()
            .filter(|issuing| issuing.revoked_at.is_none() && picks(issuing))
            .map(|issuing| IssuingCertificate { revoked_at: Some(now), ..issuing.clone() })
            .collect();
        let count = u64::try_from(revoked.len()).unwrap_or(u64::MAX);
        for issuing in revoked {
            self.record_checked(CheckedIssuing { certificate: issuing, key: KeyRecord::Kept }, now, events);
        }
        count
    }

    /// Removes certificates that ended long enough ago, or whose root is gone (and with it their end, which is no later),
    /// and keys that have none left. Answers how many certificates.
    pub(super) fn prune_issuing_certificates(&mut self, now: UnixSeconds, events: &mut Vec<Event>) -> u64 {
        let stale: Vec<(AuthorityId, SerialNumber, MemberNumber)> = self
            .issuing_certificates()
            .filter(|issuing| issuing.is_prunable(now) || self.x509_authority(&issuing.issuer).is_none())
            .map(|issuing| (issuing.key_id.clone(), issuing.serial, issuing.member))
            .collect();
        let count = u64::try_from(stale.len()).unwrap_or(u64::MAX);
        let mut unused: BTreeSet<AuthorityId> = BTreeSet::new();
        for (key_id, serial, member) in stale {
            self.issuing.remove(&(key_id.clone(), serial));
            unused.insert(key_id.clone());
            events.push(Event::IssuingCertificateChanged { member, key_id });
        }
        if !unused.is_empty() {
            // One look at what is left, however many certificates went: all of a cluster that was off have ended.
            self.issuing_certificates().for_each(|issuing| {
                unused.remove(&issuing.key_id);
            });
        }
        for key_id in unused {
            self.issuing_keys.remove(&key_id);
        }
        count
    }
}
