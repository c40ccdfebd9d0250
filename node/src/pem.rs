//! DER documents as PEM (RFC 7468).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest line of base64 in a PEM file (RFC 7468 section 2).
const PEM_LINE: usize = 64;

/// A DER document as a PEM block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for (position, character) in encoded.chars().enumerate() {
        if position > 0 && position.checked_rem(PEM_LINE) == Some(0) {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str(&format!("\n-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_64_characters_and_none_that_is_empty() {
        let text = pem("X", &[0; 48]);
        assert_eq!(text, format!("-----BEGIN X-----\n{}\n-----END X-----\n", "A".repeat(64)));
        let text = pem("X", &[0; 49]);
        assert_eq!(text.lines().nth(2), Some("AA=="));
    }
}
