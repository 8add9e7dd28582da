//! A line that counts what moves over it: a slow line is waited for, a dead one is not.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Why a call is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Nothing moves any more.
    Dead,
    /// Something moves, and it takes too long.
    TooSlow,
}

/// Bytes that have moved, both ways.
#[derive(Debug, Clone, Default)]
pub(super) struct Moved(Arc<AtomicU64>);

impl Moved {
    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Waits until nothing has moved for `stall`, or until `whole` is over.
    pub(super) async fn stops(&self, stall: Duration, whole: Duration) -> Stop {
        let end = Instant::now() + whole;
        loop {
            let before = self.0.load(Ordering::Relaxed);
            let next = Instant::now() + stall;
            tokio::time::sleep_until(next.min(end)).await;
            if self.0.load(Ordering::Relaxed) == before && next <= end {
                return Stop::Dead;
            }
            if Instant::now() >= end {
                return Stop::TooSlow;
            }
        }
    }
}

/// A stream whose bytes are counted.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    moved: Moved,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, moved: Moved) -> Self {
        Self { stream, moved }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.moved.add(buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.moved.add(written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(60);
    const WHOLE: Duration = Duration::from_secs(900);

    /// What `stops` says, and after how long, when a byte moves each `every` and `bytes` times in all.
    fn waited(every: Duration, bytes: u32) -> (Stop, Duration) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::time::pause();
            let moved = Moved::default();
            let begun = Instant::now();
            let moving = async {
                for _ in 0..bytes {
                    tokio::time::sleep(every).await;
                    moved.add(1);
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = moving => unreachable!("it never ends"),
                said = moved.stops(STALL, WHOLE) => (said, begun.elapsed()),
            }
        })
    }

    #[test]
    fn a_dead_line_is_given_up_soon_and_a_slow_one_is_waited_for() {
        let seconds = Duration::from_secs;
        let (said, after) = waited(seconds(1), 0);
        assert_eq!((said, after.as_secs()), (Stop::Dead, 60), "dead from the start");
        let (said, after) = waited(seconds(50), 4);
        assert_eq!(said, Stop::Dead, "dead after 200 s");
        assert!((200 + 60..=200 + 120).contains(&after.as_secs()), "{after:?}");
        let (said, after) = waited(seconds(10), 10_000);
        assert_eq!(
            (said, after.as_secs()),
            (Stop::TooSlow, 900),
            "a byte now and then is no answer for ever"
        );
    }
}
