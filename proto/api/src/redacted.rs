//! `Debug` of the messages that bear secrets.
//!
//! A message is printed by whoever logs a request in anger. So private keys and tokens, which are credentials to
//! whoever reads them, show their length and nothing else. The test below fails when a message is generated with a
//! `Debug` of its own again.

use std::fmt;

use crate::cluster;
use crate::peer;
use crate::spire::types;
use crate::workload;

/// Stands for a secret: prints how long it is.
struct Withheld(usize);

impl fmt::Debug for Withheld {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} bytes withheld]", self.0)
    }
}

impl fmt::Debug for peer::AdmitRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, name, sealing_key, addresses, version, build, secret, incarnation, sent_at } = self;
        formatter
            .debug_struct("AdmitRequest")
            .field("trust_domain", trust_domain)
            .field("name", name)
            .field("sealing_key", sealing_key)
            .field("addresses", addresses)
            .field("version", version)
            .field("build", build)
            .field("secret", &Withheld(secret.len()))
            .field("incarnation", incarnation)
            .field("sent_at", sent_at)
            .finish()
    }
}

impl fmt::Debug for cluster::InviteResponse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invitation, expires_at, sentences, log_index } = self;
        formatter
            .debug_struct("InviteResponse")
            .field("invitation", &Withheld(invitation.len()))
            .field("expires_at", expires_at)
            .field("sentences", sentences)
            .field("log_index", log_index)
            .finish()
    }
}

impl fmt::Debug for cluster::CreateRelationshipRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { relationship, bundle, secret, dry_run } = self;
        formatter
            .debug_struct("CreateRelationshipRequest")
            .field("relationship", relationship)
            .field("bundle", bundle)
            .field("secret", &Withheld(secret.len()))
            .field("dry_run", dry_run)
            .finish()
    }
}

impl fmt::Debug for cluster::UpdateRelationshipRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, endpoint, pins, poll, secret, expected_revision, dry_run } = self;
        formatter
            .debug_struct("UpdateRelationshipRequest")
            .field("trust_domain", trust_domain)
            .field("endpoint", endpoint)
            .field("pins", pins)
            .field("poll", poll)
            .field("secret", &Withheld(secret.len()))
            .field("expected_revision", expected_revision)
            .field("dry_run", dry_run)
            .finish()
    }
}

impl fmt::Debug for cluster::ApiKeyWithSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, api_key } = self;
        formatter.debug_struct("ApiKeyWithSecret").field("key", &Withheld(key.len())).field("api_key", api_key).finish()
    }
}

impl fmt::Debug for workload::X509svid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spiffe_id, x509_svid, x509_svid_key, bundle, hint } = self;
        formatter
            .debug_struct("X509SVID")
            .field("spiffe_id", spiffe_id)
            .field("x509_svid", x509_svid)
            .field("x509_svid_key", &Withheld(x509_svid_key.len()))
            .field("bundle", bundle)
            .field("hint", hint)
            .finish()
    }
}

impl fmt::Debug for workload::Jwtsvid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spiffe_id, svid, hint } = self;
        formatter
            .debug_struct("JWTSVID")
            .field("spiffe_id", spiffe_id)
            .field("svid", &Withheld(svid.len()))
            .field("hint", hint)
            .finish()
    }
}

impl fmt::Debug for workload::ValidateJwtsvidRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { audience, svid } = self;
        formatter
            .debug_struct("ValidateJWTSVIDRequest")
            .field("audience", audience)
            .field("svid", &Withheld(svid.len()))
            .finish()
    }
}

impl fmt::Debug for workload::Witsvid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { spiffe_id, wit_svid, wit_svid_key, hint } = self;
        formatter
            .debug_struct("WITSVID")
            .field("spiffe_id", spiffe_id)
            .field("wit_svid", &Withheld(wit_svid.len()))
            .field("wit_svid_key", &Withheld(wit_svid_key.len()))
            .field("hint", hint)
            .finish()
    }
}

impl fmt::Debug for types::Jwtsvid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, id, expires_at, issued_at, hint } = self;
        formatter
            .debug_struct("JWTSVID")
            .field("token", &Withheld(token.len()))
            .field("id", id)
            .field("expires_at", expires_at)
            .field("issued_at", issued_at)
            .field("hint", hint)
            .finish()
    }
}

impl fmt::Debug for types::Witsvid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { token, id, expires_at, issued_at, hint } = self;
        formatter
            .debug_struct("WITSVID")
            .field("token", &Withheld(token.len()))
            .field("id", id)
            .field("expires_at", expires_at)
            .field("issued_at", issued_at)
            .field("hint", hint)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_neither_private_keys_nor_tokens() {
        let secret = "c2VjcmV0".to_owned();
        let x509 = workload::X509svidResponse {
            svids: vec![workload::X509svid { x509_svid_key: secret.clone().into(), ..Default::default() }],
            ..Default::default()
        };
        let jwt =
            workload::JwtsvidResponse { svids: vec![workload::Jwtsvid { svid: secret.clone(), ..Default::default() }] };
        let validate = workload::ValidateJwtsvidRequest { svid: secret.clone(), ..Default::default() };
        let wit = workload::Witsvid { wit_svid: secret.clone(), wit_svid_key: secret.clone(), ..Default::default() };
        let minted_jwt = crate::spire::svid::MintJwtsvidResponse {
            svid: Some(types::Jwtsvid { token: secret.clone(), ..Default::default() }),
        };
        let minted_wit = crate::spire::svid::MintWitsvidResponse {
            svid: Some(types::Witsvid { token: secret.clone(), ..Default::default() }),
        };
        let admit = peer::AdmitRequest { secret: secret.clone().into(), ..Default::default() };
        let invite = cluster::InviteResponse { invitation: secret.clone(), ..Default::default() };
        let key = cluster::ApiKeyWithSecret { key: secret.clone(), ..Default::default() };
        let create = cluster::CreateRelationshipRequest { secret: secret.clone().into(), ..Default::default() };
        let update = cluster::UpdateRelationshipRequest { secret: secret.clone().into(), ..Default::default() };
        let printed = format!(
            "{x509:?}{jwt:?}{validate:?}{wit:?}{minted_jwt:?}{minted_wit:?}{admit:?}{invite:?}{create:?}{update:?}{key:?}"
        );
        assert!(!printed.contains(&secret), "{printed}");
        assert!(!printed.contains("99, 50, 86"), "bytes as numbers: {printed}");
        assert_eq!(printed.matches("[8 bytes withheld]").count(), 12, "{printed}");
    }
}
