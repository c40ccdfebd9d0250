//! When the leader next has something to do for the authorities: computed from the state, so that nothing is polled.

use quorate_proto_identity::{UnixMillis, UnixSeconds};
use quorate_raft_machine::{
    AuthorityState, State,
    authority::{activate_at, gone_at, prepare_at, root_gone_at},
};

/// The first instant after `now` at which [`due`](quorate_raft_machine::due) can answer more than it does at `now`.
pub(crate) fn next_instant(state: &State, now: UnixSeconds) -> Option<UnixMillis> {
    let roots = state.x509_authorities().map(|root| (root.state, root.validity, root_gone_at(&root.validity)));
    let tokens = state.jwt_authorities().map(|key| (key.state, key.validity, gone_at(&key.validity)));
    let authorities = roots.chain(tokens).flat_map(|(state, validity, gone)| match state {
        AuthorityState::Active => [prepare_at(&validity), activate_at(&validity)],
        // A prepared one that has itself expired no longer counts, and another one is made.
        AuthorityState::Prepared => [validity.not_after().plus(1), gone],
        AuthorityState::Old | AuthorityState::Tainted | AuthorityState::Revoked => [gone, gone],
    });
    let issuing = state.issuing_certificates().map(|issuing| gone_at(&issuing.validity));
    let invitations = state.invitations().map(|invitation| invitation.invitation.expires_at);
    let entries = state.next_entry_expiry().map(|expiry| expiry.plus(1));
    authorities.chain(issuing).chain(invitations).chain(entries).filter(|at| *at > now).min().map(UnixSeconds::millis)
}
