//! Clients that take the socket's path for the name of a host.
//!
//! ```text
//!   socket ──► bytes ──► frames ──► header block ──► `:authority` a path? ──no──► untouched from here on
//!                                                          |
//!                                                          yes: its '%' and '/' become '-', in place
//! ```
//!
//! gRPC's C core, and with it every Python, C++, Ruby and PHP client, sends a unix socket's path as `:authority`, with
//! the slashes percent-encoded (`run%2Fworkload.sock`); some other clients send it as it is. Neither is an authority as
//! HTTP knows it, and the HTTP/2 library resets such a request with PROTOCOL_ERROR before anything of ours sees it
//! (hyperium/h2, pull request 487), so py-spiffe could not talk to us. Nobody looks at the authority on a unix socket;
//! the bytes are replaced by as many others, so that no length and no compression state changes.
//!
//! A connection whose first request has a good authority, or none, is left alone for ever and costs nothing more. Of
//! the others, literals in plain text are mended in every request. What is Huffman-coded, spread over CONTINUATION
//! frames, or named through the dynamic table is passed on as it is: no client was seen to do so.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What an HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's header (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;

/// The largest frame that a client may send unasked (RFC 9113, 4.2), and so the most that is held back.
const FRAME_LIMIT: usize = 16_384;

/// Bytes read at a time while a connection is watched.
const CHUNK: usize = 4_096;

/// A frame that opens a stream (RFC 9113, 6.2).
const HEADERS: u8 = 1;

/// The flags of such a frame that matter here.
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Bytes that the priority fields take.
const PRIORITY_FIELDS: usize = 5;

/// The static table's entry for the name `:authority` (RFC 7541, appendix A).
const AUTHORITY_INDEX: usize = 1;

/// The name itself, for clients that spell it out.
const AUTHORITY_NAME: &[u8] = b":authority";

/// What stands for bytes that no authority may hold.
const STAND_IN: u8 = b'-';

/// A connection whose reads are mended.
#[derive(Debug)]
pub(crate) struct Mended<S> {
    stream: S,
    /// None once the connection is left alone and everything held was given out.
    watched: Option<Watched>,
}

impl<S> Mended<S> {
    /// Watches a connection from its first byte.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, watched: Some(Watched::default()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let Some(watched) = &mut this.watched else {
                return Pin::new(&mut this.stream).poll_read(context, buffer);
            };
            if watched.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            if watched.left_alone {
                this.watched = None;
                continue;
            }
            let mut chunk = [0; CHUNK];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                // The end: what is still held is an unfinished frame, and the library's to judge.
                watched.leave_alone();
            } else {
                watched.take(read.filled());
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// What is known of a connection that is still watched. No I/O here.
#[derive(Debug, Default)]
struct Watched {
    /// Bytes that came and were not given out yet.
    held: Vec<u8>,
    /// How many of them may be given out.
    cleared: usize,
    /// Bytes of the current frame that are still to come and need no look.
    skip: usize,
    /// Whether the preface is behind us.
    begun: bool,
    /// Nothing is looked at any more.
    left_alone: bool,
}

impl Watched {
    /// Gives out what may be given; tells whether that was anything.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let count = self.cleared.min(buffer.remaining());
        if count == 0 {
            return false;
        }
        buffer.put_slice(self.held.get(..count).unwrap_or_default());
        self.held.drain(..count);
        self.cleared -= count;
        true
    }

    /// Takes bytes that came, and looks at them as far as they go.
    fn take(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        while !self.left_alone && self.advance() {}
    }

    fn leave_alone(&mut self) {
        self.left_alone = true;
        self.cleared = self.held.len();
    }

    /// One step over the bytes that are not cleared yet; whether there was one.
    fn advance(&mut self) -> bool {
        let rest = self.held.get_mut(self.cleared..).unwrap_or_default();
        if !self.begun {
            if rest.len() < PREFACE.len() {
                return false;
            }
            if !rest.starts_with(PREFACE) {
                self.leave_alone();
                return false;
            }
            self.begun = true;
            self.cleared += PREFACE.len();
            return true;
        }
        if self.skip > 0 {
            let count = self.skip.min(rest.len());
            self.skip -= count;
            self.cleared += count;
            return count > 0;
        }
        let Some(&[high, middle, low, kind, flags, ..]) = rest.first_chunk::<FRAME_HEADER>() else {
            return false;
        };
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let frame = FRAME_HEADER.saturating_add(length);
        if kind != HEADERS {
            self.skip = frame;
            return true;
        }
        if length > FRAME_LIMIT || flags & END_HEADERS == 0 {
            self.leave_alone();
            return false;
        }
        let Some(payload) = rest.get_mut(FRAME_HEADER..frame) else { return false };
        let found = fragment(payload, flags).map_or(Found::Nothing, mend);
        self.cleared += frame;
        match found {
            Found::Mended => true,
            Found::Good | Found::Nothing => {
                self.leave_alone();
                false
            }
        }
    }
}

/// The header block within a HEADERS frame's payload.
fn fragment(payload: &mut [u8], flags: u8) -> Option<&mut [u8]> {
    let (mut begin, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        begin += 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    if flags & PRIORITY != 0 {
        begin += PRIORITY_FIELDS;
    }
    payload.get_mut(begin..end)
}

/// What a header block has as authority.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// None in plain text, or the block cannot be read.
    Nothing,
    /// One that needs nothing.
    Good,
    /// A path, which is one no more.
    Mended,
}

/// Looks for the authority's literal in a header block (RFC 7541, section 6), and mends it.
fn mend(block: &mut [u8]) -> Found {
    let mut at = 0;
    while let Some(value) = next_field(block, &mut at) {
        let Some(value) = value.and_then(|(begin, end)| block.get_mut(begin..end)) else { continue };
        if !value.iter().any(|byte| matches!(byte, b'%' | b'/')) {
            return Found::Good;
        }
        for byte in value {
            if !byte.is_ascii_alphanumeric() && !matches!(byte, b'.' | b'_' | b'-') {
                *byte = STAND_IN;
            }
        }
        return Found::Mended;
    }
    Found::Nothing
}

/// Goes over one field; for the authority in plain text, where its value begins and ends. None at the block's end, or
/// where it cannot be read.
fn next_field(block: &[u8], at: &mut usize) -> Option<Option<(usize, usize)>> {
    let first = *block.get(*at)?;
    let prefix = match first {
        // Indexed: no literal.
        0x80.. => {
            integer(block, at, 7)?;
            return Some(None);
        }
        0x40.. => 6,
        // A new size of the dynamic table: no field.
        0x20.. => {
            integer(block, at, 5)?;
            return Some(None);
        }
        _ => 4,
    };
    let is_authority = match integer(block, at, prefix)? {
        0 => string(block, at)?.is_some_and(|(begin, end)| block.get(begin..end) == Some(AUTHORITY_NAME)),
        index => index == AUTHORITY_INDEX,
    };
    let value = string(block, at)?;
    Some(value.filter(|_| is_authority))
}

/// A string literal (RFC 7541, 5.2): where its bytes are, unless they are Huffman-coded.
fn string(block: &[u8], at: &mut usize) -> Option<Option<(usize, usize)>> {
    let huffman = block.get(*at)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let begin = *at;
    let end = begin.checked_add(length).filter(|end| *end <= block.len())?;
    *at = end;
    Some((!huffman).then_some((begin, end)))
}

/// An integer with a prefix of so many bits (RFC 7541, 5.1), bounded by what a block can hold.
fn integer(block: &[u8], at: &mut usize, prefix: u32) -> Option<usize> {
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(*block.get(*at)?) & most;
    *at += 1;
    if value < most {
        return Some(value);
    }
    let mut shift = 0;
    loop {
        let byte = *block.get(*at)?;
        *at += 1;
        value = value.checked_add(usize::from(byte & 0x7f).checked_shl(shift)?)?;
        if value > FRAME_LIMIT {
            return None;
        }
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests;
