//! Foreign trust domains: relationships, their bundles, and what becomes of entries when a bundle goes.

pub(crate) mod check;

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_proto_identity::{Bundle, TrustDomain, UnixSeconds};

use self::check::{check_bundle, check_relationship};
use crate::entry::EntryChange;
use crate::event::Event;
use crate::federation::{
    ENTRIES_PER_BUNDLE_DELETION, FOREIGN_BUNDLES_BYTES_LIMIT, FOREIGN_BUNDLES_LIMIT, ForeignBundle, ForeignDeletion,
    ForeignOrigin, NewForeignBundle, NewRelationship, RELATIONSHIPS_LIMIT, Relationship, RelationshipChange,
    SecretName, SetHow, bundle_bytes,
};
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::registry::{EntryFilter, MatchMode};
use crate::state::State;

impl State {
    /// Makes a relationship, and puts the bundle to begin with in place: both, or neither.
    pub(super) fn create_relationship(
        &mut self,
        new: &NewRelationship,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let NewRelationship { trust_domain, endpoint, pins, poll, origin, bundle } = new;
        self.check_foreign(trust_domain)?;
        if self.relationship(trust_domain).is_some() {
            return Err(Refusal::new(
                RefusalCode::AlreadyExists,
                format!(
                    "there is a relationship with trust domain {trust_domain} already: change it, or delete it first"
                ),
            ));
        }
        if self.relationships.len() >= RELATIONSHIPS_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!("there are {RELATIONSHIPS_LIMIT} relationships already, which is the most"),
            ));
        }
        let relationship = Relationship {
            trust_domain: trust_domain.clone(),
            endpoint: endpoint.clone(),
            pins: pins.clone(),
            poll: *poll,
            origin: origin.clone(),
            revision: 0,
            created_at: now,
            changed_at: now,
        };
        check_relationship(&relationship)?;
        if let Some(bundle) = bundle {
            if bundle.trust_domain() != trust_domain {
                return Err(Refusal::invalid(format!(
                    "the bundle of a relationship with trust domain {trust_domain} is that of {}",
                    bundle.trust_domain()
                )));
            }
            self.override_foreign(bundle, now, events)?;
        }
        Ok(self.put_relationship(relationship, events))
    }

    /// Changes what is given of a relationship.
    pub(super) fn update_relationship(
        &mut self,
        trust_domain: &TrustDomain,
        change: &RelationshipChange,
        expected_revision: u64,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let known = self.known_relationship(trust_domain)?.clone();
        if expected_revision != 0 && expected_revision != known.revision {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                format!(
                    "the relationship with {trust_domain} was changed meanwhile: it has revision {}, the change was made \
                     from {expected_revision}",
                    known.revision
                ),
            ));
        }
        let RelationshipChange { endpoint, pins, poll, origin } = change;
        let changed = Relationship {
            endpoint: endpoint.clone().unwrap_or_else(|| known.endpoint.clone()),
            pins: pins.clone().unwrap_or_else(|| known.pins.clone()),
            poll: poll.unwrap_or(known.poll),
            origin: origin.clone().unwrap_or_else(|| known.origin.clone()),
            ..known.clone()
        };
        check_relationship(&changed)?;
        if changed == known {
            return Ok(Done::RelationshipSet { trust_domain: trust_domain.clone(), revision: known.revision });
        }
        Ok(self.put_relationship(Relationship { changed_at: now, ..changed }, events))
    }

    /// Ends a relationship: its foreign bundle goes with it, and so do the secrets that were for it (FED-48).
    pub(super) fn delete_relationship(
        &mut self,
        trust_domain: &TrustDomain,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        self.known_relationship(trust_domain)?;
        self.relationships.remove(trust_domain);
        events.push(Event::RelationshipChanged { trust_domain: trust_domain.clone() });
        let secrets: Vec<SecretName> =
            self.secrets().map(|secret| &secret.name).filter(|name| name.belongs_to(trust_domain)).cloned().collect();
        for name in secrets {
            self.secrets.remove(&name);
            events.push(Event::SecretChanged { name });
        }
        let bundle = self.withdraw_foreign(trust_domain, events);
        Ok(Done::RelationshipDeleted { trust_domain: trust_domain.clone(), bundle })
    }

    /// Puts a foreign bundle in place.
    pub(super) fn set_foreign_bundle(
        &mut self,
        new: &NewForeignBundle,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let NewForeignBundle { bundle, how } = new;
        let trust_domain = bundle.trust_domain();
        self.check_foreign(trust_domain)?;
        let known = self.foreign_bundle(trust_domain);
        match *how {
            SetHow::Fetched { relationship_revision, accept_older } => {
                let floor = known.and_then(|known| known.fetched_sequence);
                let fetched_sequence = self.check_fetched(bundle, floor, relationship_revision, accept_older)?;
                self.put_foreign(bundle, ForeignOrigin::Fetched, fetched_sequence, now, events)
            }
            SetHow::Create if known.is_some() => Err(Refusal::new(
                RefusalCode::AlreadyExists,
                format!("there is a bundle of trust domain {trust_domain} already"),
            )),
            SetHow::Update(fields) => {
                let known = known.ok_or_else(|| no_bundle(trust_domain))?;
                let bundle = fields.taken_over(bundle, &known.bundle);
                self.override_foreign(&bundle, now, events)
            }
            SetHow::Create | SetHow::Set => self.override_foreign(bundle, now, events),
        }
    }

    /// Checks a bundle that was fetched, and answers the floor from here on: no fetched one with a lower sequence number
    /// is taken after it (ATK-39, XB-25). The same number with other content is taken (XB-26), and so is one without
    /// (FED-09: the one retrieved last is current).
    fn check_fetched(
        &self,
        bundle: &Bundle,
        floor: Option<u64>,
        relationship_revision: u64,
        accept_older: bool,
    ) -> Result<Option<u64>, Refusal> {
        let trust_domain = bundle.trust_domain();
        let relationship = self.known_relationship(trust_domain)?;
        if relationship.revision != relationship_revision {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                format!(
                    "the bundle was fetched by revision {relationship_revision} of the relationship with {trust_domain}, \
                     which has revision {}: fetch it again",
                    relationship.revision
                ),
            ));
        }
        match (bundle.sequence(), floor) {
            (fetched, _) if accept_older => Ok(fetched),
            (Some(fetched), Some(floor)) if fetched < floor => Err(Refusal::wrong_state(format!(
                "the bundle of {trust_domain} has sequence number {fetched}, and {floor} was fetched before: the one that \
                 is held stays. If the peer was rebuilt, `quorate federation refresh --accept-older` takes it"
            ))),
            (fetched, floor) => Ok(fetched.or(floor)),
        }
    }

    /// Puts an operator's bundle in place. It stands until the next one that is fetched, whose floor it leaves alone
    /// (FED-10, ATK-39).
    fn override_foreign(&mut self, bundle: &Bundle, now: UnixSeconds, events: &mut Vec<Event>) -> OperationResult {
        let floor = self.foreign_bundle(bundle.trust_domain()).and_then(|known| known.fetched_sequence);
        self.put_foreign(bundle, ForeignOrigin::Operator, floor, now, events)
    }

    fn put_foreign(
        &mut self,
        bundle: &Bundle,
        origin: ForeignOrigin,
        fetched_sequence: Option<u64>,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let trust_domain = bundle.trust_domain().clone();
        check_bundle(bundle)?;
        let known = self.foreign_bundle(&trust_domain).map(Arc::clone);
        let same = |known: &&Arc<ForeignBundle>| {
            known.bundle.sequence() == bundle.sequence() && known.bundle.has_contents_of(bundle)
        };
        if let Some(known) = known.as_ref().filter(same) {
            let version = known.version;
            let noted = ForeignBundle { origin, fetched_sequence, ..ForeignBundle::clone(known) };
            if noted != **known {
                self.foreign.put(trust_domain.clone(), noted);
            }
            return Ok(Done::ForeignBundleSet { trust_domain, version, changed: false });
        }
        self.check_room(bundle, known.as_deref())?;
        let version = self.next_foreign_version();
        let foreign = ForeignBundle {
            trust_domain: trust_domain.clone(),
            bundle: Arc::new(bundle.clone()),
            origin,
            fetched_sequence,
            changed_at: now,
            version,
        };
        self.foreign.put(trust_domain.clone(), foreign);
        events.push(Event::ForeignBundleChanged { trust_domain: trust_domain.clone() });
        Ok(Done::ForeignBundleSet { trust_domain, version, changed: true })
    }

    fn check_room(&self, bundle: &Bundle, known: Option<&ForeignBundle>) -> Result<(), Refusal> {
        if known.is_none() && self.foreign.len() >= FOREIGN_BUNDLES_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!("there are {FOREIGN_BUNDLES_LIMIT} foreign bundles already, which is the most"),
            ));
        }
        let held = self.foreign_bundles().map(|held| bundle_bytes(&held.bundle)).fold(0, usize::saturating_add);
        let freed = known.map_or(0, |known| bundle_bytes(&known.bundle));
        let total = held.saturating_sub(freed).saturating_add(bundle_bytes(bundle));
        if total > FOREIGN_BUNDLES_BYTES_LIMIT {
            return Err(Refusal::new(
                RefusalCode::LimitReached,
                format!(
                    "all foreign bundles together would have {total} bytes with that of {}, the most is \
                     {FOREIGN_BUNDLES_BYTES_LIMIT}",
                    bundle.trust_domain()
                ),
            ));
        }
        Ok(())
    }

    /// Deletes a foreign bundle, and does with the entries that federate with it what the mode says. So many are changed
    /// at once, and the bundle goes with the last of them.
    pub(super) fn delete_foreign_bundle(
        &mut self,
        trust_domain: &TrustDomain,
        mode: ForeignDeletion,
        now: UnixSeconds,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        self.check_foreign(trust_domain)?;
        if self.foreign_bundle(trust_domain).is_none() {
            return Err(no_bundle(trust_domain));
        }
        let federating = EntryFilter {
            federates_with: Some((BTreeSet::from([trust_domain.clone()]), MatchMode::Superset)),
            ..EntryFilter::default()
        };
        let found = self.list(&federating, 0, ENTRIES_PER_BUNDLE_DELETION.saturating_add(1));
        if let (ForeignDeletion::Restrict, Some(entry)) = (mode, found.first()) {
            return Err(Refusal::wrong_state(format!(
                "entries federate with trust domain {trust_domain}, {} among them: delete or unlink them first, or ask for \
                 one of both with the bundle",
                entry.id
            )));
        }
        let more = found.len() > ENTRIES_PER_BUNDLE_DELETION;
        let mut entries = 0_u64;
        for entry in found.into_iter().take(ENTRIES_PER_BUNDLE_DELETION) {
            match mode {
                ForeignDeletion::Restrict => {}
                ForeignDeletion::Delete => drop(self.delete_entry(&entry.id, None, now, events)?),
                ForeignDeletion::Dissociate => {
                    let mut federates_with = entry.federates_with.clone();
                    federates_with.remove(trust_domain);
                    let change = EntryChange { federates_with: Some(federates_with), ..EntryChange::default() };
                    drop(self.update_entry(&entry.id, &change, events)?);
                }
            }
            entries = entries.saturating_add(1);
        }
        if !more {
            self.withdraw_foreign(trust_domain, events);
        }
        Ok(Done::ForeignBundleDeleted { trust_domain: trust_domain.clone(), entries, more })
    }

    /// Takes a foreign bundle away, and says whether there was one.
    fn withdraw_foreign(&mut self, trust_domain: &TrustDomain, events: &mut Vec<Event>) -> bool {
        let was_there = self.foreign.remove(trust_domain).is_some();
        if was_there {
            self.next_foreign_version();
            events.push(Event::ForeignBundleChanged { trust_domain: trust_domain.clone() });
        }
        was_there
    }

    fn put_relationship(&mut self, relationship: Relationship, events: &mut Vec<Event>) -> Done {
        let trust_domain = relationship.trust_domain.clone();
        let revision = self.next_federation_revision();
        self.relationships.put(trust_domain.clone(), Relationship { revision, ..relationship });
        events.push(Event::RelationshipChanged { trust_domain: trust_domain.clone() });
        Done::RelationshipSet { trust_domain, revision }
    }

    /// The next number of the counter of foreign bundles' changes.
    fn next_foreign_version(&mut self) -> u64 {
        let mut counters = self.counters();
        counters.foreign_version = counters.foreign_version.saturating_add(1);
        self.counters.put((), counters);
        counters.foreign_version
    }

    /// The next revision of any relationship or secret.
    pub(super) fn next_federation_revision(&mut self) -> u64 {
        let mut counters = self.counters();
        counters.federation_revision = counters.federation_revision.saturating_add(1);
        self.counters.put((), counters);
        counters.federation_revision
    }

    fn known_relationship(&self, trust_domain: &TrustDomain) -> Result<&Relationship, Refusal> {
        self.relationships
            .get(trust_domain)
            .ok_or_else(|| Refusal::not_found(format!("there is no relationship with trust domain {trust_domain}")))
    }

    /// A trust domain never federates with itself (SF-04).
    fn check_foreign(&self, trust_domain: &TrustDomain) -> Result<(), Refusal> {
        if *trust_domain != self.trust_domain()? {
            return Ok(());
        }
        Err(Refusal::invalid(format!("{trust_domain} is our own trust domain: give the name of a foreign one")))
    }
}

fn no_bundle(trust_domain: &TrustDomain) -> Refusal {
    Refusal::not_found(format!("there is no bundle of trust domain {trust_domain}"))
}
