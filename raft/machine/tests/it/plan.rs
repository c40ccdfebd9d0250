//! The plan of the membership.
