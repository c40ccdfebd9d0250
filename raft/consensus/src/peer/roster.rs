//! Which key belongs to which member, and whether it may speak.
//!
//! Three sources, of which the first that knows a member decides:
//!
//! ```text
//!   1  the applied state        members by number; one that has gone is refused, whoever else vouches for it
//!   2  the answer to Join       until the state says more
//!   3  another member's word    for keys that this node has not applied the admission of yet (design section 4)
//! ```
//!
//! The table is a copy beside the state, made anew when members changed, so that no call waits for `apply`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_proto_api::peer::Sender;
use quorate_raft_machine::State;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{joining::KnownPeer, limits::VOUCHED_KEYS_MAX, membership::RaftNode};

/// How long another member's word counts. Long enough to catch up with the log; a key that is still unknown then is
/// asked about again.
pub(crate) const VOUCHED_FOR: Duration = Duration::from_secs(60);

/// What is known of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    key: Bytes,
    name: String,
    addresses: Vec<String>,
    has_gone: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
struct Table {
    /// By the applied state.
    members: BTreeMap<u64, Known>,
    /// By the answer to Join.
    first: BTreeMap<u64, Known>,
    /// By another member's word: key, number, until when.
    vouched: BTreeMap<Bytes, (u64, Instant)>,
    state_epoch: u64,
    first_epoch: u64,
}

/// Why a caller is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The call does not say who sends it.
    #[error("the call names no sender")]
    NoSender,
    /// ATK-27.
    #[error("the call is for another cluster")]
    OtherCluster,
    /// The sender slept through a recovery, or this node did (design section 4, "Lost quorum").
    #[error("the call is for epoch {theirs} and this cluster is in epoch {ours}: the member has to join anew")]
    OtherEpoch {
        /// The caller's.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// ATK-25.
    #[error("the key of the connection is not that of member {member}")]
    OtherKey {
        /// Who the caller says it is.
        member: u64,
    },
    /// It was removed.
    #[error("member {member} has been removed from the cluster")]
    Gone {
        /// Who.
        member: u64,
    },
    /// This node belongs to no cluster.
    #[error("this node belongs to no cluster yet")]
    NoCluster,
}

/// The table, and who waits for it to change.
#[derive(Debug)]
pub(crate) struct Roster {
    table: watch::Sender<Table>,
}

impl Roster {
    /// Knows nobody.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { table: watch::Sender::new(Table::default()) })
    }

    /// Takes over what the state says of members.
    pub(crate) fn refresh(&self, state: &State) {
        let members = state.members().map(|member| {
            let record = &member.record;
            let known = Known {
                key: record.identity_key.clone(),
                name: record.name.as_str().to_owned(),
                addresses: record.addresses.clone(),
                has_gone: record.status.has_gone(),
            };
            (member.number.get(), known)
        });
        let members: BTreeMap<u64, Known> = members.collect();
        let epoch = state.cluster().map_or(0, |cluster| cluster.epoch);
        self.table.send_if_modified(|table| {
            let changed = table.members != members || table.state_epoch != epoch;
            if changed {
                // What the state says, nobody needs to vouch for any more.
                table.vouched.retain(|_, (number, _)| !members.contains_key(number));
                table.members = members;
                table.state_epoch = epoch;
            }
            changed
        });
    }

    /// Takes over what the answer to Join said.
    pub(crate) fn begin_with(&self, epoch: u64, peers: &[KnownPeer]) {
        self.table.send_modify(|table| {
            table.first_epoch = epoch;
            table.first = peers.iter().map(|peer| (peer.member.get(), Known::from(peer))).collect();
        });
    }

    /// Another member vouches for a key.
    pub(crate) fn vouch(&self, key: Bytes, member: u64, now: Instant) {
        self.table.send_modify(|table| {
            table.vouched.retain(|_, (_, until)| *until > now);
            if table.vouched.len() < VOUCHED_KEYS_MAX {
                table.vouched.insert(key, (member, now + VOUCHED_FOR));
            }
        });
    }

    /// The cluster's epoch, as far as this node knows.
    pub(crate) fn epoch(&self) -> u64 {
        let table = self.table.borrow();
        table.state_epoch.max(table.first_epoch)
    }

    /// Whether this member was removed.
    pub(crate) fn has_gone(&self, member: u64) -> bool {
        self.table.borrow().members.get(&member).is_some_and(|known| known.has_gone)
    }

    /// The member that has this key and may speak, by what is applied here: what this node vouches for.
    pub(crate) fn applied_member_with(&self, key: &[u8]) -> Option<u64> {
        let table = self.table.borrow();
        table.members.iter().find(|(_, known)| known.key == key && !known.has_gone).map(|(number, _)| *number)
    }

    /// Whether a connection of this key may stay: its owner is known, or vouched for.
    pub(crate) fn admits(&self, key: &[u8], now: Instant) -> bool {
        self.table.borrow().admits(key, now)
    }

    /// Waits until a key may not stay any more: its owner was removed, or nobody's word counts for it any longer. The
    /// peer dials again then, and is asked about anew.
    pub(crate) async fn refused(self: Arc<Self>, key: Bytes) {
        let mut table = self.table.subscribe();
        loop {
            let word_ends = {
                let table = table.borrow_and_update();
                if !table.admits(&key, Instant::now()) {
                    return;
                }
                table.word_ends(&key)
            };
            let expired = async {
                match word_ends {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // The sender lives as long as `self`.
                _changed = table.changed() => {}
                () = expired => {}
            }
        }
    }

    /// Waits until the table changes.
    pub(crate) fn changes(&self) -> watch::Receiver<impl Sized + use<>> {
        self.table.subscribe()
    }

    /// Decides whether the owner of `key` may say what it says as `sender` (ATK-25, ATK-27).
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub(crate) fn authenticate(
        &self,
        own: Option<quorate_raft_store::WalIdentity>,
        key: &[u8],
        sender: Option<&Sender>,
    ) -> Result<u64, Refusal> {
        let sender = sender.ok_or(Refusal::NoSender)?;
        let own = own.ok_or(Refusal::NoCluster)?;
        if sender.cluster != own.cluster.as_slice() {
            return Err(Refusal::OtherCluster);
        }
        let table = self.table.borrow();
        let ours = table.state_epoch.max(table.first_epoch);
        if sender.epoch != ours {
            return Err(Refusal::OtherEpoch { theirs: sender.epoch, ours });
        }
        table.owns(sender.member, key, Instant::now()).map(|()| sender.member)
    }

    /// Key and addresses of a member that has not gone.
    pub(crate) fn reach(&self, member: u64) -> Option<(Bytes, Vec<String>)> {
        let table = self.table.borrow();
        let known = table.members.get(&member).or_else(|| table.first.get(&member))?;
        (!known.has_gone).then(|| (known.key.clone(), known.addresses.clone()))
    }

    /// A member as Raft's membership names it.
    pub(crate) fn raft_node(&self, member: u64) -> Option<RaftNode> {
        let table = self.table.borrow();
        let known = table.members.get(&member).filter(|known| !known.has_gone)?;
        Some(RaftNode { name: known.name.clone(), addresses: known.addresses.clone() })
    }

    /// The members that can be asked, but for this one.
    pub(crate) fn others(&self, own: u64) -> Vec<u64> {
        let table = self.table.borrow();
        let known = if table.members.is_empty() { &table.first } else { &table.members };
        known.iter().filter(|(number, known)| **number != own && !known.has_gone).map(|(number, _)| *number).collect()
    }
}

impl Table {
    /// Whether `key` is that of `member`, which may speak.
    fn owns(&self, member: u64, key: &[u8], now: Instant) -> Result<(), Refusal> {
        if let Some(known) = self.members.get(&member) {
            return if known.has_gone {
                Err(Refusal::Gone { member })
            } else if known.key == key {
                Ok(())
            } else {
                Err(Refusal::OtherKey { member })
            };
        }
        let told = self.first.get(&member).is_some_and(|known| known.key == key);
        let vouched = || self.vouched.get(key).is_some_and(|(number, until)| *number == member && *until > now);
        if told || vouched() { Ok(()) } else { Err(Refusal::OtherKey { member }) }
    }

    /// The member that has this key by the state, or else by the answer to Join.
    fn settled(&self, key: &[u8]) -> Option<u64> {
        let of = |known: &BTreeMap<u64, Known>| {
            known.iter().find(|(_, known)| known.key == key && !known.has_gone).map(|(number, _)| *number)
        };
        of(&self.members).or_else(|| of(&self.first).filter(|number| !self.members.contains_key(number)))
    }

    /// Until when a key may stay that is admitted on another member's word alone.
    fn word_ends(&self, key: &[u8]) -> Option<Instant> {
        if self.settled(key).is_some() {
            return None;
        }
        self.vouched.get(key).map(|(_, until)| *until)
    }

    fn admits(&self, key: &[u8], now: Instant) -> bool {
        let vouched =
            || self.vouched.get(key).is_some_and(|(number, until)| *until > now && !self.members.contains_key(number));
        self.settled(key).is_some() || vouched()
    }
}

impl From<&KnownPeer> for Known {
    fn from(peer: &KnownPeer) -> Self {
        Self { key: peer.key.clone(), name: peer.name.clone(), addresses: peer.addresses.clone(), has_gone: false }
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto_identity::MemberNumber;
    use quorate_raft_store::WalIdentity;

    use super::*;

    const OWN: WalIdentity = WalIdentity { cluster: [3; 16], member: 1 };

    fn key(number: u64) -> Bytes {
        Bytes::from(format!("key {number}"))
    }

    fn sender(member: u64) -> Sender {
        Sender { cluster: Bytes::from_static(&[3; 16]), epoch: 4, member }
    }

    fn known(number: u64, has_gone: bool) -> (u64, Known) {
        (number, Known { key: key(number), name: format!("node-{number}"), addresses: Vec::new(), has_gone })
    }

    /// Member 2 is admitted, member 3 was removed; member 4 was named by the answer to Join.
    fn roster() -> Arc<Roster> {
        let roster = Roster::new();
        let peer = |number| KnownPeer {
            member: MemberNumber::new(number).unwrap(),
            name: format!("node-{number}"),
            key: key(number),
            addresses: Vec::new(),
        };
        roster.begin_with(4, &[peer(3), peer(4)]);
        roster.table.send_modify(|table| table.members = BTreeMap::from([known(2, false), known(3, true)]));
        roster
    }

    #[test]
    fn a_member_speaks_in_its_own_name_for_its_cluster_and_epoch_alone_atk_25_atk_27() {
        let roster = roster();
        let ask = |own, key: Bytes, sender: Option<Sender>| roster.authenticate(own, &key, sender.as_ref());
        assert_eq!(ask(Some(OWN), key(2), Some(sender(2))), Ok(2));
        assert_eq!(ask(Some(OWN), key(2), None), Err(Refusal::NoSender));
        assert_eq!(ask(None, key(2), Some(sender(2))), Err(Refusal::NoCluster));
        assert_eq!(ask(Some(OWN), key(2), Some(sender(4))), Err(Refusal::OtherKey { member: 4 }));
        assert_eq!(ask(Some(OWN), key(9), Some(sender(9))), Err(Refusal::OtherKey { member: 9 }));
        let other = Sender { cluster: Bytes::from_static(&[4; 16]), ..sender(2) };
        assert_eq!(ask(Some(OWN), key(2), Some(other)), Err(Refusal::OtherCluster));
        let other = Sender { epoch: 5, ..sender(2) };
        assert_eq!(ask(Some(OWN), key(2), Some(other)), Err(Refusal::OtherEpoch { theirs: 5, ours: 4 }));
    }

    #[test]
    fn the_state_decides_over_what_was_told_and_who_is_vouched_for_atk_27() {
        let roster = roster();
        let ask = |number: u64| roster.authenticate(Some(OWN), &key(number), Some(&sender(number)));
        assert_eq!(ask(4), Ok(4), "told at joining");
        assert_eq!(ask(3), Err(Refusal::Gone { member: 3 }), "told at joining, and removed since");
        roster.vouch(key(3), 3, Instant::now());
        assert_eq!(ask(3), Err(Refusal::Gone { member: 3 }), "nobody vouches for one that was removed");
        assert!(!roster.admits(&key(3), Instant::now()));
        roster.vouch(key(5), 5, Instant::now());
        assert_eq!(ask(5), Ok(5));
        assert!(roster.admits(&key(5), Instant::now()));
        assert!(!roster.admits(&key(5), Instant::now() + VOUCHED_FOR), "a word counts for a while only");
        assert_eq!(roster.applied_member_with(&key(5)), None, "who was vouched for is not vouched for in turn");
        assert_eq!(roster.applied_member_with(&key(2)), Some(2));
        assert_eq!(roster.applied_member_with(&key(3)), None);
    }

    #[test]
    fn so_many_keys_can_be_vouched_for_and_no_more() {
        let roster = roster();
        for number in 100..100 + VOUCHED_KEYS_MAX as u64 + 5 {
            roster.vouch(key(number), number, Instant::now());
        }
        assert_eq!(roster.table.borrow().vouched.len(), VOUCHED_KEYS_MAX);
    }

    /// Otherwise it would stay open with every call on it refused, and its owner would never be asked about again.
    #[tokio::test(start_paused = true)]
    async fn a_connection_is_refused_when_the_word_for_its_key_counts_no_more_atk_25() {
        let roster = roster();
        let began = Instant::now();
        roster.vouch(key(5), 5, began);
        let refused = tokio::spawn(Arc::clone(&roster).refused(key(5)));
        tokio::time::timeout(VOUCHED_FOR * 2, refused).await.unwrap().unwrap();
        assert!(began.elapsed() >= VOUCHED_FOR);
        // Once the state knows the member, nobody's word matters.
        roster.vouch(key(6), 6, Instant::now());
        let refused = tokio::spawn(Arc::clone(&roster).refused(key(6)));
        roster.table.send_modify(|table| drop(table.members.insert(6, known(6, false).1)));
        assert!(tokio::time::timeout(VOUCHED_FOR * 2, refused).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_is_refused_from_the_moment_its_owner_is_removed_atk_27() {
        let roster = roster();
        let refused = tokio::spawn(Arc::clone(&roster).refused(key(2)));
        tokio::task::yield_now().await;
        assert!(!refused.is_finished());
        roster.table.send_modify(|table| table.members = BTreeMap::from([known(2, true)]));
        tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap().unwrap();
    }
}
