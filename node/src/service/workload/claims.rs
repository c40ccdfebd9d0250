//! Claims of a token as the wire has them: protobuf's `Struct`, where every number is a double.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as WireValue};
use serde_json::{Map, Value};

/// Converts a payload; its depth was bounded when it was parsed.
pub(super) fn to_wire(claims: &Map<String, Value>) -> Struct {
    Struct { fields: claims.iter().map(|(name, value)| (name.clone(), wire_value(value))).collect() }
}

fn wire_value(value: &Value) -> WireValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        // A number that no double holds is out of range for its reader too.
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::INFINITY)),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.iter().map(wire_value).collect() }),
        Value::Object(fields) => Kind::StructValue(to_wire(fields)),
    };
    WireValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_claim_is_carried_over_wapi_41() {
        let claims = serde_json::json!({
            "sub": "spiffe://example.org/w", "exp": 1_700_000_000, "aud": ["a", "b"], "x": {"y": null, "z": true},
        });
        let Value::Object(claims) = claims else { panic!("an object") };
        let wire = to_wire(&claims);
        let kind = |name: &str| wire.fields[name].kind.clone().unwrap();
        assert_eq!(kind("sub"), Kind::StringValue("spiffe://example.org/w".to_owned()));
        assert_eq!(kind("exp"), Kind::NumberValue(1_700_000_000.0));
        let Kind::ListValue(list) = kind("aud") else { panic!("a list") };
        assert_eq!(list.values.len(), 2);
        let Kind::StructValue(inner) = kind("x") else { panic!("an object") };
        assert_eq!(inner.fields["y"].kind, Some(Kind::NullValue(0)));
        assert_eq!(inner.fields["z"].kind, Some(Kind::BoolValue(true)));
    }
}
