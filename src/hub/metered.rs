//! A stream that counts what is written, and the rate at which a client must take it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guest::Guest;

/// A stream whose written bytes are counted.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    written: Arc<AtomicU64>,
}

impl<S> Metered<S> {
    /// The stream, and the counter.
    pub(super) fn new(stream: S) -> (Metered<S>, Arc<AtomicU64>) {
        let written = Arc::new(AtomicU64::new(0));
        (Metered { stream, written: Arc::clone(&written) }, written)
    }
}

/// Ends when fewer than `least` bytes were written within a `window`: whoever takes so little only holds a place. A node
/// that waits or uploads has nothing to take.
pub(super) async fn too_slow(written: Arc<AtomicU64>, guest: &Guest, least: u64, window: Duration) {
    loop {
        let (before, was_quiet) = (written.load(Ordering::Relaxed), guest.is_quiet());
        tokio::time::sleep(window).await;
        let is_slow = written.load(Ordering::Relaxed).saturating_sub(before) < least;
        if is_slow && !was_quiet && !guest.is_quiet() {
            return;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.written.fetch_add(count as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
