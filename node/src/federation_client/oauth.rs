//! OAuth 2.0, client credentials (RFC 6749, section 4.4): a token for a client ID and secret, held until shortly before it
//! ends.
//!
//! ```text
//!   held, and good for a while? ──yes──► used
//!        | no                              |
//!        v                                 v
//!   POST token_url, Basic auth ──► held    the API says Unauthenticated? ──► dropped, asked for once more, and no more
//! ```
//!
//! The token endpoint is dialled by the same guarded client as everything else (ATK-37): its URL is an operator's, its
//! certificate has to be one of the web for its host. No redirect is followed: a secret goes where it was meant to go.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use parking_lot::Mutex;
use quorate_proto_identity::EndpointUrl;
use serde::Deserialize;
use tokio::time::Instant;
use url::form_urlencoded::{Serializer, byte_serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::outbound::{Limits, Outbound, OutboundError, ServerCheck, Target};

/// Longest answer of a token endpoint: a token has a few kilobytes.
const ANSWER_BYTES_LIMIT: usize = 64 * 1024;

/// Longest token: more does not fit into the headers that servers take.
const TOKEN_BYTES_LIMIT: usize = 8 * 1024;

/// How long a token is taken to be good when the server does not say (`expires_in` is only recommended).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// Longest time that a token is held, whatever the server says: one that was taken away should not go on being sent.
const LONGEST_HELD: Duration = Duration::from_secs(3_600);

/// A token is not used in the last of its time, so that it does not end on the way: a tenth of it, at most this.
const MARGIN: Duration = Duration::from_secs(60);

/// Longest words of a server that are told on.
const WORDS_LIMIT: usize = 200;

/// Most tokens that are held: one for each relationship that a cluster may have.
const HELD_LIMIT: usize = 2_000;

/// What a token is asked for with.
pub(super) struct Client<'a> {
    /// The token endpoint.
    pub(super) token_url: &'a EndpointUrl,
    /// Who we are there.
    pub(super) client_id: &'a str,
    /// The proof of it.
    pub(super) secret: &'a [u8],
    /// The scope asked for; may be empty.
    pub(super) scope: &'a str,
    /// The audience asked for; may be empty. Not in RFC 6749, and asked for by many servers.
    pub(super) audience: &'a str,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The token endpoint could not be asked.
    #[error("the token endpoint {host} was not asked")]
    Outbound {
        /// Its host.
        host: String,
        /// Why not.
        #[source]
        source: OutboundError,
    },
    /// It refuses: wrong client ID, secret, scope or audience.
    #[error("the token endpoint {host} gives no token: {error}{description}")]
    Refused {
        /// Its host.
        host: String,
        /// The code of RFC 6749, section 5.2: `invalid_client`, `invalid_scope`, ...
        error: String,
        /// Its words, after a colon; may be empty.
        description: String,
    },
    /// It answers with something else than a token or a refusal.
    #[error("the token endpoint {host} answers with status {status}")]
    Status {
        /// Its host.
        host: String,
        /// The status.
        status: StatusCode,
    },
    /// It answers 200, and that is no token that can be sent.
    #[error("the answer of the token endpoint {host} cannot be used: {fault}")]
    Answer {
        /// Its host.
        host: String,
        /// Why.
        fault: &'static str,
    },
    /// The secret that is kept for it cannot be sent.
    #[error("the client secret that is kept is no text: give it again with `quorate federation update`")]
    Secret,
}

impl TokenError {
    /// Whether another member may have more luck: the server was not reached, or is not itself.
    #[must_use]
    pub fn is_elsewhere_better(&self) -> bool {
        match self {
            Self::Outbound { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Refused { .. } | Self::Answer { .. } | Self::Secret => false,
        }
    }
}

/// A token, as it goes into `authorization`. Wiped when it is dropped, and not printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(Zeroizing<String>);

impl Token {
    /// What follows `Bearer `.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([withheld])")
    }
}

/// The tokens that are held. Each stands under a digest of everything it was asked for with, so that a changed secret or
/// scope never meets an old token.
#[derive(Default)]
pub(super) struct Tokens {
    held: Mutex<BTreeMap<[u8; 32], Held>>,
    /// Who asks for a token at present: a poll and a watch that begin together ask once.
    asking: Mutex<BTreeMap<[u8; 32], Weak<Turn>>>,
}

struct Held {
    token: Token,
    until: Instant,
}

/// Held by whoever asks.
type Turn = tokio::sync::Mutex<()>;

impl Tokens {
    /// The token for this client: the one that is held, or a new one.
    ///
    /// # Errors
    /// When there is none to be had.
    pub(super) async fn get(&self, outbound: &Outbound, client: &Client<'_>) -> Result<Token, TokenError> {
        let name = client.digest();
        if let Some(token) = self.held_at(&name, Instant::now()) {
            return Ok(token);
        }
        let turn = self.turn(name);
        let _turn = turn.lock().await;
        let asked_at = Instant::now();
        if let Some(token) = self.held_at(&name, asked_at) {
            return Ok(token);
        }
        let (token, lifetime) = ask(outbound, client).await?;
        self.hold(name, token.clone(), asked_at, lifetime);
        Ok(token)
    }

    fn turn(&self, name: [u8; 32]) -> Arc<Turn> {
        let mut asking = self.asking.lock();
        asking.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = asking.get(&name).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(Turn::default());
        asking.insert(name, Arc::downgrade(&turn));
        turn
    }

    /// Forgets a token that was refused, unless it was replaced meanwhile.
    pub(super) fn forget(&self, client: &Client<'_>, refused: &Token) {
        let mut held = self.held.lock();
        if let std::collections::btree_map::Entry::Occupied(entry) = held.entry(client.digest())
            && entry.get().token == *refused
        {
            entry.remove();
        }
    }

    fn held_at(&self, name: &[u8; 32], now: Instant) -> Option<Token> {
        let held = self.held.lock();
        held.get(name).filter(|held| now < held.until).map(|held| held.token.clone())
    }

    fn hold(&self, name: [u8; 32], token: Token, since: Instant, lifetime: Duration) {
        let mut held = self.held.lock();
        held.retain(|_, held| since < held.until);
        if held.len() < HELD_LIMIT {
            held.insert(name, Held { token, until: since + use_for(lifetime) });
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("held", &self.held.lock().len()).finish_non_exhaustive()
    }
}

/// How long a token of this lifetime is used.
fn use_for(lifetime: Duration) -> Duration {
    lifetime.saturating_sub((lifetime / 10).min(MARGIN)).min(LONGEST_HELD)
}

impl Client<'_> {
    fn digest(&self) -> [u8; 32] {
        let mut text = Zeroizing::new(Vec::new());
        let parts = [
            self.token_url.as_str().as_bytes(),
            self.client_id.as_bytes(),
            self.secret,
            self.scope.as_bytes(),
            self.audience.as_bytes(),
        ];
        for part in parts {
            text.extend_from_slice(&part.len().to_be_bytes());
            text.extend_from_slice(part);
        }
        let mut name = [0; 32];
        name.iter_mut().zip(digest(&SHA256, &text).as_ref()).for_each(|(to, from)| *to = *from);
        name
    }

    fn host(&self) -> String {
        self.token_url.host().to_owned()
    }

    /// `client_id:secret`, each encoded as a form is (RFC 6749, section 2.3.1).
    fn authorization(&self) -> Result<HeaderValue, TokenError> {
        let secret = std::str::from_utf8(self.secret).map_err(|_| TokenError::Secret)?;
        let mut pair = Zeroizing::new(String::new());
        pair.extend(byte_serialize(self.client_id.as_bytes()));
        pair.push(':');
        pair.extend(byte_serialize(secret.as_bytes()));
        let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
        let mut value = HeaderValue::from_str(&text).map_err(|_| TokenError::Secret)?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn form(&self) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in [("scope", self.scope), ("audience", self.audience)] {
            if !value.is_empty() {
                form.append_pair(name, value);
            }
        }
        form.finish()
    }
}

async fn ask(outbound: &Outbound, client: &Client<'_>) -> Result<(Token, Duration), TokenError> {
    let failed = |source| TokenError::Outbound { host: client.host(), source };
    let request = Request::builder()
        .method(Method::POST)
        .header(AUTHORIZATION, client.authorization()?)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json")
        .body(Bytes::from(client.form()))
        .map_err(|error| failed(error.into()))?;
    let target = Target::of_operator(client.token_url.clone());
    let limits = Limits { body_bytes: ANSWER_BYTES_LIMIT, ..Limits::default() };
    let answer = outbound.send(&target, &ServerCheck::web(), None, request, limits).await.map_err(failed)?;
    read(client.host(), answer.status, &answer.body)
}

/// RFC 6749, section 5.1.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.access_token.zeroize();
    }
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: String,
}

fn read(host: String, status: StatusCode, body: &[u8]) -> Result<(Token, Duration), TokenError> {
    if status != StatusCode::OK {
        return Err(match serde_json::from_slice::<Refused>(body) {
            Ok(refused) if status.is_client_error() => {
                let description = words(&refused.error_description);
                let description = if description.is_empty() { description } else { format!(": {description}") };
                TokenError::Refused { host, error: words(&refused.error), description }
            }
            Ok(_) | Err(_) => TokenError::Status { host, status },
        });
    }
    let unusable = |fault| TokenError::Answer { host: host.clone(), fault };
    let mut granted: Granted = serde_json::from_slice(body).map_err(|_| unusable("it is no JSON with a token"))?;
    if !granted.token_type.eq_ignore_ascii_case("Bearer") {
        return Err(unusable("its token is of another type than Bearer"));
    }
    let token = Zeroizing::new(std::mem::take(&mut granted.access_token));
    if token.is_empty() || token.len() > TOKEN_BYTES_LIMIT || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable("its token is empty, too long, or holds what no header can"));
    }
    let lifetime = granted.expires_in.map_or(DEFAULT_LIFETIME, Duration::from_secs);
    Ok((Token(token), lifetime))
}

/// A server's words, short, and without what could steer a terminal.
fn words(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(WORDS_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url() -> EndpointUrl {
        EndpointUrl::parse("https://id.example/token").unwrap()
    }

    fn client<'a>(url: &'a EndpointUrl, secret: &'a [u8]) -> Client<'a> {
        Client { token_url: url, client_id: "a b", secret, scope: "bundle:read", audience: "" }
    }

    fn granted(body: &str) -> Result<(Token, Duration), TokenError> {
        read("id.example".to_owned(), StatusCode::OK, body.as_bytes())
    }

    fn refused(status: StatusCode, body: &str) -> String {
        read("id.example".to_owned(), status, body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn id_and_secret_are_encoded_before_they_are_joined() {
        let url = url();
        let client = client(&url, b"s:e/c");
        let expected = format!("Basic {}", STANDARD.encode("a+b:s%3Ae%2Fc"));
        let authorization = client.authorization().unwrap();
        assert_eq!(authorization.to_str().unwrap(), expected);
        assert_eq!(format!("{authorization:?}"), "Sensitive");
        assert_eq!(client.form(), "grant_type=client_credentials&scope=bundle%3Aread");
        assert!(matches!(super::Client { secret: b"\xff", ..client }.authorization(), Err(TokenError::Secret)));
    }

    #[test]
    fn a_granted_token_is_read_with_its_lifetime() {
        let (token, lifetime) = granted(r#"{"access_token":"t.o.k","token_type":"bearer","expires_in":120}"#).unwrap();
        assert_eq!((token.as_str(), lifetime), ("t.o.k", Duration::from_secs(120)));
        let (_, lifetime) = granted(r#"{"access_token":"t","token_type":"Bearer"}"#).unwrap();
        assert_eq!(lifetime, DEFAULT_LIFETIME);
        assert_eq!(format!("{token:?}"), "Token([withheld])");
    }

    #[test]
    fn what_cannot_be_sent_is_no_token() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":"a b","token_type":"Bearer"}"#,
            r#"{"access_token":"a\r\nx: y","token_type":"Bearer"}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"access_token":"t","token_type":"Bearer","expires_in":-1}"#,
        ] {
            assert!(matches!(granted(body), Err(TokenError::Answer { .. })), "{body}");
        }
        let long = format!(r#"{{"access_token":"{}","token_type":"Bearer"}}"#, "t".repeat(TOKEN_BYTES_LIMIT + 1));
        assert!(granted(&long).is_err());
    }

    #[test]
    fn a_refusal_is_told_in_the_servers_words_and_other_answers_by_their_status() {
        let said =
            refused(StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client","error_description":"no\u001b[2J such"}"#);
        assert_eq!(said, "the token endpoint id.example gives no token: invalid_client: no[2J such");
        let said = refused(StatusCode::BAD_REQUEST, r#"{"error":"invalid_scope"}"#);
        assert_eq!(said, "the token endpoint id.example gives no token: invalid_scope");
        assert!(refused(StatusCode::BAD_GATEWAY, r#"{"error":"x"}"#).contains("502"));
        assert!(refused(StatusCode::FOUND, "").contains("302"), "a redirect is not followed");
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        let seconds = Duration::from_secs;
        assert_eq!(use_for(seconds(100)), seconds(90));
        assert_eq!(use_for(seconds(3_000)), seconds(2_940));
        assert_eq!(use_for(seconds(0)), seconds(0));
        assert_eq!(use_for(seconds(1_000_000)), LONGEST_HELD);
    }

    #[tokio::test]
    async fn a_token_is_held_for_exactly_what_it_was_asked_for_with() {
        let (url, tokens, now) = (url(), Tokens::default(), Instant::now());
        let token = |text: &str| Token(Zeroizing::new(text.to_owned()));
        let (one, other) = (client(&url, b"one"), client(&url, b"other"));
        tokens.hold(one.digest(), token("t"), now, Duration::from_secs(100));
        assert_eq!(tokens.held_at(&one.digest(), now + Duration::from_secs(89)), Some(token("t")));
        assert_eq!(tokens.held_at(&one.digest(), now + Duration::from_secs(90)), None);
        assert_eq!(tokens.held_at(&other.digest(), now), None);
        // Two texts that only together are the same are not the same.
        let (a, b) = (
            Client { client_id: "ab", scope: "", ..client(&url, b"s") },
            Client { client_id: "a", scope: "b", ..client(&url, b"s") },
        );
        assert_ne!(a.digest(), b.digest());
    }

    #[tokio::test]
    async fn a_refused_token_is_forgotten_and_its_successor_is_not() {
        let (url, tokens, now) = (url(), Tokens::default(), Instant::now());
        let token = |text: &str| Token(Zeroizing::new(text.to_owned()));
        let one = client(&url, b"one");
        tokens.hold(one.digest(), token("new"), now, Duration::from_secs(100));
        tokens.forget(&one, &token("old"));
        assert_eq!(tokens.held_at(&one.digest(), now), Some(token("new")));
        tokens.forget(&one, &token("new"));
        assert_eq!(tokens.held_at(&one.digest(), now), None);
    }
}
