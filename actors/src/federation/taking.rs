//! A document that was fetched or pushed, on its way into the state: read, compared, proposed when it is another one.

use quorate_proto_identity::{
    Bundle, TrustDomain,
    bundle::{Acceptance, BundleError, SkippedKey},
};
use quorate_raft_consensus::{Proposal, ProposeError};
use quorate_raft_machine::{
    Caller, Done, Operation, Refusal,
    federation::{ForeignBundle, ForeignOrigin, NewForeignBundle, Relationship, SetHow},
};

use super::FederationArguments;

/// What became of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is what is held.
    Same {
        /// Its sequence.
        sequence: Option<u64>,
        /// Version of the foreign bundle that it was compared with.
        version: u64,
    },
    /// It is held from now on.
    Replaced {
        /// Its sequence.
        sequence: Option<u64>,
        /// Log index from which on it is.
        log_index: u64,
        /// Version of the foreign bundle now.
        version: u64,
    },
}

impl Taken {
    /// The sequence of what is held now.
    pub(crate) const fn sequence(&self) -> Option<u64> {
        match self {
            Self::Same { sequence, .. } | Self::Replaced { sequence, .. } => *sequence,
        }
    }

    /// The version of the foreign bundle that has the document's content. What is held by now may be another one.
    pub(crate) const fn version(&self) -> u64 {
        match self {
            Self::Same { version, .. } | Self::Replaced { version, .. } => *version,
        }
    }
}

/// Why a document was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    #[error("the document is no bundle")]
    Document(#[from] BundleError),
    #[error(
        "the endpoint serves sequence {fetched}, and {kept} was fetched before: the newer one is kept. If the trust domain was \
         rebuilt, use `quorate federation refresh --accept-older`"
    )]
    Older { fetched: u64, kept: u64 },
    #[error("it could not be recorded")]
    Propose(#[from] ProposeError),
    #[error("the cluster does not take it: {0}")]
    Refused(#[from] Refusal),
    #[error("the answer of the cluster cannot be read")]
    NoResult,
}

/// Reads a document and has it recorded if it is another one than is held (FED-08, FED-46).
pub(crate) async fn take(
    arguments: &FederationArguments,
    relationship: &Relationship,
    document: &[u8],
    accept_older: bool,
) -> Result<Taken, TakeError> {
    let trust_domain = &relationship.trust_domain;
    let parsed = Bundle::parse(trust_domain, document)?;
    tell_skipped(trust_domain, &parsed.skipped);
    let bundle = parsed.bundle;
    let sequence = bundle.sequence();
    let held = arguments.core.state.read(|state| state.foreign_bundle(trust_domain).cloned());
    if let Some(held) = &held {
        match compare(&bundle, held, accept_older) {
            Compared::Same => return Ok(Taken::Same { sequence, version: held.version }),
            Compared::Other => {}
            Compared::Broken => tracing::warn!(
                target: "quorate::security", trust_domain = %trust_domain, sequence,
                "a foreign bundle has other keys under the sequence that it had before; it is taken, and its publisher is at fault"
            ),
            Compared::Older { fetched, kept } => return Err(TakeError::Older { fetched, kept }),
        }
    }
    let how = SetHow::Fetched { relationship_revision: relationship.revision, accept_older };
    let operation = Operation::SetForeignBundle(Box::new(NewForeignBundle { bundle, how }));
    let applied = match arguments.handle.propose(Proposal::new(Caller::node(), vec![operation])).await {
        // It is done. A member that is cut off hears of it when it is back.
        Ok(applied) | Err(ProposeError::NotEverywhere { applied, .. }) => applied,
        Err(error) => return Err(error.into()),
    };
    let log_index = applied.log_index;
    let done = applied.outcome.results.into_iter().next().ok_or(TakeError::NoResult)??;
    let Done::ForeignBundleSet { changed, version, .. } = done else { return Err(TakeError::NoResult) };
    Ok(if changed { Taken::Replaced { sequence, log_index, version } } else { Taken::Same { sequence, version } })
}

/// What a bundle just fetched is beside the one that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compared {
    /// It is the same.
    Same,
    /// It takes its place.
    Other,
    /// It takes its place, although its sequence says that it is the same (XB-26).
    Broken,
    /// It is older than the last one that was fetched (ATK-39).
    Older { fetched: u64, kept: u64 },
}

/// The floor is what was fetched, not what an operator has put in its place since (FED-10).
fn compare(fetched: &Bundle, held: &ForeignBundle, accept_older: bool) -> Compared {
    if let (Some(fetched), Some(kept), false) = (fetched.sequence(), held.fetched_sequence, accept_older)
        && fetched < kept
    {
        return Compared::Older { fetched, kept };
    }
    if held.origin == ForeignOrigin::Operator {
        let is_known = *fetched == *held.bundle && fetched.sequence() == held.fetched_sequence;
        return if is_known { Compared::Same } else { Compared::Other };
    }
    match fetched.accept_over(&held.bundle) {
        Acceptance::Unchanged => Compared::Same,
        Acceptance::SameSequence => Compared::Broken,
        // Older than what is held and not below the floor: what is held had none, or the operator wants it.
        Acceptance::Newer | Acceptance::WithoutSequence | Acceptance::Older => Compared::Other,
    }
}

/// Says which keys of a document are not used, and why.
fn tell_skipped(trust_domain: &TrustDomain, skipped: &[SkippedKey]) {
    if let Some(first) = skipped.first() {
        tracing::warn!(
            trust_domain = %trust_domain, skipped = skipped.len(), first_index = first.index, first_reason = %first.reason,
            "keys of a foreign bundle are not used"
        );
    }
}
