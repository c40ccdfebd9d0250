//! What sessions are answered: complete states, shared by all sessions that want the same (WAPI-08).

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use parking_lot::Mutex;
use quorate_proto_api::workload::{JwtBundlesResponse, X509BundlesResponse, X509svid, X509svidResponse};
use quorate_proto_identity::{UnixMillis, UnixSeconds};
use quorate_raft_machine::entry::Entry;

use super::{identities::Identities, standing::Standing};
use crate::{
    bundles::{BundleAnswers, TakesCrls, foreign::ForeignSet},
    issuer::svid::Svid,
};

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
    X509Bundles(Arc<CallersBundles>),
    JwtBundles(Arc<CallersBundles>),
}

/// The bundles that callers of one kind get: ours, and those of the trust domains that their entries federate with.
#[derive(Debug)]
pub(crate) struct CallersBundles {
    pub(crate) own: Arc<BundleAnswers>,
    pub(crate) foreign: Arc<ForeignSet>,
    /// What FetchX509Bundles answers.
    pub(crate) x509: Arc<X509BundlesResponse>,
    /// What FetchJWTBundles answers.
    pub(crate) jwt: Arc<JwtBundlesResponse>,
    pub(crate) takes_crls: TakesCrls,
}

impl CallersBundles {
    /// Those of callers with these identities.
    pub(crate) fn new(identities: &Identities, own: Arc<BundleAnswers>, foreign: Arc<ForeignSet>) -> Self {
        let takes_crls = TakesCrls::of(identities.entries.iter().map(AsRef::as_ref), &foreign);
        // Callers who federate with nobody are many, and share one answer.
        let (x509, jwt) = if identities.federates_with.is_empty() {
            (Arc::clone(&own.x509), Arc::clone(&own.jwt))
        } else {
            (own.x509_with(&foreign, takes_crls), own.jwt_with(&foreign))
        };
        Self { own, foreign, x509, jwt, takes_crls }
    }

    /// Bundles of nobody but us, of which only the number counts.
    #[cfg(test)]
    pub(crate) fn empty(number: u64) -> Self {
        let own = Arc::new(BundleAnswers::empty(number));
        let (x509, jwt) = (Arc::clone(&own.x509), Arc::clone(&own.jwt));
        let foreign = Arc::<ForeignSet>::default();
        let takes_crls = TakesCrls::of(std::iter::empty(), &foreign);
        Self { own, foreign, x509, jwt, takes_crls }
    }
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
    /// The foreign bundles in it, as they were last found to be so.
    foreign: Mutex<Arc<ForeignSet>>,
    pub(crate) takes_crls: TakesCrls,
    /// The newest version of the bundle that it was found to be right beside.
    sequence: AtomicU64,
    /// The number since which the roots and the CRLs of the bundle are those in it, or are not for it.
    roots_since: AtomicU64,
    /// How often SVIDs had been withdrawn before these were read.
    pub(crate) withdrawals: u64,
}

impl X509Answer {
    /// Puts an answer together; `svids` are those of the identities, in their order, as far as they have room.
    pub(crate) fn new(
        identities: Arc<Identities>,
        svids: Vec<(Arc<Entry>, Arc<Svid>)>,
        CallersBundles { own: bundle, foreign, takes_crls, .. }: &CallersBundles,
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
            crl: bundle.crls_for(*takes_crls),
            federated_bundles: foreign.roots.clone(),
        };
        let svids: Vec<Arc<Svid>> = svids.into_iter().map(|(_, svid)| svid).collect();
        let standing = Standing::of(&svids);
        let ends = svids.iter().map(|svid| svid.granted.validity.not_after());
        let ends_at = ends.min().unwrap_or(UnixSeconds(i64::MAX));
        let (due, sequence) = (AtomicI64::new(i64::MAX), AtomicU64::new(bundle.sequence));
        let (roots_since, foreign) = (AtomicU64::new(bundle.roots_since), Mutex::new(Arc::clone(foreign)));
        let takes_crls = *takes_crls;
        Self {
            response,
            identities,
            due,
            ends_at,
            svids,
            standing,
            foreign,
            takes_crls,
            sequence,
            roots_since,
            withdrawals,
        }
    }

    /// Notes when the SVIDs are next to be looked at: the first renewal after `looked_at`, the instant since when all of
    /// them were found not to be due. One whose renewal had come then was not worth it, because the issuer nears its own
    /// end: it waits for another issuer, or for its own end. And notes the bundle beside which all of them may stand.
    pub(crate) fn look_ahead(&self, looked_at: UnixMillis, bundles: &CallersBundles) {
        self.sequence.fetch_max(bundles.own.sequence, Ordering::AcqRel);
        self.roots_since.fetch_max(bundles.own.roots_since, Ordering::AcqRel);
        *self.foreign.lock() = Arc::clone(&bundles.foreign);
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

    /// The foreign bundles in it.
    pub(crate) fn foreign(&self) -> Arc<ForeignSet> {
        Arc::clone(&self.foreign.lock())
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

    /// Whether it carries the roots of this bundle, and its CRLs if they are for it.
    pub(crate) fn has_roots_of(&self, bundle: &BundleAnswers) -> bool {
        self.roots_since.load(Ordering::Acquire) >= bundle.roots_since
    }

    /// Whether the same would go out again: it was made of the same parts. CRLs that are not for it are none of them.
    pub(crate) fn is_made_of(
        &self,
        identities: &Arc<Identities>,
        svids: &[(Arc<Entry>, Arc<Svid>)],
        CallersBundles { own, foreign, takes_crls, .. }: &CallersBundles,
        withdrawals: u64,
    ) -> bool {
        let carries_crls = self.takes_crls.takes() || takes_crls.takes();
        let same_roots = || self.response.svids.first().is_some_and(|svid| svid.bundle == own.roots);
        self.withdrawals == withdrawals
            && (self.has_roots_of(own) || !carries_crls && same_roots())
            && self.takes_crls == *takes_crls
            && self.response.federated_bundles == foreign.roots
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
        Answer::X509Bundles(Arc::new(CallersBundles::empty(number)))
    }
}
