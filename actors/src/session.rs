//! Sessions of the Workload API: from a connection's caller to the stream of its answers.
//!
//! ```text
//!   connection ── Caller ── attested selectors ──> Group (all callers of these selectors)
//!                                                   |   ^ refresh: read, sign, check again
//!   stream ────── Slot <── newest answer ───────────+   |
//!                                                     Keeper <── what was applied, the lease, its clock
//! ```
//!
//! A first answer is made on the caller's own task; a pushed one by a task of the keeper. Either way it is looked at
//! once more when it goes out: the process must still be the one that was attested, every entry must still be what it
//! was, and the lease must be good.

mod allowance;
pub(crate) mod answer;
mod answer_size;
pub(crate) mod caller;
mod clock;
pub(crate) mod core;
pub(crate) mod group;
pub(crate) mod identities;
mod interests;
pub(crate) mod keeper;
mod slot;
pub(crate) mod standing;
mod stream;
mod turns;
mod validation;
mod workload_api;

pub use caller::Caller;
pub use identities::IDENTITIES_PER_CALLER_LIMIT;
pub use stream::AnswerStream;
pub use validation::ValidatedToken;
pub use workload_api::WorkloadApi;
