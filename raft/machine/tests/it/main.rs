//! The state machine through its public interface: commands in; outcomes, events and reads out.

mod authorities;
mod entitlement;
mod entries;
mod founding;
mod histories;
mod idempotence;
mod issuing;
mod listing;
mod members;
mod policy;
mod snapshots;
mod stored;
mod world;
