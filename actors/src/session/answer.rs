//! What sessions are answered: complete states, shared by all sessions that want the same (WAPI-08).

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use quorate_proto_api::workload::{X509svid, X509svidResponse};
use quorate_proto_identity::{UnixMillis, UnixSeconds};
use quorate_raft_machine::entry::Entry;

use super::{identities::Identities, standing::Standing};
use crate::{bundles::BundleAnswers, issuer::svid::Svid};

/// What a stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// FetchX509SVID.
    X509Svids,
    /// FetchX509Bundles.
    X509Bundles,
    /// FetchJWTBundles.
    JwtBundles,
}

impl Kind {
    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X509Svids => "x509_svids",
            Self::X509Bundles => "x509_bundles",
            Self::JwtBundles => "jwt_bundles",
        }
    }
}

/// An answer to a session.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    X509Svids(Arc<X509Answer>),
    X509Bundles(Arc<BundleAnswers>),
    JwtBundles(Arc<BundleAnswers>),
}

/// All X509-SVIDs of a set of selectors.
#[derive(Debug)]
pub(crate) struct X509Answer {
    /// What goes out.
    pub(crate) response: X509svidResponse,
    /// What it was made for.
    pub(crate) identities: Arc<Identities>,
    /// When something about the SVIDs may next be due, in Unix milliseconds.
    due: AtomicI64,
    /// The end of the SVID that ends first.
    ends_at: UnixSeconds,
    svids: Vec<Arc<Svid>>,
    /// Under which roots they stand.
    standing: Arc<Standing>,
    /// The newest version of the bundle that it was found to be right beside.
    sequence: AtomicU64,
    roots_since: u64,
    /// How often SVIDs had been withdrawn before these were read.
    pub(crate) withdrawals: u64,
}

impl X509Answer {
    /// Puts an answer together; `svids` are those of the identities, in their order, as far as they have room.
    pub(crate) fn new(
        identities: Arc<Identities>,
        svids: Vec<(Arc<Entry>, Arc<Svid>)>,
        bundle: &BundleAnswers,
        withdrawals: u64,
    ) -> Self {
        let of = |(entry, svid): &(Arc<Entry>, Arc<Svid>)| X509svid {
            spiffe_id: entry.spiffe_id.as_str().to_owned(),
            x509_svid: svid.chain.clone(),
            x509_svid_key: svid.key.clone(),
            bundle: bundle.roots.clone(),
            hint: entry.hint.clone(),
        };
        let response = X509svidResponse {
            svids: svids.iter().map(of).collect(),
            crl: bundle.crls_for(svids.iter().map(|(entry, _)| entry.as_ref())),
            ..X509svidResponse::default()
        };
        let svids: Vec<Arc<Svid>> = svids.into_iter().map(|(_, svid)| svid).collect();
        let standing = Standing::of(&svids);
        let ends = svids.iter().map(|svid| svid.granted.validity.not_after());
        let ends_at = ends.min().unwrap_or(UnixSeconds(i64::MAX));
        let (due, sequence) = (AtomicI64::new(i64::MAX), AtomicU64::new(bundle.sequence));
        let roots_since = bundle.roots_since;
        Self { response, due, ends_at, svids, standing, sequence, roots_since, identities, withdrawals }
    }

    /// Notes when the SVIDs are next to be looked at: the first renewal after `looked_at`, the instant since when all of
    /// them were found not to be due. One whose renewal had come then was not worth it, because the issuer nears its own
    /// end: it waits for another issuer, or for its own end. And notes the bundle beside which all of them may stand.
    pub(crate) fn look_ahead(&self, looked_at: UnixMillis, bundle: &BundleAnswers) {
        self.sequence.fetch_max(bundle.sequence, Ordering::AcqRel);
        let next = |svid: &Arc<Svid>| {
            if svid.renew_at > looked_at { svid.renew_at } else { svid.granted.validity.not_after().plus(1).millis() }
        };
        let due = self.svids.iter().map(next).min().unwrap_or(UnixMillis(i64::MAX));
        self.due.store(due.0, Ordering::Release);
    }

    /// When something about the SVIDs may next be due.
    pub(crate) fn due(&self) -> UnixMillis {
        UnixMillis(self.due.load(Ordering::Acquire))
    }

    /// Whether none of its SVIDs has ended.
    pub(crate) fn is_valid_at(&self, now: UnixSeconds) -> bool {
        now <= self.ends_at
    }

    /// The newest version of the bundle that it was found to be right beside.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    /// Under which roots its SVIDs stand.
    pub(crate) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Whether nothing in it is to be replaced by what this bundle says (INV-06).
    pub(crate) fn stands_in(&self, bundle: &BundleAnswers) -> bool {
        self.sequence() == bundle.sequence
            || self.standing.all(|root| !bundle.replaces(root)) && self.standing.all_keys(|key| bundle.may_issue(key))
    }

    /// Whether it carries the roots of this bundle.
    pub(crate) fn has_roots_of(&self, bundle: &BundleAnswers) -> bool {
        self.roots_since >= bundle.roots_since
    }

    /// Whether it was made of the same parts.
    pub(crate) fn is_made_of(
        &self,
        identities: &Arc<Identities>,
        svids: &[(Arc<Entry>, Arc<Svid>)],
        bundle: &BundleAnswers,
        withdrawals: u64,
    ) -> bool {
        self.withdrawals == withdrawals
            && self.roots_since == bundle.roots_since
            && Arc::ptr_eq(&self.identities, identities)
            && self.svids.len() == svids.len()
            && self.svids.iter().zip(svids).all(|(a, (_, b))| Arc::ptr_eq(a, b))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An answer that is told from others by its number.
    pub(crate) fn answer(number: u64) -> Answer {
        Answer::X509Bundles(Arc::new(BundleAnswers::empty(number)))
    }
}
