//! A policy as text: TOML for people and for files, JSON for programs.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use quorate_proto_api::cluster::{AuditIssuance, CrlMode, KeyType as WireKeyType, NetworkProfile, Policy, Publication};
use quorate_proto_identity::KeyType;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, Serialize};

use crate::cli::failure::Failure;
use crate::cli::files::STANDARD_INPUT;
use crate::cli::json::Wide;
use crate::duration::Seconds;

/// Largest policy file read; a policy has a few hundred bytes.
const FILE_BYTES_LIMIT: u64 = 64 * 1024;

/// Values of a policy that somebody wrote down; what is left out is `None`.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PolicyFile {
    root_lifetime: Option<Lifetime>,
    issuing_lifetime: Option<Lifetime>,
    x509_svid_lifetime: Option<Lifetime>,
    jwt_key_lifetime: Option<Lifetime>,
    jwt_svid_lifetime: Option<Lifetime>,
    refresh_hint: Option<Lifetime>,
    root_key_type: Option<KeyName>,
    issuing_key_type: Option<KeyName>,
    x509_svid_key_type: Option<KeyName>,
    jwt_key_type: Option<KeyName>,
    network: Option<Network>,
    crl_mode: Option<Crls>,
    crl_settle: Option<Span>,
    publication_time: Option<Span>,
    audit_issuance: Option<Audited>,
    publication: Option<Published>,
}

impl PolicyFile {
    /// Reads a file, or standard input when the path is `-`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or holds anything but the values of a policy.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |cause| Failure::Given { path: path.to_owned(), cause };
        let text = if path.as_os_str() == STANDARD_INPUT {
            io::read_to_string(io::stdin().lock().take(FILE_BYTES_LIMIT))
        } else {
            File::open(path).and_then(|file| io::read_to_string(file.take(FILE_BYTES_LIMIT)))
        };
        let text = text.map_err(failed)?;
        toml::from_str(&text).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
    }

    /// Reads `key=value` pairs.
    ///
    /// # Errors
    ///
    /// When a pair is none, a key is given twice or not known, or a value does not fit.
    pub(super) fn from_values(pairs: &[String]) -> Result<Self, Failure> {
        let mut table = toml::Table::new();
        for pair in pairs {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Failure::Usage(format!("{pair:?}: write KEY=VALUE, such as x509_svid_lifetime=30m")))?;
            let one = toml::Table::from_iter([(key.to_owned(), toml::Value::String(value.to_owned()))]);
            // Each by itself first, so that the message names the pair.
            one.clone().try_into::<Self>().map_err(|error| Failure::Usage(format!("{pair}: {}", error.message())))?;
            if table.contains_key(key) {
                return Err(Failure::Usage(format!("{pair}: {key} is given twice")));
            }
            table.extend(one);
        }
        table.try_into().map_err(|error: toml::de::Error| Failure::Usage(error.message().to_owned()))
    }

    /// These values, and for all others the node's defaults.
    pub(crate) fn onto_default(&self) -> Policy {
        self.onto(Policy::default())
    }

    /// These values, and for all others those of `policy`.
    pub(super) fn onto(&self, mut policy: Policy) -> Policy {
        for (field, value) in [
            (&mut policy.root_lifetime, self.root_lifetime),
            (&mut policy.issuing_lifetime, self.issuing_lifetime),
            (&mut policy.x509_svid_lifetime, self.x509_svid_lifetime),
            (&mut policy.jwt_key_lifetime, self.jwt_key_lifetime),
            (&mut policy.jwt_svid_lifetime, self.jwt_svid_lifetime),
            (&mut policy.refresh_hint, self.refresh_hint),
        ] {
            if let Some(Lifetime(value)) = value {
                *field = value.get();
            }
        }
        for (field, value) in [
            (&mut policy.root_key_type, self.root_key_type),
            (&mut policy.issuing_key_type, self.issuing_key_type),
            (&mut policy.x509_svid_key_type, self.x509_svid_key_type),
            (&mut policy.jwt_key_type, self.jwt_key_type),
        ] {
            if let Some(KeyName(value)) = value {
                *field = to_wire(value).into();
            }
        }
        if let Some(network) = self.network {
            policy.network = match network {
                Network::Site => NetworkProfile::Site,
                Network::Distance => NetworkProfile::Distance,
            }
            .into();
        }
        if let Some(crls) = self.crl_mode {
            policy.crl_mode = match crls {
                Crls::Off => CrlMode::Off,
                Crls::WhenRevoked => CrlMode::WhenRevoked,
                Crls::Always => CrlMode::Always,
            }
            .into();
        }
        if let Some(Span(settle)) = self.crl_settle {
            policy.crl_settle = Some(settle.get());
        }
        if let Some(Span(time)) = self.publication_time {
            policy.publication_time = time.get();
        }
        if let Some(audited) = self.audit_issuance {
            policy.audit_issuance = match audited {
                Audited::Off => AuditIssuance::Off,
                Audited::Recorded => AuditIssuance::Recorded,
                Audited::Required => AuditIssuance::Required,
            }
            .into();
        }
        if let Some(published) = self.publication {
            policy.publication = match published {
                Published::Hints => Publication::Hints,
                Published::ConfirmedByPeers => Publication::ConfirmedByPeers,
            }
            .into();
        }
        policy
    }
}

/// A lifetime: `"30d"`, or a number of seconds. None at all is refused: to a node, 0 means its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifetime(Seconds);

impl<'de> Deserialize<'de> for Lifetime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Span(seconds) = Span::deserialize(deserializer)?;
        if seconds == Seconds::default() {
            return Err(D::Error::custom("a lifetime of nothing is no lifetime: leave the line out for the default"));
        }
        Ok(Self(seconds))
    }
}

/// A time that may be none at all: `"10s"`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span(Seconds);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wanted;
        impl Visitor<'_> for Wanted {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"30d\", \"1h30m\", or a number of seconds")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Seconds, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Seconds, E> {
                Ok(Seconds::new(seconds))
            }
        }
        deserializer.deserialize_any(Wanted).map(Self)
    }
}

/// A key type by its name, such as `"ec-p256"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KeyName(KeyType);

impl<'de> Deserialize<'de> for KeyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// How far apart members are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Network {
    Site,
    Distance,
}

/// When CRLs are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Crls {
    Off,
    WhenRevoked,
    Always,
}

/// Whether issued SVIDs are records of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Audited {
    Off,
    Recorded,
    Required,
}

/// What tells that other trust domains know a new authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Published {
    Hints,
    ConfirmedByPeers,
}

/// `quorate.cluster.v1.Policy`
#[derive(Debug, Serialize)]
pub(super) struct PolicyJson {
    root_lifetime: Wide<i64>,
    issuing_lifetime: Wide<i64>,
    x509_svid_lifetime: Wide<i64>,
    jwt_key_lifetime: Wide<i64>,
    jwt_svid_lifetime: Wide<i64>,
    refresh_hint: Wide<i64>,
    root_key_type: &'static str,
    issuing_key_type: &'static str,
    x509_svid_key_type: &'static str,
    jwt_key_type: &'static str,
    network: &'static str,
    revision: Wide<u64>,
    crl_mode: &'static str,
    crl_settle: Wide<i64>,
    publication_time: Wide<i64>,
    audit_issuance: &'static str,
    publication: &'static str,
}

impl From<&Policy> for PolicyJson {
    fn from(policy: &Policy) -> Self {
        Self {
            root_lifetime: Wide(policy.root_lifetime),
            issuing_lifetime: Wide(policy.issuing_lifetime),
            x509_svid_lifetime: Wide(policy.x509_svid_lifetime),
            jwt_key_lifetime: Wide(policy.jwt_key_lifetime),
            jwt_svid_lifetime: Wide(policy.jwt_svid_lifetime),
            refresh_hint: Wide(policy.refresh_hint),
            root_key_type: policy.root_key_type().as_str_name(),
            issuing_key_type: policy.issuing_key_type().as_str_name(),
            x509_svid_key_type: policy.x509_svid_key_type().as_str_name(),
            jwt_key_type: policy.jwt_key_type().as_str_name(),
            network: policy.network().as_str_name(),
            revision: Wide(policy.revision),
            crl_mode: policy.crl_mode().as_str_name(),
            crl_settle: Wide(policy.crl_settle()),
            publication_time: Wide(policy.publication_time),
            audit_issuance: policy.audit_issuance().as_str_name(),
            publication: policy.publication().as_str_name(),
        }
    }
}

/// The policy as TOML, its revision in a comment: saved to a file, it can be changed and given back.
pub(super) fn printed(policy: &Policy) -> String {
    let network = match policy.network() {
        NetworkProfile::Unspecified => "",
        NetworkProfile::Site => "site",
        NetworkProfile::Distance => "distance",
    };
    let crl_mode = match policy.crl_mode() {
        CrlMode::Unspecified => "",
        CrlMode::Off => "off",
        CrlMode::WhenRevoked => "when-revoked",
        CrlMode::Always => "always",
    };
    let audit_issuance = match policy.audit_issuance() {
        AuditIssuance::Unspecified => "",
        AuditIssuance::Off => "off",
        AuditIssuance::Recorded => "recorded",
        AuditIssuance::Required => "required",
    };
    let publication = match policy.publication() {
        Publication::Unspecified => "",
        Publication::Hints => "hints",
        Publication::ConfirmedByPeers => "confirmed-by-peers",
    };
    let lifetime = |seconds| Seconds::new(seconds).to_string();
    let key = |key| from_wire(key).map_or("", KeyType::as_str).to_owned();
    let lines = [
        ("root_lifetime", lifetime(policy.root_lifetime)),
        ("issuing_lifetime", lifetime(policy.issuing_lifetime)),
        ("x509_svid_lifetime", lifetime(policy.x509_svid_lifetime)),
        ("jwt_key_lifetime", lifetime(policy.jwt_key_lifetime)),
        ("jwt_svid_lifetime", lifetime(policy.jwt_svid_lifetime)),
        ("refresh_hint", lifetime(policy.refresh_hint)),
        ("root_key_type", key(policy.root_key_type())),
        ("issuing_key_type", key(policy.issuing_key_type())),
        ("x509_svid_key_type", key(policy.x509_svid_key_type())),
        ("jwt_key_type", key(policy.jwt_key_type())),
        ("network", network.to_owned()),
        ("crl_mode", crl_mode.to_owned()),
        ("crl_settle", lifetime(policy.crl_settle())),
        ("publication_time", lifetime(policy.publication_time)),
        ("audit_issuance", audit_issuance.to_owned()),
        ("publication", publication.to_owned()),
    ];
    lines.iter().fold(format!("# revision {}\n", policy.revision), |mut text, (name, value)| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<18} = \"{value}\"");
        text
    })
}

fn to_wire(key_type: KeyType) -> WireKeyType {
    match key_type {
        KeyType::EcP256 => WireKeyType::EcP256,
        KeyType::EcP384 => WireKeyType::EcP384,
        KeyType::Rsa2048 => WireKeyType::Rsa2048,
        KeyType::Rsa4096 => WireKeyType::Rsa4096,
        KeyType::Ed25519 => WireKeyType::Ed25519,
    }
}

fn from_wire(key_type: WireKeyType) -> Option<KeyType> {
    match key_type {
        WireKeyType::Unspecified => None,
        WireKeyType::EcP256 => Some(KeyType::EcP256),
        WireKeyType::EcP384 => Some(KeyType::EcP384),
        WireKeyType::Rsa2048 => Some(KeyType::Rsa2048),
        WireKeyType::Rsa4096 => Some(KeyType::Rsa4096),
        WireKeyType::Ed25519 => Some(KeyType::Ed25519),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            root_lifetime: 2_592_000,
            issuing_lifetime: 86_400,
            x509_svid_lifetime: 5_400,
            jwt_key_lifetime: 604_800,
            jwt_svid_lifetime: 300,
            refresh_hint: 300,
            root_key_type: WireKeyType::EcP384.into(),
            issuing_key_type: WireKeyType::EcP256.into(),
            x509_svid_key_type: WireKeyType::Ed25519.into(),
            jwt_key_type: WireKeyType::Rsa2048.into(),
            network: NetworkProfile::Distance.into(),
            revision: 7,
            crl_mode: CrlMode::Always.into(),
            crl_settle: Some(0),
            publication_time: 60,
            audit_issuance: AuditIssuance::Recorded.into(),
            publication: Publication::ConfirmedByPeers.into(),
        }
    }

    #[test]
    fn a_policy_that_was_shown_can_be_given_back() {
        let text = printed(&policy());
        assert!(text.starts_with("# revision 7\nroot_lifetime      = \"30d\"\n"), "{text}");
        let file: PolicyFile = toml::from_str(&text).unwrap();
        assert_eq!(file.onto_default(), Policy { revision: 0, ..policy() });
    }

    #[test]
    fn values_change_what_they_name_and_nothing_else() {
        let file = PolicyFile::from_values(&["x509_svid_lifetime=10".into(), "network=site".into()]).unwrap();
        let expected = Policy { x509_svid_lifetime: 10, network: NetworkProfile::Site.into(), ..policy() };
        assert_eq!(file.onto(policy()), expected);
    }

    #[test]
    fn what_is_no_value_of_a_policy_is_refused_by_its_name() {
        for (pair, said) in [
            ("x509_svid_ttl=1h", "unknown field `x509_svid_ttl`"),
            ("x509_svid_lifetime=1x", "write a length of time"),
            ("x509_svid_lifetime=0", "lifetime of nothing"),
            ("root_key_type=dsa", "unknown key type \"dsa\""),
            ("network=moon", "unknown variant `moon`"),
            ("crl_mode=sometimes", "unknown variant `sometimes`"),
            ("audit_issuance=maybe", "unknown variant `maybe`"),
            ("network", "write KEY=VALUE"),
        ] {
            let error = PolicyFile::from_values(&[pair.to_owned()]).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains(pair), "{pair}: {error}");
        }
        let twice = ["refresh_hint=5m".to_owned(), "refresh_hint=6m".to_owned()];
        assert!(PolicyFile::from_values(&twice).unwrap_err().to_string().contains("given twice"));
    }
}
