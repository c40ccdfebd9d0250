//! What a workload may ask: the limits of its arguments that concern the wire, checked before
//! anything is looked up (ATK-48). What is mandatory the actors check (WAPI-14).

use quorate_proto_api::JWT_TTL_HEADER;
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::duration::Seconds;

/// Bytes of all audiences together: with the rest, a token must fit into the 8 KiB that servers
/// take as HTTP headers.
pub(super) const MAX_AUDIENCE_BYTES: usize = 4096;

/// Bytes of a token to validate. No token that fits into HTTP headers is longer.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Longest life a caller may ask for, in seconds; what it gets is bounded by its entry. A larger
/// number is a slip.
pub(super) const MAX_TOKEN_SECONDS: u32 = 366 * 24 * 3600;

/// Checks the audiences of a token to be made, all together.
pub(super) fn audiences(audiences: &[String]) -> Result<(), Status> {
    let bytes: usize = audiences.iter().map(String::len).sum();
    if bytes > MAX_AUDIENCE_BYTES {
        return Err(Status::invalid_argument(format!(
            "the audiences have {bytes} bytes; at most {MAX_AUDIENCE_BYTES} are taken"
        )));
    }
    Ok(())
}

/// Checks a token to be validated, before it is parsed (WAPI-40).
pub(super) fn token(token: &str) -> Result<(), Status> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Status::invalid_argument(format!(
            "the token has {} bytes; at most {MAX_TOKEN_BYTES} are looked at",
            token.len()
        )));
    }
    Ok(())
}

/// The life asked for by metadata, in seconds; none when the caller does not ask.
///
/// It can only shorten what the entry gives. Malformed is refused and not ignored: the caller would
/// hold a token that lives longer than it believes.
pub(super) fn token_seconds(metadata: &MetadataMap) -> Result<Option<u32>, Status> {
    let mut values = metadata.get_all(JWT_TTL_HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let wrong = |what: &str| Status::invalid_argument(format!("{JWT_TTL_HEADER}: {what}"));
    if values.next().is_some() {
        return Err(wrong("given more than once"));
    }
    let text = value.to_str().map_err(|_| wrong("not text"))?;
    let seconds: Seconds = text.parse().map_err(|error: crate::duration::SecondsError| wrong(&error.to_string()))?;
    match u32::try_from(seconds.get()) {
        Ok(0) => Err(wrong("a token must live for at least a second")),
        Ok(seconds) if seconds <= MAX_TOKEN_SECONDS => Ok(Some(seconds)),
        Ok(_) | Err(_) => Err(wrong("more than a year; that is no token")),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn audiences_are_limited_all_together_atk_48() {
        let long = "a".repeat(2048);
        audiences(&[long.clone(), long.clone()]).unwrap();
        let refused = audiences(&[long.clone(), long, "a".to_owned()]).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }

    #[test]
    fn a_token_is_limited_atk_31() {
        assert_eq!(token(&"a".repeat(MAX_TOKEN_BYTES + 1)).unwrap_err().code(), Code::InvalidArgument);
        token(&"a".repeat(MAX_TOKEN_BYTES)).unwrap();
    }

    #[test]
    fn the_life_of_a_token_is_seconds_or_a_duration_and_never_guessed() {
        let asked = |values: &[&str]| {
            let mut metadata = MetadataMap::new();
            for value in values {
                metadata.append(JWT_TTL_HEADER, value.parse().unwrap());
            }
            token_seconds(&metadata).map_err(|status| status.code())
        };
        assert_eq!(asked(&[]), Ok(None));
        assert_eq!(asked(&["30"]), Ok(Some(30)));
        assert_eq!(asked(&["1m30s"]), Ok(Some(90)));
        for wrong in ["", "0", "-1", "soon", "1.5", "99999999999999999999", "400d"] {
            assert_eq!(asked(&[wrong]), Err(Code::InvalidArgument), "{wrong:?}");
        }
        assert_eq!(asked(&["30", "30"]), Err(Code::InvalidArgument));
    }
}
