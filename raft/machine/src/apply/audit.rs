//! Anchors of audit logs.

use quorate_proto_identity::MemberNumber;

use crate::audit::{AUDIT_ANCHORS_PER_MEMBER, AuditAnchor};
use crate::outcome::{Done, OperationResult, Refusal};
use crate::state::State;

impl State {
    /// Keeps the head of a member's audit log, and of the earlier ones the newest few. The same one again changes nothing.
    pub(super) fn anchor_audit(&mut self, anchor: AuditAnchor) -> OperationResult {
        let AuditAnchor { member, index, .. } = anchor;
        self.known_member(member)?;
        let last = self.audit_anchors(member).last().copied();
        if let Some(last) = last
            && index <= last.index
        {
            let is_same = (last.records, last.index, last.hash) == (anchor.records, index, anchor.hash);
            if is_same {
                return Ok(Done::AuditAnchored { member, index });
            }
            return Err(Refusal::wrong_state(format!(
                "the audit log of member {member} is anchored at index {} already, and not later at {index}",
                last.index
            )));
        }
        self.anchors.put((member, index), anchor);
        let indexes: Vec<u64> = self.audit_anchors(member).map(|anchor| anchor.index).collect();
        let surplus = indexes.len().saturating_sub(AUDIT_ANCHORS_PER_MEMBER);
        for index in indexes.into_iter().take(surplus) {
            self.anchors.remove(&(member, index));
        }
        Ok(Done::AuditAnchored { member, index })
    }

    /// Forgets the anchors of a member that is forgotten.
    pub(super) fn forget_anchors(&mut self, member: MemberNumber) {
        let indexes: Vec<u64> = self.audit_anchors(member).map(|anchor| anchor.index).collect();
        for index in indexes {
            self.anchors.remove(&(member, index));
        }
    }
}
