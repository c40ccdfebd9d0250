//! What of this node's surroundings bears on its signing: whether its clock may be trusted, and whether it is connected.

use std::{sync::Arc, time::Duration};

use quorate_raft_consensus::{ClockStatus, ClockVerdict, Contact, Handle};
use ractor::ActorRef;
use tokio::time::Instant;

use super::IssuerMessage;
use crate::{mailbox::Envelope, metrics};

/// How often they are looked at. A clock that was set is told of by the next reports of the members, which come several
/// times a second; more often than once a second nothing here can change for good.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long this node is cut off before health speaks of it: an election is over by then, and was no cause for alarm.
const CUT_OFF_TOLD: Duration = Duration::from_secs(10);

/// What was found at the last look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Surroundings {
    /// Why nothing may be signed, if that is so.
    pub(crate) halt: Option<Arc<str>>,
    /// What will keep this node from signing unless it is mended.
    pub(crate) warning: Option<Arc<str>>,
}

impl Surroundings {
    fn of(clock: &ClockStatus, contact: &Contact, now: Instant) -> Self {
        // Without the figure, which changes with every look: the metric has it.
        let halt = (clock.verdict == ClockVerdict::Refuse).then(|| {
            "this node's clock is more than 5 s off the median of the members' clocks: set it right, and it signs again"
                .into()
        });
        let cut_off = match contact {
            Contact::Connected { .. } => false,
            Contact::CutOff { since } => now.saturating_duration_since(*since) >= CUT_OFF_TOLD,
        };
        let warning = if cut_off {
            Some("this node is cut off from the leader, and signs to the end of its issuing certificate".into())
        } else if clock.verdict == ClockVerdict::Warn {
            Some("this node's clock is more than 1 s off the median of the members' clocks".into())
        } else {
            None
        };
        Self { halt, warning }
    }
}

/// Looks, and tells the issuer of what it finds first and of what changes then, until it is gone. The first look is told in
/// any case: an issuer that was there before may have stopped all signing, and the cause may be over.
pub(crate) async fn watch(handle: Handle, issuer: ActorRef<Envelope<IssuerMessage>>) {
    let mut told: Option<Surroundings> = None;
    let contact = handle.contact();
    loop {
        let clock = handle.clock();
        let offset = clock.offset_to_median_millis.unwrap_or(0);
        metrics::clock(offset as f64 / 1000.0, clock.verdict != ClockVerdict::Refuse);
        let found = Surroundings::of(&clock, &contact.borrow(), Instant::now());
        if told.as_ref() != Some(&found) {
            tell(&told.unwrap_or_default(), &found, offset);
            told = Some(found.clone());
            if issuer.send_message(Envelope::own(IssuerMessage::Surroundings(found))).is_err() {
                return;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Says in the log what changed.
fn tell(before: &Surroundings, now: &Surroundings, offset_millis: i64) {
    match (&before.halt, &now.halt) {
        (None, Some(reason)) => {
            tracing::error!(target: "quorate::security", offset_millis, reason = %reason, "this node signs nothing");
        }
        (Some(_), None) => {
            tracing::info!(target: "quorate::security", offset_millis, "this node's clock is right again");
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
    match (&before.warning, &now.warning) {
        (Some(before), Some(now)) if before == now => {}
        (_, Some(reason)) => tracing::warn!(offset_millis, reason = %reason, "this node may have to stop signing"),
        (Some(reason), None) => tracing::info!(reason = %reason, "what this node was warned of is over"),
        (None, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(now: Instant) -> Contact {
        Contact::Connected { until: now + Duration::from_secs(1) }
    }

    #[test]
    fn a_clock_five_seconds_off_stops_signing_and_one_second_off_is_warned_of() {
        let now = Instant::now();
        let found = |millis| Surroundings::of(&ClockStatus::ahead_by(millis), &connected(now), now);
        assert_eq!(found(900), Surroundings::default());
        assert!(found(-1_500).warning.is_some() && found(-1_500).halt.is_none());
        assert!(found(3_600_000).halt.is_some());
    }

    #[test]
    fn being_cut_off_is_told_once_an_election_would_be_over() {
        let now = Instant::now();
        let found = |since| Surroundings::of(&ClockStatus::default(), &Contact::CutOff { since }, now + CUT_OFF_TOLD);
        assert_eq!(found(now + Duration::from_secs(5)), Surroundings::default());
        assert!(found(now).warning.is_some());
    }
}
