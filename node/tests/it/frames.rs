//! Clients that speak HTTP/2 to do harm: each is cut off, and everybody else is served on (ATK-22).

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use quorate_proto_api::workload::JwtsvidRequest;

use crate::node::{PATIENCE, TestNode};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 4;

/// One frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = length[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A literal field without indexing (RFC 7541, section 6.2.2), both parts as they are.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut out = vec![0];
    for part in [name, value] {
        assert!(part.len() < 127);
        out.push(u8::try_from(part.len()).unwrap());
        out.extend(part.as_bytes());
    }
    out
}

/// The head of a FetchX509SVID call.
fn head() -> Vec<u8> {
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", "/SpiffeWorkloadAPI/FetchX509SVID"),
        field(":authority", "localhost"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
        field("workload.spiffe.io", "true"),
    ]
    .concat()
}

/// A connection after its preface.
fn connect(node: &TestNode) -> UnixStream {
    let mut stream = UnixStream::connect(node.workload_socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
    stream
}

/// Sends what `more` makes until the other side has closed; answers whether it did within `times`.
fn is_cut_off(mut stream: UnixStream, times: u32, more: impl Fn(u32) -> Vec<u8>) -> bool {
    for number in 0..times {
        if stream.write_all(&more(number)).is_err() {
            return true;
        }
    }
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

async fn serves(node: &TestNode) {
    let request = JwtsvidRequest { audience: vec!["a".to_owned()], spiffe_id: String::new() };
    node.workload().fetch_jwtsvid(request).await.unwrap();
}

async fn node() -> TestNode {
    let node = TestNode::ready().await;
    node.register("/w").await;
    node
}

/// ATK-22.
#[tokio::test(flavor = "multi_thread")]
async fn streams_opened_and_reset_at_once_end_the_connection() {
    let node = node().await;
    let cut = is_cut_off(connect(&node), 100_000, |number| {
        let stream = number * 2 + 1;
        [frame(HEADERS, END_HEADERS, stream, &head()), frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
    });
    assert!(cut);
    serves(&node).await;
}

/// ATK-22.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_block_without_end_ends_the_connection() {
    let node = node().await;
    let mut stream = connect(&node);
    stream.write_all(&frame(HEADERS, 0, 1, &head())).unwrap();
    let cut = is_cut_off(stream, 100_000, |_| frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(100))));
    assert!(cut);
    serves(&node).await;
}

/// ATK-22.
#[tokio::test(flavor = "multi_thread")]
async fn headers_beyond_the_limit_are_refused_and_the_connection_ends_or_goes_on() {
    let node = node().await;
    let mut stream = connect(&node);
    let many = [head(), (0..200).flat_map(|_| field("x-filler", &"y".repeat(60))).collect()].concat();
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &many)).unwrap();
    // Answered with 431, reset or closed: in each case nothing of it reached the service.
    let mut answer = [0; 64];
    assert!(stream.read(&mut answer).is_ok());
    serves(&node).await;
}

/// ATK-22.
#[tokio::test(flavor = "multi_thread")]
async fn more_streams_than_allowed_are_refused() {
    let node = node().await;
    let mut stream = connect(&node);
    for number in 0..400 {
        if stream.write_all(&frame(HEADERS, END_HEADERS, number * 2 + 1, &head())).is_err() {
            break;
        }
    }
    serves(&node).await;
    // Each of the open ones waits for its message and counts towards the user's limit, no further ones do.
    drop(stream);
    serves(&node).await;
}

/// ATK-22.
#[tokio::test(flavor = "multi_thread")]
async fn endless_empty_data_frames_and_unanswered_pings_hurt_nobody_else() {
    let node = node().await;
    let mut stream = connect(&node);
    stream.write_all(&frame(HEADERS, END_HEADERS, 1, &head())).unwrap();
    let flood = std::thread::spawn(move || {
        for _ in 0..50_000 {
            let more = [frame(DATA, 0, 1, &[]), frame(PING, 0, 0, &[0; 8])].concat();
            if stream.write_all(&more).is_err() {
                return;
            }
        }
    });
    for _ in 0..20 {
        serves(&node).await;
    }
    flood.join().unwrap();
    serves(&node).await;
}
