//! Seals the keys of authorities that are in use to further recipients (design section 3, sealing): the leader opens what
//! is sealed to it, and the state takes only the parts that are added.
//!
//! Root keys go to those that are to be voters, token keys and secrets to every member, all to the recovery key. Who has a part keeps
//! it, so that two leaders, or one that begins again, do no harm.

use quorate_proto_identity::{AuthorityId, ClusterId, MemberNumber};
use quorate_raft_machine::{AuthorityKind, Member, Operation, Recipient, Sealed, State};

use super::{
    AuthorityArguments,
    documents::SealingRecipient,
    issuing::{IssuingError, propose, snapshot},
};
use crate::{
    keys::{SealContext, SealedItem, open_secret, seal_secret},
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

/// Who may open secrets: those that may open token keys.
pub(crate) fn secret_recipients(state: &State) -> Vec<SealingRecipient> {
    recipients(state, AuthorityKind::Jwt)
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

/// A key in use, or a secret, that is not sealed to all that may open it.
#[derive(Debug)]
struct Unsealed {
    item: SealedItem,
    sealed: Sealed,
    /// Of a secret; the key of an authority is never another.
    revision: u64,
    lacking: Vec<SealingRecipient>,
}

/// Keys of a kind that this node can open, and that are not sealed to another that may. With the token keys go secrets,
/// which the same members may open.
fn unsealed(state: &State, kind: AuthorityKind, to: SealTo, own: MemberNumber) -> Vec<Unsealed> {
    let mut recipients = recipients(state, kind);
    recipients.retain(|recipient| to.is(&recipient.recipient));
    let lacking = |item: SealedItem, sealed: Option<&Sealed>, revision: u64| {
        let sealed = sealed.filter(|sealed| sealed.part_for(&Recipient::Member(own)).is_some())?;
        let lacks = |to: &&SealingRecipient| sealed.part_for(&to.recipient).is_none();
        let lacking: Vec<SealingRecipient> = recipients.iter().filter(lacks).cloned().collect();
        (!lacking.is_empty()).then(|| Unsealed { item, sealed: sealed.clone(), revision, lacking })
    };
    let authority = |id: &AuthorityId| SealedItem::Authority { kind, id: id.clone() };
    match kind {
        AuthorityKind::X509 => {
            let roots = state.x509_authorities();
            roots.filter_map(|root| lacking(authority(&root.id), root.sealed.as_ref(), 0)).collect()
        }
        AuthorityKind::Jwt => {
            let keys = state.jwt_authorities();
            let keys = keys.filter_map(|key| lacking(authority(&key.id), key.sealed.as_ref(), 0));
            let secrets = state.secrets().filter_map(|secret| {
                lacking(SealedItem::Secret(secret.name.clone()), Some(&secret.sealed), secret.revision)
            });
            keys.chain(secrets).collect()
        }
    }
}

/// Seals all keys of a kind, and secrets with the token keys, to one that may open them and has no part yet. Gives how many
/// it sealed.
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
        let (item, revision) = (key.item.clone(), key.revision);
        let parts = further_parts(arguments, read.cluster.id, own, key).await?;
        let operation = match item.clone() {
            SealedItem::Authority { kind: AuthorityKind::X509, id } => Operation::SealX509Authority { id, parts },
            SealedItem::Authority { kind: AuthorityKind::Jwt, id } => Operation::SealJwtAuthority { id, parts },
            SealedItem::Secret(name) => Operation::SealSecret { name, revision, parts },
        };
        propose(arguments, operation).await?;
        tracing::info!(
            target: "quorate::security",
            %item, %to,
            "a key or secret was sealed to further recipients"
        );
    }
    Ok(count)
}

/// Opens a key, seals it to those that lack it, and wipes it.
async fn further_parts(
    arguments: &AuthorityArguments,
    cluster: ClusterId,
    own: MemberNumber,
    key: Unsealed,
) -> Result<Vec<quorate_raft_machine::SealedFor>, IssuingError> {
    let custody = arguments.workshop.custody.as_ref();
    let context = |recipient| SealContext { cluster, item: key.item.clone(), recipient };
    let opened = open_secret(custody, &key.sealed, &context(Recipient::Member(own))).await?;
    let to = |recipient: &SealingRecipient| (context(recipient.recipient.clone()), recipient.key.clone());
    let recipients: Vec<_> = key.lacking.iter().map(to).collect();
    Ok(seal_secret(custody, &opened, &recipients)?.parts)
}
