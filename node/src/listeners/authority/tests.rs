//! Bytes as clients send them, whole and in every pair of pieces.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What grpc-python 1.85 sends for `unix:///tmp/sniff.sock`, its first header block: names and values spelled out.
fn python_block(authority: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":path", "/SpiffeWorkloadAPI/FetchX509SVID"), (":authority", authority)] {
        block.extend([0x40, u8::try_from(name.len()).unwrap()]);
        block.extend(name.as_bytes());
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    }
    block.extend([0x83, 0x86]);
    block
}

/// The static table's name, as most libraries write it.
fn indexed_block(authority: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x41, u8::try_from(authority.len()).unwrap()];
    block.extend(authority.as_bytes());
    block
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    frame.extend(payload);
    frame
}

fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE.to_vec(), frame(4, 0, &[0; 12])].into_iter().chain(frames.iter().cloned()).flatten().collect()
}

/// What comes out of a connection into which `pieces` go one by one.
async fn through(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut client, server) = tokio::io::duplex(64);
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let writing = tokio::spawn(async move {
        for piece in pieces {
            client.write_all(&piece).await.unwrap();
        }
    });
    let mut out = Vec::new();
    Mended::new(server).read_to_end(&mut out).await.unwrap();
    writing.await.unwrap();
    out
}

#[tokio::test]
async fn a_path_as_authority_is_mended_however_the_bytes_arrive() {
    for block in [python_block, indexed_block] {
        for (path, mended) in [("tmp%2Fsniff.sock", "tmp-2Fsniff.sock"), ("/tmp/w.sock", "-tmp-w.sock")] {
            let sent = connection(&[frame(HEADERS, END_HEADERS, &block(path)), frame(0, 1, &[0; 5])]);
            let wanted = connection(&[frame(HEADERS, END_HEADERS, &block(mended)), frame(0, 1, &[0; 5])]);
            for split in 0..sent.len() {
                let (first, second) = sent.split_at(split);
                assert_eq!(through(&[first, second]).await, wanted, "split at {split}");
            }
        }
    }
}

#[tokio::test]
async fn every_request_of_such_a_connection_is_mended() {
    let request = |authority| frame(HEADERS, END_HEADERS, &python_block(authority));
    let sent = connection(&[request("a%2Fb"), request("a%2Fb"), request("c%2Fd")]);
    let wanted = connection(&[request("a-2Fb"), request("a-2Fb"), request("c-2Fd")]);
    assert_eq!(through(&[&sent]).await, wanted);
}

#[tokio::test]
async fn a_connection_with_a_good_authority_is_left_alone_for_ever() {
    let request = |authority| frame(HEADERS, END_HEADERS, &indexed_block(authority));
    for first in ["localhost", "[::1]:8080", "example.org"] {
        let sent = connection(&[request(first), request("a%2Fb")]);
        assert_eq!(through(&[&sent]).await, sent);
    }
}

#[tokio::test]
async fn padding_and_priority_are_stepped_over() {
    let with = |authority: &str| {
        let mut payload = vec![3, 0, 0, 0, 0, 16];
        payload.extend(indexed_block(authority));
        payload.extend([0; 3]);
        connection(&[frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &payload)])
    };
    assert_eq!(through(&[&with("a%2Fb")]).await, with("a-2Fb"));
}

#[tokio::test]
async fn what_is_not_understood_passes_unchanged() {
    let block = indexed_block("a%2Fb");
    let long_integer = [0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    for sent in [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        PREFACE[..10].to_vec(),
        // Spread over frames; cut short; padding longer than the frame; lengths beyond the block.
        connection(&[frame(HEADERS, 0, &block), frame(9, END_HEADERS, &[])]),
        connection(&[frame(HEADERS, END_HEADERS, &block)[..12].to_vec()]),
        connection(&[frame(HEADERS, END_HEADERS | PADDED, &[200, 1, 2])]),
        connection(&[frame(HEADERS, END_HEADERS, &[0x41, 0x20, b'/'])]),
        connection(&[frame(HEADERS, END_HEADERS, &long_integer)]),
        connection(&[frame(HEADERS, END_HEADERS, &[])]),
    ] {
        assert_eq!(through(&[&sent]).await, sent);
    }
}

#[tokio::test]
async fn what_is_held_back_is_never_more_than_a_frame() {
    let mut watched = Watched::default();
    watched.take(PREFACE);
    watched.take(&[0xff, 0xff, 0xff, HEADERS, END_HEADERS, 0, 0, 0, 1]);
    assert!(watched.left_alone, "a frame beyond the limit is the library's to refuse");
    let mut watched = Watched::default();
    watched.take(PREFACE);
    for _ in 0..100 {
        watched.take(&frame(0, 0, &[0; 1_000]));
        assert_eq!(watched.cleared, watched.held.len(), "data is not held back");
    }
}
