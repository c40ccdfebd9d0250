//! Name servers that flap or lie (ATK-37).

use quorate_actors::FetchErrorKind;

use super::world::{GOOD, HOST, PUBLIC, World, ok, web};

/// What is checked is what is dialled: there is no second look at the name.
#[tokio::test]
async fn a_name_that_flaps_between_check_and_use_has_no_effect() {
    let world = World::new();
    world.network.name(HOST, &[&[PUBLIC], &["169.254.169.254"], &["127.0.0.1"]]);
    let server = world.server(|_| ok(GOOD)).await;
    world.fetch(web(HOST, &server, "/")).await.unwrap();
    assert_eq!(world.network.looked_up(), 1);
    assert_eq!(world.network.dialled(), [format!("{PUBLIC}:{}", server.port).parse().unwrap()]);
    // At the next one it leads elsewhere, and is judged anew.
    let words = world.refused(web(HOST, &server, "/")).await;
    assert!(words.contains("169.254.169.254"), "{words}");
    assert_eq!(world.network.dialled().len(), 1);
}

/// An operator's URL too: nobody configures the metadata service of a cloud.
#[tokio::test]
async fn a_name_that_leads_to_a_forbidden_address_is_not_dialled() {
    let world = World::new();
    let server = world.server(|_| ok(GOOD)).await;
    for address in
        ["169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1", "0.0.0.0", "::", "ff02::1"]
    {
        world.network.name(HOST, &[&[address]]);
        let words = world.refused(web(HOST, &server, "/")).await;
        assert!(words.contains("nothing is sent to"), "{address}: {words}");
    }
    assert!(world.network.dialled().is_empty() && server.asked().is_empty());
}

#[tokio::test]
async fn one_forbidden_address_among_good_ones_condemns_the_answer() {
    let world = World::new();
    let server = world.server(|_| ok(GOOD)).await;
    world.network.name(HOST, &[&[PUBLIC, "169.254.169.254"]]);
    world.refused(web(HOST, &server, "/")).await;
    assert!(world.network.dialled().is_empty());
}

#[tokio::test]
async fn an_address_in_the_url_is_judged_however_it_is_written() {
    let world = World::new();
    let server = world.server(|_| ok(GOOD)).await;
    for host in
        ["169.254.169.254", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "[::ffff:a9fe:a9fe]", "[fd00:ec2::254]"]
    {
        let words = world.refused(web(host, &server, "/")).await;
        assert!(words.contains("nothing is sent to"), "{host}: {words}");
    }
    assert!(world.network.dialled().is_empty() && world.network.looked_up() == 0);
}

/// An operator may have an endpoint on the own network or host.
#[tokio::test]
async fn a_private_address_behind_an_operators_name_is_dialled() {
    let world = World::new();
    let server = world.server(|_| ok(GOOD)).await;
    for address in ["10.1.2.3", "127.0.0.1", "fd12::1"] {
        world.network.name(HOST, &[&[address]]);
        world.fetch(web(HOST, &server, "/")).await.unwrap();
    }
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let world = World::new();
    let server = world.server(|_| ok(GOOD)).await;
    world.network.name(HOST, &[&["198.51.100.1", "198.51.100.2"]]);
    world.network.nobody_at("198.51.100.1");
    let document = world.fetch(web(HOST, &server, "/")).await.unwrap();
    assert_eq!(document.address, format!("198.51.100.2:{}", server.port));
    assert_eq!(world.network.dialled().len(), 2);
    world.network.nobody_at("198.51.100.2");
    let error = world.fetch(web(HOST, &server, "/")).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Unreachable, "{error}");
    world.network.name(HOST, &[&[]]);
    assert!(world.fetch(web(HOST, &server, "/")).await.unwrap_err().words.contains("has no address"));
}
