//! Seals the keys of authorities that are in use to further recipients (design section 3, sealing): the leader opens what
//! is sealed to it, and the state takes only the parts that are added.
//!
//! Root keys go to those that are to be voters, token keys to every member, both to the recovery key. Who has a part keeps
//! it, so that two leaders, or one that begins again, do no harm.

use quorate_proto_identity::{AuthorityId, ClusterId, MemberNumber};
use quorate_raft_machine::{AuthorityKind, Member, Operation, Recipient, Sealed, State};

use super::{
    AuthorityArguments,
    documents::{SealingRecipient, own_context},
    issuing::{IssuingError, propose, snapshot},
};
use crate::{
    keys::{SealContext, open_key, seal_key},
    own::NotAMember,
};

/// Who may open the keys of this kind of authority.
pub(crate) fn recipients(state: &State, kind: AuthorityKind) -> Vec<SealingRecipient> {
    let members = state.members().filter(|member| may_open(member, kind)).map(|member| SealingRecipient {
        recipient: Recipient::Member(member.number),
        key: member.record.sealing_key.clone(),
    });
    let recovery = state.recovery_key().map(|recovery| SealingRecipient {
        recipient: Recipient::RecoveryKey(recovery.id.clone()),
        key: recovery.public_key.clone(),
    });
    members.chain(recovery).collect()
}

fn may_open(member: &Member, kind: AuthorityKind) -> bool {
    match kind {
        AuthorityKind::X509 => member.may_open_roots(),
        AuthorityKind::Jwt => member.is_sealable(),
    }
}

/// Whom keys are sealed to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SealTo {
    /// A member.
    Member(MemberNumber),
    /// The recovery key.
    Recovery,
}

impl std::fmt::Display for SealTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(number) => write!(f, "member {number}"),
            Self::Recovery => f.write_str("recovery key"),
        }
    }
}

impl SealTo {
    fn is(self, recipient: &Recipient) -> bool {
        match (self, recipient) {
            (Self::Member(wanted), Recipient::Member(number)) => wanted == *number,
            (Self::Recovery, Recipient::RecoveryKey(_)) => true,
            (Self::Member(_), Recipient::RecoveryKey(_)) | (Self::Recovery, Recipient::Member(_)) => false,
        }
    }
}

/// A key in use that is not sealed to all that may open it.
#[derive(Debug)]
struct Unsealed {
    id: AuthorityId,
    sealed: Sealed,
    lacking: Vec<SealingRecipient>,
}

/// Keys of a kind that this node can open, and that are not sealed to another that may.
fn unsealed(state: &State, kind: AuthorityKind, to: SealTo, own: MemberNumber) -> Vec<Unsealed> {
    let mut recipients = recipients(state, kind);
    recipients.retain(|recipient| to.is(&recipient.recipient));
    let keys: Vec<(&AuthorityId, Option<&Sealed>)> = match kind {
        AuthorityKind::X509 => state.x509_authorities().map(|root| (&root.id, root.sealed.as_ref())).collect(),
        AuthorityKind::Jwt => state.jwt_authorities().map(|key| (&key.id, key.sealed.as_ref())).collect(),
    };
    let lacking = |(id, sealed): (&AuthorityId, Option<&Sealed>)| {
        let sealed = sealed.filter(|sealed| sealed.part_for(&Recipient::Member(own)).is_some())?;
        let lacks = |to: &&SealingRecipient| sealed.part_for(&to.recipient).is_none();
        let lacking: Vec<SealingRecipient> = recipients.iter().filter(lacks).cloned().collect();
        (!lacking.is_empty()).then(|| Unsealed { id: id.clone(), sealed: sealed.clone(), lacking })
    };
    keys.into_iter().filter_map(lacking).collect()
}

/// Seals all keys of a kind to one that may open them and has no part yet. Gives how many keys it sealed.
///
/// A leader that is on its way out does this too: the others may need what only it can open before it can hand over.
pub(crate) async fn seal_lacking(
    arguments: &AuthorityArguments,
    kind: AuthorityKind,
    to: SealTo,
) -> Result<usize, IssuingError> {
    let state = arguments.handle.state();
    let own = arguments.handle.member().ok_or(NotAMember::NotFounded)?;
    let (read, lacking) =
        state.read(|state| Ok::<_, IssuingError>((snapshot(state)?, unsealed(state, kind, to, own))))?;
    let count = lacking.len();
    for key in lacking {
        let id = key.id.clone();
        let parts = further_parts(arguments, read.cluster.id, kind, own, key).await?;
        let operation = match kind {
            AuthorityKind::X509 => Operation::SealX509Authority { id: id.clone(), parts },
            AuthorityKind::Jwt => Operation::SealJwtAuthority { id: id.clone(), parts },
        };
        propose(arguments, operation).await?;
        tracing::info!(
            target: "quorate::security",
            authority_id = %id, %to,
            "the key of an authority was sealed to further recipients"
        );
    }
    Ok(count)
}

/// Opens a key, seals it to those that lack it, and wipes it.
async fn further_parts(
    arguments: &AuthorityArguments,
    cluster: ClusterId,
    kind: AuthorityKind,
    own: MemberNumber,
    key: Unsealed,
) -> Result<Vec<quorate_raft_machine::SealedFor>, IssuingError> {
    let custody = arguments.workshop.custody.as_ref();
    let opened = open_key(custody, &key.sealed, &own_context(cluster, kind, key.id.clone(), own)).await?;
    let to = |recipient: SealingRecipient| {
        let context = SealContext { cluster, kind, authority: key.id.clone(), recipient: recipient.recipient };
        (context, recipient.key)
    };
    let recipients: Vec<_> = key.lacking.into_iter().map(to).collect();
    Ok(seal_key(custody, &opened, &recipients)?.parts)
}
