//! Foreign bundles, fetched and pushed: what is asked for, when, and what becomes of it. The endpoints are of the tests'
//! making; what they may do to a real client, the node's own tests show.

mod outside;
mod polling;
mod taking;
mod trust;
mod watches;
