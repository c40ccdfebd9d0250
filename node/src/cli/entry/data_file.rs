//! Entries from a JSON file, in the form that the SPIRE CLI reads: `{"entries": [{"spiffe_id": "...", ...}]}`.
//!
//! Taken are that form (IDs as text, `entry_id`, `entryExpiry`) and the one that `entry show -o json` prints (IDs in
//! two pieces, `id`, `expires_at`, wide numbers as text), so that what one cluster shows another can take. Where SPIRE
//! skips what it does not know, this refuses it: a mistyped `selectors` would make an entry other than meant.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use quorate_proto_api::spire::types;
use quorate_proto_identity::{Selector, SpiffeId, TrustDomain};
use serde_json::{Map, Value};

use crate::cli::failure::Failure;
use crate::cli::files::STANDARD_INPUT;

/// Largest file read. A million entries of common size have half as much.
const FILE_BYTES_LIMIT: u64 = 512 * 1024 * 1024;

/// Reads all entries of a file, or of standard input when the path is `-`.
///
/// # Errors
///
/// When the file cannot be read, is too large, or holds anything that is not understood: then nothing of it is used.
pub(super) fn read(path: &Path) -> Result<Vec<types::Entry>, Failure> {
    let failed = |cause| Failure::Given { path: path.to_owned(), cause };
    let bytes = if path.as_os_str() == STANDARD_INPUT {
        limited(io::stdin().lock()).map_err(failed)?
    } else {
        File::open(path).and_then(limited).map_err(failed)?
    };
    parse(&bytes).map_err(|problem| Failure::Usage(format!("{}: {problem}", path.display())))
}

fn limited(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(FILE_BYTES_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("the most is {FILE_BYTES_LIMIT} bytes")));
    }
    Ok(bytes)
}

/// What is wrong with a file, and where in it: `entries[2].selectors[0].type: ...`.
type Parsed<T> = Result<T, String>;

fn parse(bytes: &[u8]) -> Parsed<Vec<types::Entry>> {
    let document: Value = serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
    let mut top = Fields::of("", document)?;
    let entries = match top.take(&["entries"]) {
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err("entries: a list is wanted".to_owned()),
        None => return Err("there is no list `entries`".to_owned()),
    };
    // Of `entry show -o json`; always empty there.
    top.take(&["next_page_token"]);
    top.finish()?;
    entries.into_iter().enumerate().map(|(position, value)| entry(&format!("entries[{position}]"), value)).collect()
}

fn entry(place: &str, value: Value) -> Parsed<types::Entry> {
    let mut fields = Fields::of(place, value)?;
    let entry = types::Entry {
        id: fields.text(&["id", "entry_id"])?,
        spiffe_id: Some(fields.spiffe_id("spiffe_id")?),
        parent_id: Some(fields.spiffe_id("parent_id")?),
        selectors: fields.selectors()?,
        x509_svid_ttl: fields.number(&["x509_svid_ttl", "ttl"])?,
        federates_with: fields.trust_domains()?,
        admin: fields.flag("admin")?,
        downstream: fields.flag("downstream")?,
        expires_at: fields.number(&["expires_at", "entryExpiry", "entry_expiry"])?,
        dns_names: fields.texts("dns_names")?,
        revision_number: 0,
        store_svid: fields.flag("store_svid")?,
        jwt_svid_ttl: fields.number(&["jwt_svid_ttl"])?,
        hint: fields.text(&["hint"])?,
        created_at: 0,
        additional_attributes: fields.attributes()?,
    };
    // What the authority gives; understood, and not used.
    fields.take(&["revision_number"]);
    fields.take(&["created_at"]);
    fields.finish()?;
    Ok(entry)
}

/// The fields of one JSON object, each taken once; what is left at the end is unknown.
struct Fields<'a> {
    place: &'a str,
    fields: Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn of(place: &'a str, value: Value) -> Parsed<Self> {
        let Value::Object(fields) = value else {
            return Err(at(place, "an object is wanted"));
        };
        Ok(Self { place, fields })
    }

    /// The value under one of these names; `null` is as good as nothing.
    fn take(&mut self, names: &[&str]) -> Option<Value> {
        let values: Vec<Value> = names.iter().filter_map(|name| self.fields.remove(*name)).collect();
        values.into_iter().find(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, problem: impl AsRef<str>) -> String {
        at(&join(self.place, name), problem.as_ref())
    }

    fn text(&mut self, names: &[&str]) -> Parsed<String> {
        match self.take(names) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.wrong(names.first().unwrap_or(&""), "text is wanted")),
        }
    }

    fn texts(&mut self, name: &str) -> Parsed<Vec<String>> {
        let list = match self.take(&[name]) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(self.wrong(name, "a list of texts is wanted")),
        };
        list.into_iter()
            .map(|value| {
                let Value::String(text) = value else {
                    return Err(self.wrong(name, "a list of texts is wanted"));
                };
                Ok(text)
            })
            .collect()
    }

    fn flag(&mut self, name: &str) -> Parsed<bool> {
        match self.take(&[name]) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "true or false is wanted")),
        }
    }

    /// A whole number, also one written as text, as protobuf's JSON has wide ones.
    fn number<T: TryFrom<i64> + Default>(&mut self, names: &[&str]) -> Parsed<T> {
        let name = names.first().copied().unwrap_or_default();
        let number = match self.take(names) {
            None => return Ok(T::default()),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.wrong(name, "a whole number is wanted, and not so large a one"))
    }

    /// An ID as one text or in two pieces.
    fn spiffe_id(&mut self, name: &str) -> Parsed<types::Spiffeid> {
        let id = match self.take(&[name]) {
            None => return Err(self.wrong(name, "missing")),
            Some(Value::String(text)) => SpiffeId::parse(&text),
            Some(value @ Value::Object(_)) => {
                let place = join(self.place, name);
                let mut pieces = Fields::of(&place, value)?;
                let (trust_domain, path) = (pieces.text(&["trust_domain"])?, pieces.text(&["path"])?);
                pieces.finish()?;
                TrustDomain::parse_name_or_id(&trust_domain)
                    .map_err(Into::into)
                    .and_then(|trust_domain| SpiffeId::from_path(&trust_domain, &path))
            }
            Some(_) => return Err(self.wrong(name, "a SPIFFE ID is wanted")),
        };
        id.map(|id| (&id).into()).map_err(|error| self.wrong(name, error.to_string()))
    }

    fn selectors(&mut self) -> Parsed<Vec<types::Selector>> {
        const NAME: &str = "selectors";
        let list = match self.take(&[NAME]) {
            Some(Value::Array(list)) if !list.is_empty() => list,
            _ => return Err(self.wrong(NAME, "a list of at least one selector is wanted")),
        };
        list.into_iter()
            .enumerate()
            .map(|(position, value)| {
                let place = format!("{}[{position}]", join(self.place, NAME));
                let mut fields = Fields::of(&place, value)?;
                let (kind, text) = (fields.text(&["type"])?, fields.text(&["value"])?);
                fields.finish()?;
                Selector::new(&kind, &text)
                    .map(|selector| (&selector).into())
                    .map_err(|error| at(&place, &error.to_string()))
            })
            .collect()
    }

    fn trust_domains(&mut self) -> Parsed<Vec<String>> {
        const NAME: &str = "federates_with";
        self.texts(NAME)?
            .iter()
            .map(|text| {
                TrustDomain::parse_name_or_id(text)
                    .map(|name| name.as_str().to_owned())
                    .map_err(|error| self.wrong(NAME, error.to_string()))
            })
            .collect()
    }

    fn attributes(&mut self) -> Parsed<Option<types::entry::AdditionalAttributes>> {
        const NAME: &str = "additional_attributes";
        let Some(value) = self.take(&[NAME]) else {
            return Ok(None);
        };
        let place = join(self.place, NAME);
        let mut fields = Fields::of(&place, value)?;
        let attributes = types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: fields.flag("disable_x509_svid_prefetch")?,
            jwt_svid_include_jti: fields.flag("jwt_svid_include_jti")?,
        };
        fields.finish()?;
        Ok(Some(attributes))
    }

    /// Refuses what nobody took.
    fn finish(self) -> Parsed<()> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(at(&join(self.place, name), "this field is not known")),
        }
    }
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

fn at(place: &str, problem: &str) -> String {
    if place.is_empty() { problem.to_owned() } else { format!("{place}: {problem}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> types::Entry {
        let mut entries = parse(text.as_bytes()).unwrap();
        assert_eq!(entries.len(), 1);
        entries.remove(0)
    }

    #[test]
    fn the_spire_clis_file_is_understood() {
        let entry = one(r#"{"entries": [{
            "selectors": [{"type": "unix", "value": "uid:1111"}],
            "spiffe_id": "spiffe://example.org/Blog",
            "parent_id": "spiffe://example.org/spire/agent/join_token/TokenBlog",
            "entry_id": "blog-1", "x509_svid_ttl": 200, "jwt_svid_ttl": 30, "admin": true,
            "federates_with": ["spiffe://other.test"], "entryExpiry": 1552410266, "dns_names": ["blog.test"],
            "hint": "external", "store_svid": false, "downstream": false
        }]}"#);
        assert_eq!(entry.id, "blog-1");
        assert_eq!(entry.spiffe_id.unwrap().path, "/Blog");
        assert_eq!(entry.parent_id.unwrap().path, "/spire/agent/join_token/TokenBlog");
        assert_eq!((entry.x509_svid_ttl, entry.jwt_svid_ttl, entry.expires_at), (200, 30, 1_552_410_266));
        assert_eq!((entry.federates_with, entry.dns_names), (vec!["other.test".into()], vec!["blog.test".into()]));
        assert!(entry.admin);
    }

    #[test]
    fn what_entry_show_prints_can_be_created_elsewhere() {
        let shown = types::Entry {
            id: "e".into(),
            spiffe_id: Some(types::Spiffeid { trust_domain: "example.org".into(), path: "/web".into() }),
            parent_id: Some(types::Spiffeid { trust_domain: "example.org".into(), path: "/spire/nodes".into() }),
            selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
            expires_at: 1_900_000_000,
            additional_attributes: Some(types::entry::AdditionalAttributes {
                disable_x509_svid_prefetch: true,
                jwt_svid_include_jti: false,
            }),
            ..types::Entry::default()
        };
        let json = serde_json::to_string(&crate::cli::json::EntryJson::from(&shown)).unwrap();
        assert_eq!(one(&format!("{{\"entries\": [{json}], \"next_page_token\": \"\"}}")), shown);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_place() {
        let entry = |fields: &str| {
            format!(
                r#"{{"entries": [{{"spiffe_id": "spiffe://example.org/a", "parent_id": "spiffe://example.org/b",
                    "selectors": [{{"type": "a", "value": "b"}}]{fields}}}]}}"#
            )
        };
        for (text, said) in [
            ("{".to_owned(), "not JSON: "),
            ("[]".to_owned(), "an object is wanted"),
            ("{}".to_owned(), "there is no list `entries`"),
            (r#"{"entries": {}}"#.to_owned(), "entries: a list is wanted"),
            (r#"{"entries": [7]}"#.to_owned(), "entries[0]: an object is wanted"),
            (r#"{"entries": [{}]}"#.to_owned(), "entries[0].spiffe_id: missing"),
            (entry(r#", "selector": []"#), "entries[0].selector: this field is not known"),
            (entry(r#", "x509_svid_ttl": 3000000000"#), "entries[0].x509_svid_ttl: a whole number is wanted"),
            (entry(r#", "x509_svid_ttl": "1h""#), "entries[0].x509_svid_ttl: a whole number is wanted"),
            (entry(r#", "admin": "yes""#), "entries[0].admin: true or false is wanted"),
            (entry(r#", "federates_with": ["Other"]"#), "entries[0].federates_with: "),
            (entry("").replace("example.org/a", "example.org/a/"), "entries[0].spiffe_id: the path has an empty"),
            (entry("").replace(r#""type": "a""#, r#""type": "a:b""#), "entries[0].selectors[0]: "),
            (entry("").replace(r#"{"type": "a", "value": "b"}"#, ""), "entries[0].selectors: a list of at least one"),
        ] {
            let problem = parse(text.as_bytes()).unwrap_err();
            assert!(problem.starts_with(said), "{text}\n{problem}");
        }
    }
}
