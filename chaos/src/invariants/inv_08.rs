//! INV-08: a node cut off from the quorum serves its workloads without an error until its bound, and fails closed after
//! it (design, property 4).

use super::Name;
use quorate_proto_identity::UnixSeconds;
use tonic::{Code, Status};

/// Its name.
pub(crate) const NAME: Name = Name(8);

/// How far the clocks of caller and node may lie apart around the bound: both read the same clock, in whole seconds.
const ROUNDING: i64 = 1;

/// An answer to a call that began and ended at these times, on a node whose issuing certificate ends at `bound`.
pub(crate) fn check(
    answer: Result<(), &Status>,
    begun: UnixSeconds,
    ended: UnixSeconds,
    bound: UnixSeconds,
) -> Result<(), String> {
    match answer {
        Ok(()) if begun > bound.plus(ROUNDING) => Err(format!("served at {begun}, the bound was {bound}")),
        Ok(()) => Ok(()),
        Err(status) if ended < bound.minus(ROUNDING) => Err(format!("failed at {ended}, before {bound}: {status}")),
        Err(status) if status.code() != Code::Unavailable => Err(format!("failed as {status}, not as Unavailable")),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_08_a_cut_off_node_fails_as_unavailable_after_its_bound_and_neither_otherwise_nor_before() {
        let at = UnixSeconds;
        let (unavailable, denied) = (Status::unavailable("x"), Status::permission_denied("x"));
        check(Ok(()), at(90), at(90), at(100)).unwrap();
        check(Err(&unavailable), at(101), at(101), at(100)).unwrap();
        assert!(check(Ok(()), at(102), at(102), at(100)).is_err());
        assert!(check(Err(&unavailable), at(90), at(90), at(100)).is_err());
        assert!(check(Err(&denied), at(105), at(105), at(100)).is_err());
    }
}
