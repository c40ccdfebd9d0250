//! A connection that can be cut: when its owner is removed, and when its time is over (ATK-25, ATK-26).

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
};
use tonic::transport::server::Connected;

use crate::transport::{Connection, PeerKey};

/// A connection, and what ends it.
pub(crate) struct Gated {
    connection: Connection,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Gated {
    /// A connection that ends when `cut` is over, and counts against limits as long as it lives.
    pub(super) fn new(
        connection: Connection,
        cut: impl Future<Output = ()> + Send + 'static,
        permits: Vec<OwnedSemaphorePermit>,
    ) -> Self {
        Self { connection, cut: Box::pin(cut), is_cut: false, _permits: permits }
    }

    /// Whether it is cut by now. The server reads all the time, so it hears of it at once.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.is_cut || self.cut.as_mut().poll(context).is_ready() {
            self.is_cut = true;
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the peer may not stay connected"));
        }
        Ok(())
    }
}

impl Connected for Gated {
    type ConnectInfo = Arc<PeerKey>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(self.connection.peer())
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl AsyncWrite for Gated {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.connection).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}
