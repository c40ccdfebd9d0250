//! A relay that makes a TCP connection as slow as a distance does: every byte comes later by the same time, in both
//! directions, and the first one by the round trip that a handshake takes.
//!
//! It stands for `tc netem` where the kernel has none. What it does not do is to slow down the growth of a connection's
//! window, or to lose anything.

use crate::trouble::Trouble;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes that are read at a time.
const CHUNK: usize = 64 * 1024;

/// Chunks that are on their way at a time. A sender that is faster waits, as it would for a window.
const ON_THE_WAY: usize = 256;

/// A relay to one node.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens on this host's address. Who connects from the address of `to` is in the same region, and not delayed.
    pub(crate) async fn start(host: IpAddr, to: SocketAddr, one_way: Duration) -> Result<Self, Trouble> {
        let listener = TcpListener::bind((host, 0)).await.map_err(Trouble::system("bind a relay"))?;
        let address = listener.local_addr().map_err(Trouble::system("bind a relay"))?;
        let task = tokio::spawn(async move {
            while let Ok((from, peer)) = listener.accept().await {
                let late = if peer.ip() == to.ip() { Duration::ZERO } else { one_way };
                tokio::spawn(connect(from, to, late));
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries one connection until one of its ends is gone.
async fn connect(from: TcpStream, to: SocketAddr, late: Duration) {
    // To and fro, as a handshake takes it; whoever dialled believes to be connected already.
    sleep(late * 2).await;
    let Ok(to) = TcpStream::connect(to).await else { return };
    if from.set_nodelay(true).and_then(|()| to.set_nodelay(true)).is_err() {
        return;
    }
    let (from_read, from_write) = from.into_split();
    let (to_read, to_write) = to.into_split();
    let there = tokio::spawn(carry(from_read, to_write, late));
    let back = tokio::spawn(carry(to_read, from_write, late));
    let _ = tokio::join!(there, back);
}

/// Carries one direction: what is read now is written later; the end of it too.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, late: Duration) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let writer = tokio::spawn(async move {
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    });
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or_default();
        let bytes = buffer.get(..count).unwrap_or_default().to_vec();
        if count == 0 || sender.send((Instant::now() + late, bytes)).await.is_err() {
            break;
        }
    }
    if !late.is_zero() {
        sleep(late).await;
    }
    drop(sender);
    writer.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Sends back what comes.
    async fn echo(host: Ipv4Addr) -> SocketAddr {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn round_trips(relay: &Relay) -> (Duration, Duration) {
        let mut stream = TcpStream::connect(relay.address()).await.unwrap();
        let mut took = Vec::new();
        for _ in 0..2 {
            let begin = Instant::now();
            stream.write_all(b"ping").await.unwrap();
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"ping");
            took.push(begin.elapsed());
        }
        (took[0], took[1])
    }

    #[tokio::test]
    async fn a_round_trip_through_a_relay_takes_the_delay_twice_and_the_first_one_four_times() {
        let late = Duration::from_millis(40);
        // The echo has another address than whoever connects, so it is in another region.
        let to = echo(Ipv4Addr::new(127, 0, 0, 2)).await;
        let relay = Relay::start(Ipv4Addr::LOCALHOST.into(), to, late).await.unwrap();
        let (first, second) = round_trips(&relay).await;
        assert!(first >= late * 4, "{first:?}");
        assert!(second >= late * 2 && second < late * 4, "{second:?}");
    }

    #[tokio::test]
    async fn within_a_region_a_relay_delays_nothing() {
        let to = echo(Ipv4Addr::LOCALHOST).await;
        let late = Duration::from_secs(5);
        let relay = Relay::start(Ipv4Addr::LOCALHOST.into(), to, late).await.unwrap();
        let (first, second) = round_trips(&relay).await;
        assert!(first < late && second < late, "{first:?} {second:?}");
    }
}
