//! Selectors.

use quorate_proto_identity::selector::{Selector, SelectorSet};

use super::ConvertError;
use crate::spire::types;

/// The most selectors that one entry or one filter may have. An attested process has some tens; a thousand is above
/// any use, and still cheap to compare.
pub const SELECTORS_LIMIT: usize = 1_000;

impl From<&Selector> for types::Selector {
    fn from(selector: &Selector) -> Self {
        Self { r#type: selector.kind().to_owned(), value: selector.value().to_owned() }
    }
}

/// Takes a list of selectors as a set. An empty list is an empty set: whether that is allowed is the caller's to say.
///
/// # Errors
///
/// When there are more than [`SELECTORS_LIMIT`], or when one has an empty type, an empty value, or a colon in its type.
pub fn selector_set(field: &'static str, messages: &[types::Selector]) -> Result<SelectorSet, ConvertError> {
    if messages.len() > SELECTORS_LIMIT {
        return Err(ConvertError::TooManySelectors { field, count: messages.len() });
    }
    let selectors: Result<Vec<Selector>, ConvertError> = messages
        .iter()
        .enumerate()
        .map(|(position, message)| {
            Selector::new(&message.r#type, &message.value).map_err(|cause| ConvertError::Selector {
                field,
                position,
                cause,
            })
        })
        .collect();
    Ok(SelectorSet::new(selectors?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, value: &str) -> types::Selector {
        types::Selector { r#type: kind.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn a_list_becomes_a_set_and_comes_back() {
        let set = selector_set("selectors", &[message("unix", "uid:2"), message("unix", "uid:2"), message("a", "b")]);
        let back: Vec<types::Selector> = set.unwrap().iter().map(Into::into).collect();
        assert_eq!(back, [message("a", "b"), message("unix", "uid:2")]);
    }

    #[test]
    fn the_selector_that_is_wrong_is_named_by_its_position() {
        let given = [message("unix", "uid:1"), message("un:ix", "uid:1")];
        let error = selector_set("selectors", &given).unwrap_err();
        assert!(error.to_string().starts_with("selectors[1]: "), "{error}");
    }

    #[test]
    fn too_many_are_refused_before_any_is_looked_at() {
        let given = vec![types::Selector::default(); SELECTORS_LIMIT + 1];
        let error = selector_set("selectors", &given).unwrap_err();
        assert_eq!(error, ConvertError::TooManySelectors { field: "selectors", count: SELECTORS_LIMIT + 1 });
    }
}
