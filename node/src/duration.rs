//! Lifetimes as people write them: `90s`, `5m`, `1h30m`, `30d`, or plain seconds.

use std::fmt;
use std::str::FromStr;

/// Units in seconds, the largest first.
const UNITS: [(char, i64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A length of time in whole seconds, not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Seconds(i64);

/// Why a text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecondsError {
    /// No digits where a number should begin, or a unit that is not known.
    #[error("write a length of time as 90s, 5m, 1h30m or 30d, or in plain seconds")]
    Form,
    /// More seconds than can be counted.
    #[error("so long a time cannot be counted")]
    TooLong,
}

impl Seconds {
    /// So many seconds; less than none is none.
    pub(crate) fn new(seconds: i64) -> Self {
        Self(seconds.max(0))
    }

    /// The number of seconds.
    pub(crate) fn get(self) -> i64 {
        self.0
    }

    /// The number of seconds as the registration API counts them.
    ///
    /// # Errors
    ///
    /// When it is more than the API can say: 68 years.
    pub(crate) fn as_i32(self) -> Result<i32, SecondsError> {
        i32::try_from(self.0).map_err(|_| SecondsError::TooLong)
    }
}

impl FromStr for Seconds {
    type Err = SecondsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self).map_err(|_| SecondsError::TooLong);
        }
        let mut total: i64 = 0;
        let mut rest = text;
        let mut below = i64::MAX;
        while !rest.is_empty() || below == i64::MAX {
            let digits = rest.len() - rest.trim_start_matches(|character: char| character.is_ascii_digit()).len();
            let (number, after) = rest.split_at(digits);
            let unit = after.chars().next().ok_or(SecondsError::Form)?;
            let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or(SecondsError::Form)?;
            // Largest first, each once: `1m1h` is more likely a slip than a wish.
            if number.is_empty() || seconds >= below {
                return Err(SecondsError::Form);
            }
            below = seconds;
            let number: i64 = number.parse().map_err(|_| SecondsError::TooLong)?;
            total =
                number.checked_mul(seconds).and_then(|part| total.checked_add(part)).ok_or(SecondsError::TooLong)?;
            rest = after.get(unit.len_utf8()..).unwrap_or_default();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Seconds {
    /// In the largest units that come out even; it parses back to the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, seconds) in UNITS {
            let count = rest.checked_div(seconds).unwrap_or_default();
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
            rest = rest.checked_rem(seconds).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_in_units_and_in_plain_seconds() {
        for (text, seconds) in
            [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5_400), ("30d", 2_592_000), ("1d1s", 86_401)]
        {
            assert_eq!(text.parse::<Seconds>(), Ok(Seconds(seconds)), "{text}");
        }
    }

    #[test]
    fn what_could_be_a_slip_is_refused() {
        for text in ["", "h", "5x", "1m1h", "1h1h", "-5s", "1.5h", " 5s", "5s ", "5 s", "1h5", "５s"] {
            assert_eq!(text.parse::<Seconds>(), Err(SecondsError::Form), "{text:?}");
        }
        assert_eq!("9223372036854775807d".parse::<Seconds>(), Err(SecondsError::TooLong));
        assert_eq!("99999999999999999999".parse::<Seconds>(), Err(SecondsError::TooLong));
    }

    #[test]
    fn what_is_printed_parses_back() {
        for seconds in [0, 1, 59, 60, 3_599, 3_600, 86_400, 90_061, i64::MAX] {
            let printed = Seconds(seconds).to_string();
            assert_eq!(printed.parse(), Ok(Seconds(seconds)), "{printed}");
        }
        assert_eq!(Seconds(5_400).to_string(), "1h30m");
    }

    #[test]
    fn the_registration_api_counts_up_to_68_years() {
        assert_eq!(Seconds(i64::from(i32::MAX)).as_i32(), Ok(i32::MAX));
        assert_eq!(Seconds(i64::from(i32::MAX) + 1).as_i32(), Err(SecondsError::TooLong));
    }
}
