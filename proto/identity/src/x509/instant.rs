//! Instants as X.509 writes them (RFC 5280 section 4.1.2.5).

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

use crate::der::{self, Reader};
use crate::validity::UnixSeconds;

/// Appends the instant: UTCTime from 1950 to 2049, GeneralizedTime else. `None` outside the years that have a form,
/// which a [`Validity`](crate::Validity) never holds.
pub(super) fn write(out: &mut Vec<u8>, instant: UnixSeconds) -> Option<()> {
    let date_time = OffsetDateTime::from_unix_timestamp(instant.0).ok()?;
    let year = u16::try_from(date_time.year()).ok().filter(|year| *year <= 9999)?;
    if (1950..2050).contains(&year) {
        der::write_header(out, der::UTC_TIME, 13);
    } else {
        der::write_header(out, der::GENERALIZED_TIME, 15);
        two_digits(out, u8::try_from(year / 100).ok()?);
    }
    two_digits(out, u8::try_from(year % 100).ok()?);
    two_digits(out, u8::from(date_time.month()));
    two_digits(out, date_time.day());
    two_digits(out, date_time.hour());
    two_digits(out, date_time.minute());
    two_digits(out, date_time.second());
    out.push(b'Z');
    Some(())
}

fn two_digits(out: &mut Vec<u8>, number: u8) {
    out.push(b'0'.saturating_add(number / 10));
    out.push(b'0'.saturating_add(number % 10));
}

/// Reads an instant of either form, with seconds and in UTC, as RFC 5280 demands.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<UnixSeconds> {
    let (tag, content, _) = reader.next_element()?;
    let (year, rest) = match tag {
        der::UTC_TIME => {
            let (year, rest) = number(content)?;
            (if year < 50 { 2000 + i32::from(year) } else { 1900 + i32::from(year) }, rest)
        }
        der::GENERALIZED_TIME => {
            let (century, rest) = number(content)?;
            let (year, rest) = number(rest)?;
            (i32::from(century) * 100 + i32::from(year), rest)
        }
        _ => return None,
    };
    let (month, rest) = number(rest)?;
    let (day, rest) = number(rest)?;
    let (hour, rest) = number(rest)?;
    let (minute, rest) = number(rest)?;
    let (second, rest) = number(rest)?;
    if rest != b"Z" {
        return None;
    }
    let date = Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let time = Time::from_hms(hour, minute, second).ok()?;
    Some(UnixSeconds(PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp()))
}

/// A number of two digits, and what follows it.
fn number(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<2>()?;
    let [tens, ones] = digits.map(|digit| char::from(digit).to_digit(10));
    let number = u8::try_from(tens?.checked_mul(10)?.checked_add(ones?)?).ok()?;
    Some((number, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_form_that_the_year_demands_and_reads_it_back() {
        for (instant, wanted) in [
            (0, &b"\x17\x0d700101000000Z"[..]),
            (2_524_607_999, b"\x17\x0d491231235959Z"),
            (2_524_608_000, b"\x18\x0f20500101000000Z"),
            (253_402_300_799, b"\x18\x0f99991231235959Z"),
        ] {
            let mut out = Vec::new();
            write(&mut out, UnixSeconds(instant)).unwrap();
            assert_eq!(out, wanted);
            assert_eq!(read(&mut Reader::new(&out)), Some(UnixSeconds(instant)));
        }
    }

    #[test]
    fn refuses_zones_fractions_and_dates_that_do_not_exist() {
        for wrong in [
            &b"\x17\x0b7001010000Z"[..],
            b"\x17\x117001010000+0100",
            b"\x18\x1120500101000000.5Z",
            b"\x17\x0d700230000000Z",
            b"\x17\x0d700101240000Z",
            b"\x17\x0d7001010000 0Z",
        ] {
            assert_eq!(read(&mut Reader::new(wrong)), None);
        }
    }
}
