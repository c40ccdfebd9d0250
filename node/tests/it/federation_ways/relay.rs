//! A wire in between, which can be cut so that neither end notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Passes on what it gets. Connections that were there when it was frozen stay open, and nothing goes through them.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    frozen: Arc<AtomicUsize>,
}

impl Relay {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let frozen = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&frozen);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let age = seen.load(Ordering::SeqCst);
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(from_near, to_far, Arc::clone(&seen), age));
                tokio::spawn(pass(from_far, to_near, Arc::clone(&seen), age));
            }
        });
        Self { address, frozen }
    }

    /// From now on the connections that are there are silent.
    pub(super) fn freeze(&self) {
        self.frozen.fetch_add(1, Ordering::SeqCst);
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, frozen: Arc<AtomicUsize>, age: usize) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if frozen.load(Ordering::SeqCst) != age {
            // Both halves are kept, so that neither end is closed.
            std::future::pending::<()>().await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
