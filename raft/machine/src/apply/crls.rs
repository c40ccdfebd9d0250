//! CRLs: the next one of a key or a root, keys that are prepared, keys that are revoked whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quorate_proto_identity::x509::{Certificate, ParsedCrl, check_next_crl, parse_crl};
use quorate_proto_identity::{AuthorityId, SerialNumber, UnixSeconds};

use super::certificates;
use crate::authority::{IssuingKey, IssuingKeyState, X509Authority};
use crate::event::Event;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::revocation::{CRL_BYTES_LIMIT, CRL_SET_BYTES_LIMIT, KEYS_PER_REVOCATION, NewCrl, REVOKED_LEAVES_LIMIT};
use crate::state::{RevokedRecord, State};

impl State {
    /// Records the next CRL of an issuing key or a root (CRL-02 to CRL-05).
    pub(super) fn record_crl(&mut self, new: &NewCrl, now: UnixSeconds, events: &mut Vec<Event>) -> OperationResult {
        let issuer = new.issuer.clone();
        if self.x509_authority(&issuer).is_some() {
            let root = self.check_root_crl(new, &BTreeSet::new(), now)?;
            self.keep_root(root, events);
        } else {
            let key = self.check_issuing_crl(new, now)?;
            self.issuing_keys.put(issuer.clone(), key);
            for leaf in &new.revoked {
                self.revocation_index.add_leaf(&issuer, leaf);
                let record = RevokedRecord { issuer: issuer.clone(), leaf: leaf.clone() };
                self.revoked_leaves.put((issuer.clone(), leaf.serial), record);
            }
            events.push(Event::CrlRecorded { issuer: issuer.clone() });
        }
        Ok(Done::CrlRecorded { issuer })
    }

    /// Checks the next CRL of an issuing key, and answers the key with it.
    fn check_issuing_crl(&self, new: &NewCrl, now: UnixSeconds) -> Result<IssuingKey, Refusal> {
        let issuer = &new.issuer;
        let key = self
            .issuing_key(issuer)
            .ok_or_else(|| Refusal::not_found(format!("there is no issuing key or root {issuer}")))?;
        let newest = self
            .certificates_of(issuer)
            .filter(|issuing| issuing.revoked_at.is_none())
            .max_by_key(|issuing| issuing.validity.not_after())
            .ok_or_else(|| {
                Refusal::wrong_state(format!("every certificate of key {issuer} is revoked: its CRL is in no set"))
            })?;
        let last_end = newest.validity.not_after();
        let has_ended = |serial| {
            self.revoked_leaves.get(&(issuer.clone(), serial)).is_none_or(|record| record.leaf.not_after < now)
        };
        let crl = self.check_crl(new, &newest.certificate, &key.crl, now, has_ended)?;
        if new.covers > self.last_revocation_number() {
            return Err(Refusal::invalid(format!(
                "the CRL of key {issuer} covers revocation {}, which has not been made",
                new.covers
            )));
        }
        let known: BTreeSet<SerialNumber> = self.revoked_leaves_of(issuer).map(|leaf| leaf.serial).collect();
        let mut told = BTreeSet::new();
        for leaf in &new.revoked {
            let serial = leaf.serial;
            if known.contains(&serial) || !told.insert(serial) {
                return Err(Refusal::invalid(format!("leaf {serial} is revoked already")));
            }
            if self.revocation(leaf.revocation).is_none() {
                return Err(Refusal::not_found(format!(
                    "leaf {serial} is said to be revoked by revocation {}, which is not known",
                    leaf.revocation
                )));
            }
            if leaf.not_after > last_end {
                return Err(Refusal::invalid(format!(
                    "leaf {serial} ends at {}, after every certificate of its issuer",
                    leaf.not_after
                )));
            }
        }
        let last = parse_crl(&key.crl).map(|last| serials(&last)).unwrap_or_default();
        let listed = serials(&crl);
        if let Some(serial) =
            listed.iter().find(|serial| !told.contains(serial) && !known.contains(serial) && !last.contains(serial))
        {
            return Err(Refusal::invalid(format!("certificate {serial} is in the CRL, and nobody says what it is")));
        }
        if let Some(serial) = told.difference(&listed).next() {
            return Err(Refusal::invalid(format!("leaf {serial} is not in the CRL")));
        }
        if self.revoked_leaves.len().saturating_add(told.len()) > REVOKED_LEAVES_LIMIT {
            return Err(no_room(issuer, &format!("there would be more than {REVOKED_LEAVES_LIMIT} revoked leaves")));
        }
        Ok(IssuingKey {
            crl: new.crl.clone(),
            crl_next_update: crl.next_update,
            covered: key.covered.max(new.covers),
            ..key.clone()
        })
    }

    /// Checks the next CRL of a root, which must have these certificates beside what it has, and answers the root with it.
    pub(super) fn check_root_crl(
        &self,
        new: &NewCrl,
        revoked: &BTreeSet<SerialNumber>,
        now: UnixSeconds,
    ) -> Result<X509Authority, Refusal> {
        let id = &new.issuer;
        let root = self
            .x509_authority(id)
            .filter(|root| root.state.in_bundle())
            .ok_or_else(|| Refusal::wrong_state(format!("there is no root {id} in the bundle")))?;
        if !new.revoked.is_empty() {
            return Err(Refusal::invalid(format!("root {id} signs no leaves, so it revokes none")));
        }
        let under = |serial: SerialNumber| {
            self.issuing_certificates().find(|issuing| issuing.issuer == *id && issuing.serial == serial)
        };
        let has_ended = |serial| under(serial).is_none_or(|issuing| issuing.validity.not_after() < now);
        let crl = self.check_crl(new, &root.certificate, &root.crl, now, has_ended)?;
        let last = parse_crl(&root.crl).map(|last| serials(&last)).unwrap_or_default();
        let listed = serials(&crl);
        let may_be_listed = |serial: SerialNumber| {
            revoked.contains(&serial)
                || last.contains(&serial)
                || under(serial).is_some_and(|issuing| issuing.revoked_at.is_some())
        };
        if let Some(serial) = listed.iter().find(|serial| !may_be_listed(**serial)) {
            return Err(Refusal::invalid(format!(
                "certificate {serial} is in the CRL of root {id}, and is not revoked"
            )));
        }
        if let Some(serial) = revoked.difference(&listed).next() {
            return Err(Refusal::invalid(format!("certificate {serial} is not in the CRL of root {id} (CRL-06)")));
        }
        let ends = listed.iter().filter_map(|serial| under(*serial)).map(|issuing| issuing.validity.not_after()).max();
        // Of a certificate that is pruned only the root's own record still says when it ended.
        let kept = root.crl_keeps_until.filter(|_| !listed.is_disjoint(&last));
        Ok(X509Authority { crl: new.crl.clone(), crl_keeps_until: ends.max(kept), ..root.clone() })
    }

    /// What holds of the next CRL of any issuer: size, and CRL-02 to CRL-04.
    fn check_crl(
        &self,
        new: &NewCrl,
        certificate: &[u8],
        last: &[u8],
        now: UnixSeconds,
        has_ended: impl Fn(SerialNumber) -> bool,
    ) -> Result<ParsedCrl, Refusal> {
        let NewCrl { issuer, crl, .. } = new;
        if crl.len() > CRL_BYTES_LIMIT {
            return Err(no_room(issuer, &format!("its CRL has {} bytes, the most is {CRL_BYTES_LIMIT}", crl.len())));
        }
        let bytes = self.all_crls().bytes_with(issuer, crl);
        if bytes > CRL_SET_BYTES_LIMIT {
            return Err(no_room(
                issuer,
                &format!("all CRLs together would have {bytes} bytes, the most is {CRL_SET_BYTES_LIMIT}"),
            ));
        }
        let what = format!("the certificate of {issuer}");
        let certificate: Certificate = certificates::parse(&what, certificate)?;
        let last = parse_crl(last).map_err(|error| Refusal::invalid(error.to_string()))?;
        let end = certificate.validity().not_after();
        let checked = check_next_crl(crl, &certificate, &last, now, |listed| has_ended(listed.serial))
            .map_err(|error| Refusal::invalid(format!("the CRL of {issuer} is not in order (CRL-04): {error}")))?;
        if checked.next_update < end {
            return Err(Refusal::invalid(format!(
                "the CRL of {issuer} ends at {}, before its certificate at {end} (CRL-03)",
                checked.next_update
            )));
        }
        Ok(checked)
    }

    /// Lets a prepared key sign, once its CRL has been out for as long as the policy says (CRL-07). That every live member
    /// has sent it to its streams is for the leader to know.
    pub(super) fn activate_issuing_key(
        &mut self,
        id: &AuthorityId,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let key = self.issuing_key(id).ok_or_else(|| unknown_key(id))?.clone();
        let done = Done::IssuingKeyActivated { key: id.clone() };
        match key.state {
            IssuingKeyState::Signing => return Ok(done),
            IssuingKeyState::Prepared => {}
        }
        if !crate::revocation::is_settled(self, &key, now) {
            return Err(Refusal::wrong_state(format!(
                "the CRL of key {id} is out since {}, which is not as long yet as crl_settle says (CRL-07)",
                key.recorded_at
            )));
        }
        events.push(Event::IssuingKeyActivated { member: key.member, key_id: id.clone() });
        self.issuing_keys.put(id.clone(), IssuingKey { state: IssuingKeyState::Signing, ..key });
        Ok(done)
    }

    /// Revokes keys whole: every certificate of them, in the CRL of each root that signed one, in one step (CRL-06).
    pub(super) fn revoke_issuing_keys(
        &mut self,
        keys: &[AuthorityId],
        root_crls: &[NewCrl],
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        if keys.len() > KEYS_PER_REVOCATION {
            return Err(Refusal::invalid(format!(
                "{} keys are to be revoked, the most is {KEYS_PER_REVOCATION}",
                keys.len()
            )));
        }
        if let Some(unknown) = keys.iter().find(|key| self.issuing_key(key).is_none()) {
            return Err(unknown_key(unknown));
        }
        let mut roots = BTreeMap::<AuthorityId, BTreeSet<SerialNumber>>::new();
        for issuing in keys.iter().flat_map(|key| self.certificates_of(key)) {
            if now <= issuing.validity.not_after()
                && self.x509_authority(&issuing.issuer).is_some_and(|root| root.state.in_bundle())
            {
                roots.entry(issuing.issuer.clone()).or_default().insert(issuing.serial);
            }
        }
        let mut checked = Vec::with_capacity(root_crls.len());
        for new in root_crls {
            let revoked = roots.remove(&new.issuer).ok_or_else(|| {
                Refusal::invalid(format!("the CRL of {} is here twice, or has nothing to do with it", new.issuer))
            })?;
            checked.push(self.check_root_crl(new, &revoked, now)?);
        }
        if let Some((missing, _)) = roots.first_key_value() {
            return Err(Refusal::invalid(format!("the CRL of root {missing} is not here (CRL-06)")));
        }
        for root in checked {
            self.keep_root(root, events);
        }
        let keys: BTreeSet<&AuthorityId> = keys.iter().collect();
        let certificates = self.revoke_where(now, events, |issuing| keys.contains(&issuing.key_id));
        Ok(Done::IssuingKeysRevoked { certificates })
    }

    fn keep_root(&mut self, root: X509Authority, events: &mut Vec<Event>) {
        events.push(Event::CrlRecorded { issuer: root.id.clone() });
        self.x509.put(root.id.clone(), root);
    }

    /// Brings the set of CRLs after what happened since this event, and says what became of it.
    pub(super) fn renew_crl_set(&mut self, first_event: usize, events: &mut Vec<Event>) {
        let mut touched = BTreeSet::new();
        for event in events.iter().skip(first_event) {
            if let Event::X509AuthorityChanged { id: issuer }
            | Event::IssuingCertificateChanged { member: _, key_id: issuer }
            | Event::CrlRecorded { issuer } = event
            {
                touched.insert(issuer.clone());
            }
        }
        let mut changed = false;
        for issuer in touched {
            let crl = self.crl_in_set(&issuer).cloned();
            if crl.as_ref() != self.all_crls().get(&issuer) {
                Arc::make_mut(&mut self.revocation_index.set).set(issuer, crl);
                changed = true;
            }
        }
        let (was_on, is_on) = (self.revocation_index.is_on, self.crls_are_on());
        if was_on != is_on {
            self.revocation_index.is_on = is_on;
            events.push(Event::CrlsSwitched { on: is_on });
        }
        if was_on != is_on || (is_on && changed) {
            events.push(Event::CrlSetChanged);
        }
    }

    /// Makes everything that follows from revocations anew, for a state that comes from a snapshot or a backup.
    pub(crate) fn rebuild_revocation_index(&mut self) {
        self.revocation_index = self.derived_revocation_index();
        self.revocation_index.is_on = self.crls_are_on();
    }
}

fn serials(crl: &ParsedCrl) -> BTreeSet<SerialNumber> {
    crl.revoked.iter().map(|listed| listed.serial).collect()
}

fn unknown_key(id: &AuthorityId) -> Refusal {
    Refusal::not_found(format!("there is no issuing key {id}"))
}

fn no_room(issuer: &AuthorityId, why: &str) -> Refusal {
    Refusal::new(RefusalCode::LimitReached, format!("{why}: revoke the whole key {issuer} (CRL-05)"))
}
