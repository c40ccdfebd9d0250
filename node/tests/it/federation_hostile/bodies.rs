//! What is answered: bodies without end, without hurry, packed and broken (ATK-36).

use std::time::Duration;

use quorate_actors::Fetched;

use super::world::{Asked, Deed, GOOD, HOST, Server, World, ok, says, web};

/// A limit that a test can wait for.
const SOON: Duration = Duration::from_millis(1_500);

#[tokio::test]
async fn a_body_without_end_is_given_up_at_the_limit() {
    let world = World::new();
    let server = world
        .server(|path| match path {
            "/plain" => Deed::Floods(b"HTTP/1.1 200 OK\r\n\r\n{".to_vec()),
            _ => Deed::Floods(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n{".to_vec()),
        })
        .await;
    for path in ["/plain", "/chunked"] {
        let words = world.refused(web(HOST, &server, path)).await;
        assert!(words.contains("more than 1048576 bytes"), "{path}: {words}");
    }
}

#[tokio::test]
async fn ten_megabytes_of_keys_are_not_read_whether_announced_or_not() {
    let world = World::new();
    let mut keys = b"{\"keys\":[".to_vec();
    while keys.len() < 10_000_000 {
        keys.extend_from_slice(b"{\"kty\":\"EC\",\"use\":\"jwt-svid\",\"kid\":\"a\"},");
    }
    let server = world.server(move |_| ok(&keys)).await;
    let words = world.refused(web(HOST, &server, "/")).await;
    assert!(words.contains("more than 1048576 bytes"), "{words}");
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not() {
    let world = World::new();
    let server = world.server(|path| ok(&vec![b' '; path[1..].parse().unwrap()])).await;
    assert_eq!(world.fetch(web(HOST, &server, "/1048576")).await.unwrap().bytes.len(), 1_048_576);
    world.refused(web(HOST, &server, "/1048577")).await;
}

#[tokio::test]
async fn whoever_is_slow_is_given_up_in_time_wherever_it_stalls() {
    let world = World::new();
    let server = world
        .server(|path| match path {
            "/body" => Deed::Trickles(b"HTTP/1.1 200 OK\r\n\r\n{".to_vec()),
            "/head" => Deed::Trickles(b"HTTP/1.1 200 OK\r\nx: ".to_vec()),
            _ => Deed::Hangs,
        })
        .await;
    for (path, phase) in [("/body", "read"), ("/head", "waited for"), ("/never", "waited for")] {
        let words = world.refused(Asked { limit: SOON, ..web(HOST, &server, path) }).await;
        assert!(words.contains("time limit") && words.contains(phase), "{path}: {words}");
    }
    let mute = Server::mute().await;
    let words = world.refused(Asked { limit: SOON, ..web(HOST, &mute, "/") }).await;
    assert!(words.contains("time limit") && words.contains("TLS"), "{words}");
}

/// A gzip bomb: what was not asked for is not unpacked.
#[tokio::test]
async fn a_packed_body_is_refused_and_never_unpacked() {
    let world = World::new();
    let server = world
        .server(|path| says("200 OK", &format!("content-encoding: {}\r\n", &path[1..]), &[0x1f, 0x8b, 8, 0]))
        .await;
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip,gzip", "x-unheard-of"] {
        let words = world.refused(web(HOST, &server, &format!("/{encoding}"))).await;
        assert!(words.contains("content-encoding"), "{encoding}: {words}");
    }
    world.fetch(web(HOST, &server, "/identity")).await.unwrap();
}

/// Refuses: FED-01, FED-22, FED-23, FED-37. A-35: only 200 is an answer; one who asks who we are (401) learns nothing, and is
/// no endpoint of either profile.
#[tokio::test]
async fn every_other_status_than_200_is_refused() {
    let world = World::new();
    let server = world.server(|path| says(&format!("{} Word", &path[1..]), "", GOOD)).await;
    for status in ["201", "203", "204", "206", "300", "304", "305", "400", "401", "404", "418", "500", "503"] {
        let words = world.refused(web(HOST, &server, &format!("/{status}"))).await;
        assert!(words.contains(&format!("status {status}")), "{status}: {words}");
    }
}

/// Accepts: FED-23, FED-38.
#[tokio::test]
async fn the_tag_of_what_is_held_is_shown_and_304_is_an_answer_to_it() {
    let world = World::new();
    let server = world
        .server(|path| match path {
            "/new" => says("200 OK", "etag: \"seven\"\r\n", GOOD),
            _ => says("304 Not Modified", "etag: \"seven\"\r\n", b""),
        })
        .await;
    let document = world.fetch(web(HOST, &server, "/new")).await.unwrap();
    assert_eq!(document.etag.as_deref(), Some("\"seven\""));
    let again = Asked { etag: document.etag, ..web(HOST, &server, "/held") };
    assert!(matches!(world.fetch_any(again).await.unwrap(), Fetched::NotModified { .. }));
    assert!(server.asked()[1].to_lowercase().contains("if-none-match: \"seven\"\r\n"));
}

#[tokio::test]
async fn what_is_no_http_and_heads_without_end_are_refused() {
    let world = World::new();
    let server = world
        .server(|path| match path {
            "/noise" => Deed::Says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()),
            "/silence" => Deed::Says(Vec::new()),
            "/short" => Deed::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()),
            "/lengths" => Deed::Says(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
            "/line" => Deed::Floods(b"HTTP/1.1 200 OK\r\nx: ".to_vec()),
            _ => {
                let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
                for number in 0..10_000 {
                    head.extend_from_slice(format!("x-{number}: y\r\n").as_bytes());
                }
                Deed::Says(head)
            }
        })
        .await;
    for path in ["/noise", "/silence", "/short", "/lengths", "/line", "/headers"] {
        let words = world.refused(web(HOST, &server, path)).await;
        assert!(words.contains("no HTTP that can be read"), "{path}: {words}");
    }
}
