//! Not before, not after, and arithmetic on a given instant.
//!
//! Nothing here asks a clock: an instant always comes in as an argument.

use std::fmt;

/// A second of Unix time: seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixSeconds(pub i64);

impl UnixSeconds {
    /// The instant so many seconds later (or earlier, when negative); stops at the ends of the range.
    #[must_use]
    pub const fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// The instant so many seconds earlier; stops at the ends of the range.
    #[must_use]
    pub const fn minus(self, seconds: i64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// Seconds from `earlier` to this instant, negative when this one comes first.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The same instant in milliseconds; stops at the ends of the range.
    #[must_use]
    pub const fn millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(1000))
    }
}

impl fmt::Display for UnixSeconds {
    /// As RFC 3339 in UTC, or as a bare number where no calendar date exists.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match time::OffsetDateTime::from_unix_timestamp(self.0) {
            Ok(instant) => write!(
                formatter,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                instant.year(),
                u8::from(instant.month()),
                instant.day(),
                instant.hour(),
                instant.minute(),
                instant.second()
            ),
            Err(_) => write!(formatter, "{}", self.0),
        }
    }
}

/// A millisecond of Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// The second that this millisecond lies in, rounded down.
    #[must_use]
    pub const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0.div_euclid(1000))
    }

    /// The instant so many milliseconds later (or earlier, when negative); stops at the ends of the range.
    #[must_use]
    pub const fn plus(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this instant, negative when this one comes first.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// First second that X.509 can write: 0001-01-01T00:00:00Z, the first year that calendar libraries agree on.
const EARLIEST: UnixSeconds = UnixSeconds(-62_135_596_800);

/// Last second that X.509 can write: 9999-12-31T23:59:59Z (RFC 5280 section 4.1.2.5).
const LATEST: UnixSeconds = UnixSeconds(253_402_300_799);

/// The time a credential may be used in; both ends belong to it (RFC 5280 section 4.1.2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Validity {
    not_before: UnixSeconds,
    not_after: UnixSeconds,
}

impl Validity {
    /// Takes both ends.
    ///
    /// # Errors
    /// When the end comes before the beginning, or one of them lies outside the years 1 to 9999.
    pub fn new(not_before: UnixSeconds, not_after: UnixSeconds) -> Result<Self, ValidityError> {
        if not_before < EARLIEST || not_after > LATEST {
            return Err(ValidityError::Range { not_before, not_after });
        }
        if not_after < not_before {
            return Err(ValidityError::Reversed { not_before, not_after });
        }
        Ok(Self { not_before, not_after })
    }

    /// First second of it.
    #[must_use]
    pub const fn not_before(&self) -> UnixSeconds {
        self.not_before
    }

    /// Last second of it.
    #[must_use]
    pub const fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// Whether the instant lies in it.
    #[must_use]
    pub fn contains(&self, now: UnixSeconds) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// The same beginning, and an end that is not after `limit`.
    ///
    /// # Errors
    /// When nothing is left: the limit comes before the beginning.
    pub fn ending_by(&self, limit: UnixSeconds) -> Result<Self, ValidityError> {
        Self::new(self.not_before, self.not_after.min(limit))
    }

    /// Seconds from beginning to end.
    #[must_use]
    pub const fn seconds(&self) -> i64 {
        self.not_after.since(self.not_before)
    }

    /// The instant at which half of it has passed, when renewal is due.
    #[must_use]
    pub const fn half_life(&self) -> UnixSeconds {
        self.not_before.plus(self.seconds() / 2)
    }
}

/// Why two instants are no validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// The end comes before the beginning; with a capped end this means that the issuer is about to expire.
    #[error("not after {not_after} is before not before {not_before}")]
    Reversed {
        /// The beginning that was asked for.
        not_before: UnixSeconds,
        /// The end that was asked for.
        not_after: UnixSeconds,
    },
    /// X.509 has no form for such a year.
    #[error("{not_before} to {not_after} is outside the years 1 to 9999")]
    Range {
        /// The beginning that was asked for.
        not_before: UnixSeconds,
        /// The end that was asked for.
        not_after: UnixSeconds,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_belong_to_a_validity() {
        let validity = Validity::new(UnixSeconds(10), UnixSeconds(20)).unwrap();
        assert!(!validity.contains(UnixSeconds(9)));
        assert!(validity.contains(UnixSeconds(10)));
        assert!(validity.contains(UnixSeconds(20)));
        assert!(!validity.contains(UnixSeconds(21)));
        assert_eq!(validity.half_life(), UnixSeconds(15));
    }

    #[test]
    fn an_end_is_capped_and_never_lengthened() {
        let validity = Validity::new(UnixSeconds(10), UnixSeconds(20)).unwrap();
        assert_eq!(validity.ending_by(UnixSeconds(15)).unwrap().not_after(), UnixSeconds(15));
        assert_eq!(validity.ending_by(UnixSeconds(25)).unwrap(), validity);
        assert!(matches!(validity.ending_by(UnixSeconds(9)), Err(ValidityError::Reversed { .. })));
    }

    #[test]
    fn refuses_years_that_x509_cannot_write() {
        assert!(Validity::new(UnixSeconds(0), LATEST).is_ok());
        assert!(matches!(Validity::new(UnixSeconds(0), LATEST.plus(1)), Err(ValidityError::Range { .. })));
        assert!(matches!(Validity::new(EARLIEST.minus(1), LATEST), Err(ValidityError::Range { .. })));
    }

    #[test]
    fn milliseconds_round_down_on_both_sides_of_the_epoch() {
        assert_eq!(UnixMillis(1999).seconds(), UnixSeconds(1));
        assert_eq!(UnixMillis(-1).seconds(), UnixSeconds(-1));
        assert_eq!(UnixSeconds(2).millis(), UnixMillis(2000));
    }

    #[test]
    fn prints_a_calendar_date() {
        assert_eq!(UnixSeconds(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(UnixSeconds(253_402_300_799).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(UnixSeconds(i64::MAX).to_string(), i64::MAX.to_string());
    }
}
