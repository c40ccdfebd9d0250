//! Who answers: certificates of the web, and SVIDs.

use quorate_actors::FetchErrorKind;
use quorate_node::outbound::key_fingerprint;
use quorate_raft_machine::federation::EndpointPins;

use super::world::{Asked, Authority, GOOD, HOST, Server, World, ok, self_signed, spiffe, web};

/// Accepts: FED-13, FED-19, FED-20, FED-21, FED-22, FED-26, FED-27, FED-29. SF-13: URL, profile and name are all it takes.
#[tokio::test]
async fn https_web_takes_a_certificate_of_a_known_authority_for_the_host() {
    let world = World::new();
    let server = world.server(|_| ok(GOOD)).await;
    let document = world.fetch(web(HOST, &server, "/bundle?x=1")).await.unwrap();
    assert_eq!(document.bytes, GOOD);
    let head = server.asked().remove(0).to_lowercase();
    assert!(head.starts_with("get /bundle?x=1 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {HOST}:{}\r\n", server.port)), "{head}");
    assert!(
        head.contains("accept-encoding: identity\r\n") && !head.contains("cookie") && !head.contains("authorization")
    );
}

/// Refuses: FED-13, FED-20, FED-21, FED-26, FED-29. SF-05.
#[tokio::test]
async fn https_web_refuses_self_signed_other_hosts_and_what_has_expired() {
    let world = World::new();
    for (shown, why) in [
        (self_signed(HOST), "UnknownIssuer"),
        (world.web.certificate(&["elsewhere.example"]), "not valid for name"),
        (world.web.certificate(&["*.example"]), "not valid for name"),
        (world.web.certificate_until(&[HOST], -10), "expired"),
        (Authority::new("other.example").svid("/spire/server"), "UnknownIssuer"),
    ] {
        let server = Server::start(&shown, |_| ok(GOOD)).await;
        let words = world.refused(web(HOST, &server, "/")).await;
        assert!(words.contains("the certificate of bundles.other.example"), "{words}");
        assert!(words.to_lowercase().contains(&why.to_lowercase()), "{why}: {words}");
        assert!(server.asked().is_empty(), "nothing is asked of a stranger");
    }
}

/// Accepts: FED-13, FED-31, FED-36, FED-37, FED-40, FED-43. The host plays no part.
#[tokio::test]
async fn https_spiffe_takes_exactly_the_configured_id_under_any_host() {
    let world = World::new();
    let authority = Authority::new("other.example");
    let server = Server::start(&authority.svid("/spire/server"), |_| ok(GOOD)).await;
    for host in [HOST, "127.0.0.1"] {
        let asked = spiffe(host, &server, "/", &authority, authority.id("/spire/server"));
        assert_eq!(world.fetch(asked).await.unwrap().bytes, GOOD, "{host}");
    }
}

/// Refuses: FED-36, FED-40, FED-50. SF-06, SF-07: no other ID, no other authority, no certificate of the web, and no falling
/// back to the other profile.
#[tokio::test]
async fn https_spiffe_refuses_everybody_else() {
    let world = World::new();
    let (authority, stranger) = (Authority::new("other.example"), Authority::new("other.example"));
    for (shown, why) in [
        (authority.svid("/spire/server/2"), "is to be spiffe://other.example/spire/server"),
        (authority.svid("/workload"), "it is that of spiffe://other.example/workload"),
        (stranger.svid("/spire/server"), "vouches for"),
        (Authority::new("third.example").svid("/spire/server"), "vouches for"),
        (authority.svid_until("/spire/server", -10), "vouches for"),
        (world.web.certificate(&[HOST]), "vouches for"),
        (self_signed(HOST), "vouches for"),
    ] {
        let server = Server::start(&shown, |_| ok(GOOD)).await;
        let asked = spiffe(HOST, &server, "/", &authority, authority.id("/spire/server"));
        let words = world.refused(asked).await;
        assert!(words.contains(why), "{why}: {words}");
        assert!(server.asked().is_empty(), "nothing is asked of a stranger");
    }
}

/// Refuses: FED-32: without a bundle for the server's trust domain nobody is dialled.
#[tokio::test]
async fn https_spiffe_without_a_bundle_asks_nobody() {
    let world = World::new();
    let authority = Authority::new("other.example");
    let server = Server::start(&authority.svid("/spire/server"), |_| ok(GOOD)).await;
    let asked = spiffe(HOST, &server, "/", &authority, authority.id("/spire/server"));
    let words = world.refused(Asked { verify_with: None, ..asked }).await;
    assert!(words.contains("no bundle is held"), "{words}");
    assert!(world.network.dialled().is_empty());
}

/// Refuses: FED-22, FED-37: a server that wants to know who asks is no endpoint of either profile, and learns nothing.
#[tokio::test]
async fn an_endpoint_that_asks_for_a_client_certificate_is_shown_none_and_gives_no_bundle() {
    let world = World::new();
    let authority = Authority::new("other.example");
    let good = |_: &str| ok(GOOD);
    let of_the_web = Server::checking(&world.web.certificate(&[HOST]), world.web.clients(), good).await;
    let of_spiffe = Server::checking(&authority.svid("/spire/server"), world.web.clients(), good).await;
    for (asked, server) in [
        (web(HOST, &of_the_web, "/"), &of_the_web),
        (spiffe(HOST, &of_spiffe, "/", &authority, authority.id("/spire/server")), &of_spiffe),
    ] {
        world.fetch(asked).await.unwrap_err();
        assert!(server.asked().is_empty(), "its handshake came to nothing");
    }
}

#[tokio::test]
async fn pins_of_host_and_key_hold_beside_the_profile() {
    let world = World::new();
    let shown = world.web.certificate(&[HOST]);
    let server = Server::start(&shown, |_| ok(GOOD)).await;
    let key = key_fingerprint(shown.leaf()).unwrap();
    let pinned = |hosts: &[&str], keys: &[[u8; 32]]| Asked {
        pins: EndpointPins { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), keys: keys.to_vec() },
        ..web(HOST, &server, "/")
    };
    world.fetch(pinned(&[HOST], &[[0; 32], key])).await.unwrap();
    let words = world.refused(pinned(&[], &[[0; 32]])).await;
    assert!(words.contains("none of those pinned"), "{words}");
    let asked = server.asked().len();
    let words = world.refused(pinned(&["elsewhere.example"], &[])).await;
    assert!(words.contains("none of those pinned"), "{words}");
    assert_eq!((server.asked().len(), world.network.dialled().len()), (asked, 2), "nobody is dialled for that");
}

/// Another member of the cluster may try: this one did not reach the endpoint.
#[tokio::test]
async fn an_endpoint_that_is_not_there_is_unreachable_and_not_refused() {
    let world = World::new();
    let server = Server::mute().await;
    let mut asked = web("nowhere.example", &server, "/");
    assert_eq!(world.fetch(asked.clone()).await.unwrap_err().kind, FetchErrorKind::Unreachable);
    let free = crate::node::free_port().port();
    asked.endpoint = quorate_raft_machine::federation::Endpoint::Web { url: super::world::url(HOST, free, "/") };
    let error = world.fetch(asked).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Unreachable, "{error}");
}
