//! Founding: the one command that comes before all others.

use quorate_proto_identity::{MemberNumber, UnixSeconds};

use super::{certificates, members};
use crate::authority::{AuthorityState, AuthorityTimes, JwtAuthority, Recipient, X509Authority};
use crate::command::Found;
use crate::event::Event;
use crate::members::MemberRole;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::state::{Cluster, PolicyRecord, State};
use crate::versions;

impl State {
    /// Founds the authority: everything is checked before anything is changed.
    pub(super) fn found(&mut self, found: &Found, now: UnixSeconds, events: &mut Vec<Event>) -> OperationResult {
        if let Some(cluster) = self.cluster() {
            return Err(Refusal::new(
                RefusalCode::AlreadyFounded,
                format!("trust domain {} has been founded already, as cluster {}", cluster.trust_domain, cluster.id),
            ));
        }
        found.policy.check().map_err(|error| Refusal::invalid(error.to_string()))?;
        members::check_record(&found.member)?;
        if found.member.sealing_key.is_empty() {
            return Err(Refusal::invalid("the founder's sealing_key is empty, so nothing can be sealed to it"));
        }
        if found.member.role != MemberRole::Voter {
            return Err(Refusal::invalid("the founder must be a voter: there is no other yet"));
        }
        let is_founder = |recipient: &Recipient| {
            let first = MemberNumber::new(self.counters().next_member_number).map(Recipient::Member);
            if first.as_ref() == Some(recipient) {
                return Ok(());
            }
            Err(Refusal::invalid(format!("the private key is sealed to {recipient}, which is not the founder")))
        };
        found.x509_authority.sealed.check(is_founder)?;
        found.jwt_authority.sealed.check(is_founder)?;
        let root = certificates::check_root(&found.x509_authority, &found.policy, &found.trust_domain)?;
        certificates::check_jwt_key(&found.jwt_authority, &found.policy)?;
        let member = self.new_member(&found.member)?;
        let times = AuthorityTimes { prepared_at: now, activated_at: Some(now), ..AuthorityTimes::default() };

        self.cluster.put(
            (),
            Cluster {
                id: found.cluster_id,
                trust_domain: found.trust_domain.clone(),
                epoch: 1,
                version: versions::FIRST,
                founded_at: now,
            },
        );
        self.registry.found(&found.trust_domain);
        self.policy.put((), PolicyRecord { revision: 1, policy: found.policy });
        self.x509.put(
            root.id.clone(),
            X509Authority {
                id: root.id.clone(),
                certificate: found.x509_authority.certificate.clone(),
                crl: found.x509_authority.crl.clone(),
                crl_keeps_until: None,
                validity: root.validity,
                state: AuthorityState::Active,
                times,
                sealed: Some(found.x509_authority.sealed.clone()),
            },
        );
        self.jwt.put(
            found.jwt_authority.id.clone(),
            JwtAuthority {
                id: found.jwt_authority.id.clone(),
                public_key: found.jwt_authority.public_key.clone(),
                validity: found.jwt_authority.validity,
                state: AuthorityState::Active,
                times,
                sealed: Some(found.jwt_authority.sealed.clone()),
            },
        );
        let number = member.number;
        self.members.put(number, member);
        events.extend([
            Event::Founded,
            Event::PolicyChanged,
            Event::MemberChanged { number },
            Event::X509AuthorityChanged { id: root.id },
            Event::JwtAuthorityChanged { id: found.jwt_authority.id.clone() },
        ]);
        Ok(Done::Founded { member: number })
    }
}
