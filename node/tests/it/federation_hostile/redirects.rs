//! Where an endpoint sends its askers.

use std::sync::Arc;

use quorate_raft_machine::federation::{EndpointPins, PollSettings};

use super::world::{Asked, Authority, GOOD, HOST, Lies, Server, World, ok, redirect, spiffe, web};

const OTHER_HOST: &str = "moved.other.example";

/// Accepts: FED-25, FED-28, FED-29, FED-30. Refuses: FED-30 by what would be kept of a redirect. SF-09: by every status of a redirect, relative ones too; a permanent one is as
/// good as forgotten.
#[tokio::test]
async fn a_redirect_is_followed_and_the_next_retrieval_begins_where_it_is_configured() {
    let world = World::new();
    world.network.name(OTHER_HOST, &[&["198.51.100.8"]]);
    let target = Server::start(&world.web.certificate(&[OTHER_HOST]), |_| ok(GOOD)).await;
    let location = format!("https://{OTHER_HOST}:{}/moved", target.port);
    let server = world
        .server(move |path| match path {
            "/relative" => redirect("302 Found", "/here"),
            "/here" => ok(GOOD),
            status => redirect(&format!("{} Moved", &status[1..]), &location),
        })
        .await;
    for status in ["301", "302", "303", "307", "308"] {
        let document = world.fetch(web(HOST, &server, &format!("/{status}"))).await.unwrap();
        assert_eq!((document.bytes.as_ref(), document.host), (GOOD, format!("{OTHER_HOST}:{}", target.port)));
    }
    world.fetch(web(HOST, &server, "/301")).await.unwrap();
    assert_eq!(server.asked().len(), 6, "each begins at the configured URL, after a permanent one too");
    world.fetch(web(HOST, &server, "/relative")).await.unwrap();
}

/// Refuses: FED-18, FED-25, FED-28. SF-09, A-35.
#[tokio::test]
async fn a_redirect_away_from_https_or_to_a_user_is_not_followed() {
    let world = World::new();
    for location in [
        "http://bundles.other.example/",
        "//user@bundles.other.example/",
        "https://user:secret@bundles.other.example/",
        "file:///etc/passwd",
        "unix:/run/docker.sock",
        "gopher://127.0.0.1:6379/",
        "https://",
    ] {
        let target = location.to_owned();
        let server = world.server(move |_| redirect("302 Found", &target)).await;
        let words = world.refused(web(HOST, &server, "/")).await;
        assert!(words.contains("which is not followed"), "{location}: {words}");
        assert_eq!(server.asked().len(), 1);
    }
    let nowhere = world.server(|_| super::world::says("302 Found", "", b"")).await;
    assert!(world.refused(web(HOST, &nowhere, "/")).await.contains("does not say where to"));
}

/// Refuses: FED-28, FED-44. ATK-36.
#[tokio::test]
async fn a_loop_of_redirects_is_left_after_five() {
    let world = World::new();
    let server = world.server(|path| redirect("302 Found", &format!("{path}x"))).await;
    let words = world.refused(web(HOST, &server, "/")).await;
    assert!(words.contains("more than 5 redirects"), "{words}");
    assert_eq!(server.asked().len(), 6);
    let five =
        world.server(|path| if path.len() == 6 { ok(GOOD) } else { redirect("302 Found", &format!("{path}x")) }).await;
    world.fetch(web(HOST, &five, "/")).await.unwrap();
}

/// Refuses: FED-28: operators may turn them off.
#[tokio::test]
async fn no_redirect_is_followed_where_they_are_off() {
    let world = World::new();
    let server = world.server(|path| if path == "/here" { ok(GOOD) } else { redirect("302 Found", "/here") }).await;
    let asked = web(HOST, &server, "/");
    let off = Asked { poll: PollSettings { follow_redirects: false, ..asked.poll }, ..asked };
    let words = world.refused(off).await;
    assert!(words.contains("redirects are not followed for this peer"), "{words}");
}

/// Refuses: FED-26, FED-29: the target's certificate is for the target's host.
#[tokio::test]
async fn the_target_of_a_redirect_proves_itself_like_the_first() {
    let world = World::new();
    world.network.name(OTHER_HOST, &[&["198.51.100.8"]]);
    let target = Server::start(&world.web.certificate(&[HOST]), |_| ok(GOOD)).await;
    let location = format!("https://{OTHER_HOST}:{}/", target.port);
    let server = world.server(move |_| redirect("302 Found", &location)).await;
    let words = world.refused(web(HOST, &server, "/")).await;
    assert!(words.contains("the certificate of moved.other.example"), "{words}");
    let pinned = Asked { pins: EndpointPins { hosts: vec![HOST.into()], keys: Vec::new() }, ..web(HOST, &server, "/") };
    assert!(world.refused(pinned).await.contains("pinned"), "pins hold for it too");
}

/// Accepts: FED-39, FED-44. Refuses: FED-39, FED-44. SF-09.
#[tokio::test]
async fn the_target_of_an_https_spiffe_redirect_has_the_same_spiffe_id() {
    let world = World::new();
    let authority = Authority::new("other.example");
    let same = Server::start(&authority.svid("/spire/server"), |_| ok(GOOD)).await;
    let other = Server::start(&authority.svid("/workload"), |_| ok(GOOD)).await;
    let public = Server::start(&world.web.certificate(&[HOST]), |_| ok(GOOD)).await;
    let ports = [same.port, other.port, public.port];
    let first = Server::start(&authority.svid("/spire/server"), move |path| {
        let port = ports[path[1..].parse::<usize>().unwrap()];
        redirect("307 Temporary Redirect", &format!("https://{HOST}:{port}/"))
    })
    .await;
    let asked = |path| spiffe(HOST, &first, path, &authority, authority.id("/spire/server"));
    world.fetch(asked("/0")).await.unwrap();
    assert!(world.refused(asked("/1")).await.contains("it is that of spiffe://other.example/workload"));
    assert!(world.refused(asked("/2")).await.contains("vouches for"));
}

/// ATK-37.
#[tokio::test]
async fn a_redirect_leads_from_public_to_private_only_where_that_is_allowed() {
    const INSIDE: &str = "inside.other.example";
    let lead = async |world: &World, address: &str| {
        world.network.name(INSIDE, &[&[address]]);
        let inside = Server::start(&world.web.certificate(&[INSIDE, "10.1.2.3"]), |_| ok(GOOD)).await;
        let location = format!("https://{INSIDE}:{}/", inside.port);
        (world.server(move |_| redirect("302 Found", &location)).await, inside)
    };
    for address in ["10.1.2.3", "127.0.0.1", "::1", "192.168.1.1", "fd12::1", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3"] {
        let world = World::new();
        let (server, inside) = lead(&world, address).await;
        let words = world.refused(web(HOST, &server, "/")).await;
        assert!(words.contains("federation.allow_private"), "{address}: {words}");
        assert!(inside.asked().is_empty() && world.network.dialled().len() == 1, "{address}");
        let asked = web(HOST, &server, "/");
        let accepted = Asked { poll: PollSettings { accept_private: Some(true), ..asked.poll }, ..asked };
        world.fetch(accepted).await.unwrap();
    }
    let world = World::allowing(&["10.1.0.0/16"]);
    let (server, _inside) = lead(&world, "10.1.2.3").await;
    world.fetch(web(HOST, &server, "/")).await.unwrap();
    let (server, _inside) = lead(&world, "10.2.2.3").await;
    world.refused(web(HOST, &server, "/")).await;
    // What is always refused stays so.
    for address in ["169.254.169.254", "fd00:ec2::254", "0.0.0.0", "224.0.0.1"] {
        let (server, _inside) = lead(&world, address).await;
        let asked = web(HOST, &server, "/");
        let accepted = Asked { poll: PollSettings { accept_private: Some(true), ..asked.poll }, ..asked };
        assert!(world.refused(accepted).await.contains("nothing is sent to"), "{address}");
    }
}

/// A private endpoint may redirect within its network, and outside of it; not to this host.
#[tokio::test]
async fn a_redirect_from_a_private_endpoint_may_stay_private() {
    let world = World::new();
    world.network.name(HOST, &[&["10.1.2.3"]]);
    let network: &Arc<Lies> = &world.network;
    network.name(OTHER_HOST, &[&["10.9.9.9"], &["127.0.0.1"]]);
    let target = Server::start(&world.web.certificate(&[OTHER_HOST]), |_| ok(GOOD)).await;
    let location = format!("https://{OTHER_HOST}:{}/", target.port);
    let server = world.server(move |_| redirect("302 Found", &location)).await;
    world.fetch(web(HOST, &server, "/")).await.unwrap();
    assert!(world.refused(web(HOST, &server, "/")).await.contains("loopback"));
}
