//! The trust domain's policy: compare and set.

use crate::event::Event;
use crate::outcome::{Done, OperationResult, Refusal, RefusalCode};
use crate::policy::Policy;
use crate::state::{PolicyRecord, State};

impl State {
    /// Replaces the policy, if it is still the one that the new one was made from.
    pub(super) fn set_policy(
        &mut self,
        policy: Policy,
        expected_revision: u64,
        events: &mut Vec<Event>,
    ) -> OperationResult {
        let revision = self.policy_revision();
        if expected_revision != 0 && expected_revision != revision {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                format!(
                    "the policy is at revision {revision}, not {expected_revision}: somebody else changed it; read it \
                     again and repeat the change"
                ),
            ));
        }
        policy.check().map_err(|error| Refusal::invalid(error.to_string()))?;
        let revision = revision.saturating_add(1);
        self.policy.put((), PolicyRecord { revision, policy });
        events.push(Event::PolicyChanged);
        Ok(Done::PolicySet { revision })
    }
}
