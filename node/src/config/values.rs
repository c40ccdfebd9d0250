//! The rules for single values: from what the file says to a checked type.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use quorate_proto_identity::NodeName;
use quorate_proto_identity::TrustDomain;
use quorate_raft_machine::members::ADDRESSES_PER_MEMBER;
use toml::de::DeValue;
use url::Url;

use super::document::Checked;
use super::federation::DomainPin;
use super::suggest::nearest;
use super::{GroupName, LogFormat, ServerProfile};
use crate::peer::address::{PeerAddress, is_host_name};

/// Longest path of a unix socket: `sockaddr_un` has 108 bytes, the last of them zero.
pub(super) const LONGEST_SOCKET_PATH: usize = 107;

/// Longest URL and path of one: what clients of ours take (FED-18).
const LONGEST_URL: usize = 2048;

/// Most host names in a list: each request is compared with all of them.
const MOST_HOSTS: usize = 64;

/// Most pins in a list: two for each of a few hundred trust domains.
const MOST_PINS: usize = 1_024;

fn text<'v>(value: &'v DeValue<'_>) -> Checked<&'v str> {
    value.as_str().ok_or_else(|| format!("must be text in quotes, not {}", kind_of(value)))
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn trust_domain(value: &DeValue<'_>) -> Checked<TrustDomain> {
    let name = text(value)?;
    TrustDomain::new(name).map_err(|error| {
        let hint = if name.contains("://") {
            "; write only the name, without spiffe://"
        } else {
            "; a name is 1 to 255 of a-z, 0-9, '.', '-' and '_'"
        };
        format!("{name:?} is no trust domain name: {error}{hint}")
    })
}

pub(super) fn node_name(value: &DeValue<'_>) -> Checked<NodeName> {
    let name = text(value)?;
    NodeName::new(name).map_err(|error| format!("{error}; write for example \"node-1\""))
}

pub(super) fn directory(value: &DeValue<'_>) -> Checked<PathBuf> {
    let path = PathBuf::from(text(value)?);
    if !path.is_absolute() {
        return Err(format!("{path:?} is not an absolute path; write where it is from the root, /..."));
    }
    Ok(path)
}

pub(super) fn socket(value: &DeValue<'_>) -> Checked<PathBuf> {
    let path = text(value)?;
    if let Some(rest) = path.strip_prefix("unix:") {
        let plain = rest.strip_prefix("//").unwrap_or(rest);
        return Err(format!("write the path alone: {plain:?}"));
    }
    if path.contains("://") || path.parse::<SocketAddr>().is_ok() {
        return Err(format!(
            "{path:?} is a network address; this API is served on a unix socket alone, because \
             only there the kernel says who calls; write a path"
        ));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(format!(
            "the path has {} bytes and the kernel takes at most {LONGEST_SOCKET_PATH}; choose a \
             shorter one",
            path.len()
        ));
    }
    if path.ends_with('/') || path.contains('\0') {
        return Err(format!("{path:?} names no file; write the path of the socket itself"));
    }
    directory(value)
}

pub(super) fn group(value: &DeValue<'_>) -> Checked<GroupName> {
    if let DeValue::Integer(_) = value {
        let number = count(value, 0, u64::from(u32::MAX - 1))?;
        return u32::try_from(number).map(GroupName::Number).map_err(|error| error.to_string());
    }
    let name = text(value)?;
    if name.is_empty() || name.contains([':', '\n', '\0']) {
        return Err(format!("{name:?} is no group name; write a name of /etc/group or a number"));
    }
    Ok(name.parse().map_or_else(|_| GroupName::Name(name.to_owned()), GroupName::Number))
}

pub(super) fn listen(value: &DeValue<'_>) -> Checked<SocketAddr> {
    let address = text(value)?;
    address.parse().map_err(|_| {
        format!(
            "{address:?} is not an IP address with a port; write for example \"127.0.0.1:8082\" \
             or \"[::]:8082\""
        )
    })
}

pub(super) fn listen_or_none(value: &DeValue<'_>) -> Checked<Option<SocketAddr>> {
    if text(value)? == "none" { Ok(None) } else { listen(value).map(Some) }
}

pub(super) fn boolean(value: &DeValue<'_>) -> Checked<bool> {
    value.as_bool().ok_or_else(|| format!("must be true or false, not {}", kind_of(value)))
}

pub(super) fn server_profile(value: &DeValue<'_>) -> Checked<ServerProfile> {
    Ok(match word(value, &["https_spiffe", "https_web"])? {
        "https_web" => ServerProfile::Web,
        _ => ServerProfile::Spiffe,
    })
}

/// The URL at which others reach something here: what FED-18 and FED-31 ask of it.
pub(super) fn https_url(value: &DeValue<'_>) -> Checked<Url> {
    let written = text(value)?;
    let url = Url::parse(written).map_err(|error| {
        format!("{written:?} is no URL: {error}; write for example \"https://bundle.example.org/\"")
    })?;
    if url.scheme() != "https" {
        return Err(format!("{written:?} is not an https URL, and nothing else is served to other trust domains"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!("{written:?} has user information or a fragment; leave that away"));
    }
    if url.host().is_none() || written.len() > LONGEST_URL {
        return Err(format!("{written:?} has no host, or more than {LONGEST_URL} bytes"));
    }
    Ok(url)
}

/// The path of a document: what a request line can have, without query.
pub(super) fn url_path(value: &DeValue<'_>) -> Checked<String> {
    let path = text(value)?;
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
    if !path.starts_with('/') || path.len() > LONGEST_URL || !path.bytes().all(is_good) {
        return Err(format!("{path:?} is no path of a URL; write for example \"/bundle\", without query or escapes"));
    }
    Ok(path.to_owned())
}

/// A list of addresses with ports.
pub(super) fn sockets(value: &DeValue<'_>) -> Checked<Vec<SocketAddr>> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("must be a list, for example [\"10.0.0.53:53\"], not {}", kind_of(value)))?;
    if list.len() > MOST_HOSTS {
        return Err(format!("has {} addresses; at most {MOST_HOSTS} are taken", list.len()));
    }
    list.iter().map(|item| listen(item.get_ref())).collect()
}

/// Networks in the form of RFC 4632: an address, a slash, and how many bits of it count.
pub(super) fn networks(value: &DeValue<'_>) -> Checked<Vec<IpNet>> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("must be a list, for example [\"10.20.0.0/16\"], not {}", kind_of(value)))?;
    if list.len() > MOST_HOSTS {
        return Err(format!("has {} networks; at most {MOST_HOSTS} are taken", list.len()));
    }
    let network = |text: &str| {
        text.parse().map_err(|_| format!("holds {text:?}, which is no network; write as \"10.20.0.0/16\""))
    };
    list.iter().map(|item| network(text(item.get_ref())?)).collect()
}

/// What endpoints are pinned to, a text each.
pub(super) fn pins(value: &DeValue<'_>) -> Checked<Vec<DomainPin>> {
    let list = value.as_array().ok_or_else(|| {
        format!("must be a list, for example [\"b.example host=bundle.b.example\"], not {}", kind_of(value))
    })?;
    if list.len() > MOST_PINS {
        return Err(format!("has {} pins; at most {MOST_PINS} are taken", list.len()));
    }
    list.iter().map(|item| DomainPin::parse(text(item.get_ref())?)).collect()
}

pub(super) fn dial(value: &DeValue<'_>) -> Checked<PeerAddress> {
    PeerAddress::new(text(value)?).map_err(|error| error.to_string())
}

/// One address, or a list of them.
pub(super) fn addresses(value: &DeValue<'_>) -> Checked<Vec<PeerAddress>> {
    let Some(list) = value.as_array() else { return dial(value).map(|address| vec![address]) };
    if list.len() > ADDRESSES_PER_MEMBER {
        return Err(format!("has {} addresses; at most {ADDRESSES_PER_MEMBER} are taken", list.len()));
    }
    let mut addresses = Vec::new();
    for item in list {
        let address = dial(item.get_ref())?;
        if addresses.contains(&address) {
            return Err(format!("has {address} twice"));
        }
        addresses.push(address);
    }
    Ok(addresses)
}

pub(super) fn hosts(value: &DeValue<'_>) -> Checked<Vec<String>> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("must be a list, for example [\"node-1.example.org\"], not {}", kind_of(value)))?;
    if list.len() > MOST_HOSTS {
        return Err(format!("has {} names; at most {MOST_HOSTS} are taken", list.len()));
    }
    list.iter()
        .map(|item| {
            let host = text(item.get_ref())?;
            if is_host_name(host) {
                Ok(host.to_ascii_lowercase())
            } else {
                Err(format!("{host:?} is no host name; write it without scheme and port"))
            }
        })
        .collect()
}

/// Names of claims in a token.
pub(super) fn claims(value: &DeValue<'_>) -> Checked<BTreeSet<String>> {
    let list =
        value.as_array().ok_or_else(|| format!("must be a list, for example [\"iss\"], not {}", kind_of(value)))?;
    if list.len() > MOST_HOSTS {
        return Err(format!("has {} names; at most {MOST_HOSTS} are taken", list.len()));
    }
    list.iter().map(|item| text(item.get_ref()).map(str::to_owned)).collect()
}

pub(super) fn count(value: &DeValue<'_>, least: u64, most: u64) -> Checked<u64> {
    let wrong = || format!("must be a whole number from {least} to {most}");
    let integer = value.as_integer().ok_or_else(wrong)?;
    let number = u64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| wrong())?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(wrong()) }
}

pub(super) fn log_format(value: &DeValue<'_>) -> Checked<LogFormat> {
    Ok(match word(value, &["text", "json"])? {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    })
}

pub(super) fn level(value: &DeValue<'_>) -> Checked<tracing::Level> {
    let name = word(value, &["error", "warn", "info", "debug", "trace"])?;
    name.parse().map_err(|error: tracing::metadata::ParseLevelError| error.to_string())
}

fn word<'v>(value: &'v DeValue<'_>, known: &[&str]) -> Checked<&'v str> {
    let word = text(value)?;
    if known.contains(&word) {
        return Ok(word);
    }
    let hint =
        nearest(word, known.iter().copied()).map(|meant| format!(", did you mean {meant:?}?")).unwrap_or_default();
    Err(format!("{word:?} is not one of {}{hint}", known.join(", ")))
}
