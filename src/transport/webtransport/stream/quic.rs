//! The streams of QUIC, below those of messages. In a page, `page.rs` has types of the same names.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use web_transport_quinn::{self as wtq, generic::poll::SendStream as _};

use super::{reader::PIECES, writer::Written};
use crate::{
    Error,
    transport::{
        closing::linger,
        signal,
        webtransport::{Session, error},
    },
};

/// The search for the session's close frame, which may have arrived with the end of the connection.
type Search = Pin<Box<dyn Future<Output = Error> + Send + Sync>>;

/// The sending half of a stream.
pub(crate) struct RawSend {
    session: Session,
    quic: wtq::SendStream,
    progress: Progress,
    lost: Option<Search>,
}

impl RawSend {
    fn new(session: Session, quic: wtq::SendStream) -> Self {
        Self { session, quic, progress: Progress::default(), lost: None }
    }

    /// Passes some of `chunks` to QUIC, and removes them from the front. The future is created for each poll: it has
    /// no state, and QUIC keeps the waker per stream.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<Result<Written, Error>> {
        if let Some(lost) = &mut self.lost {
            let error = ready!(lost.as_mut().poll(cx));
            self.lost = None;
            return Poll::Ready(Err(error));
        }
        let written = ready!(pin!(self.quic.write_chunks(chunks)).poll(cx));
        Poll::Ready(match written {
            Ok(written) => {
                self.progress.given(written.bytes);
                Ok(Written { bytes: written.bytes, chunks: written.chunks })
            }
            Err(wtq::WriteError::SessionError(reason)) if self.session.may_hide_a_frame(&reason) => {
                let session = self.session.clone();
                self.lost = Some(Box::pin(async move { session.lost(reason).await }));
                return self.poll_write(cx, chunks);
            }
            Err(error) => Err(error::write(error)),
        })
    }

    /// Ends the stream after everything that was written.
    pub(super) fn finish(&mut self) {
        // This fails if the peer has stopped the stream and is no longer interested.
        let _ = wtq::SendStream::finish(&mut self.quic);
    }

    /// Drops undelivered data, and tells the peer `code`.
    pub(super) fn reset(&mut self, code: u32) {
        let _ = wtq::SendStream::reset(&mut self.quic, code);
    }

    pub(super) fn set_priority(&self, priority: i32) {
        // Has no effect on a stream that has ended.
        let _ = wtq::SendStream::set_priority(&self.quic, priority);
    }

    /// Waits until the peer has acknowledged the whole stream. Returns an error if the peer stops it.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.quic.poll_closed(cx).map_err(error::write)
    }

    /// Reports the progress that QUIC has made meanwhile.
    pub(super) fn report_progress(&mut self) {
        if self.progress.is_under_way() {
            signal::moved(self.progress.sent_on(self.session.quic()));
        }
    }

    /// Returns how many of the written bytes QUIC may still have to send.
    pub(super) fn unsent(&mut self) -> u64 {
        self.progress.left(self.session.quic())
    }

    /// Keeps the session until the peer has acknowledged the whole stream, for `limit` from the last progress.
    pub(super) async fn linger(self, limit: Duration) {
        let Self { session, quic, mut progress, .. } = self;
        linger(limit, quic.stopped(), || progress.left(session.quic())).await;
    }
}

/// The receiving half of a stream.
pub(crate) struct RawReceive {
    session: Session,
    quic: wtq::RecvStream,
    lost: Option<Search>,
}

impl RawReceive {
    fn new(session: Session, quic: wtq::RecvStream) -> Self {
        Self { session, quic, lost: None }
    }

    /// Receives chunks into the front of `pieces`, and returns their number, or `None` at the end of the stream. The
    /// future is created for each poll: it has no state, and QUIC keeps the waker per stream.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &mut [Bytes; PIECES],
    ) -> Poll<Result<Option<usize>, Error>> {
        if let Some(lost) = &mut self.lost {
            let error = ready!(lost.as_mut().poll(cx));
            self.lost = None;
            return Poll::Ready(Err(error));
        }
        let filled = ready!(pin!(self.quic.read_chunks(pieces)).poll(cx));
        Poll::Ready(match filled {
            Ok(filled) => Ok(filled),
            Err(wtq::ReadError::SessionError(reason)) if self.session.may_hide_a_frame(&reason) => {
                let session = self.session.clone();
                self.lost = Some(Box::pin(async move { session.closed().await }));
                return self.poll_read(cx, pieces);
            }
            Err(error) => Err(error::read(error)),
        })
    }

    /// Tells the peer that this end stops reading, and why.
    pub(super) fn stop(&mut self, code: u32) {
        let _ = self.quic.stop(code);
    }
}

/// Waits for a stream. If the session ends instead, returns the peer's close frame in the error.
async fn or_lost<T>(session: &Session, stream: impl Future<Output = Result<T, wtq::SessionError>>) -> Result<T, Error> {
    match stream.await {
        Ok(stream) => Ok(stream),
        Err(reason) => Err(session.lost(reason).await),
    }
}

impl Session {
    pub(super) async fn open_bi_raw(&self) -> Result<(RawSend, RawReceive), Error> {
        let (send, receive) = or_lost(self, self.quic().open_bi()).await?;
        Ok((RawSend::new(self.clone(), send), RawReceive::new(self.clone(), receive)))
    }

    pub(super) async fn accept_bi_raw(&self) -> Result<(RawSend, RawReceive), Error> {
        let (send, receive) = or_lost(self, self.quic().accept_bi()).await?;
        Ok((RawSend::new(self.clone(), send), RawReceive::new(self.clone(), receive)))
    }

    pub(super) async fn open_uni_raw(&self) -> Result<RawSend, Error> {
        Ok(RawSend::new(self.clone(), or_lost(self, self.quic().open_uni()).await?))
    }

    pub(super) async fn accept_uni_raw(&self) -> Result<RawReceive, Error> {
        Ok(RawReceive::new(self.clone(), or_lost(self, self.quic().accept_uni()).await?))
    }
}

/// QUIC's progress with the bytes that a stream gave it. QUIC immediately accepts as much as the peer allows
/// ([`SessionLimits::stream_window`](super::super::SessionLimits::stream_window), 1 MiB by default), which is half a
/// minute of a slow line. Without this, that time would look like silence. Pure.
///
/// QUIC counts per connection, so this is an estimate: if other streams of the session send at the same time, it ends
/// too early.
#[derive(Debug, Default)]
struct Progress {
    /// The bytes that QUIC may still have to send.
    left: u64,
    /// The number of STREAM frames sent at the last check, and the bytes of all packets.
    frames: u64,
    bytes: u64,
}

impl Progress {
    /// Records that QUIC accepted `bytes`.
    fn given(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes as u64);
    }

    /// Returns whether QUIC may still have data of this stream to send, so that a check is worth its cost.
    fn is_under_way(&self) -> bool {
        self.left > 0
    }

    /// Returns how many bytes the connection has sent since the last check.
    fn sent_on(&mut self, connection: &wtq::Session) -> usize {
        let stats = quinn::Connection::stats(connection);
        self.sent(stats.frame_tx.stream, stats.udp_tx.bytes)
    }

    /// Returns how many bytes QUIC may still have to send.
    fn left(&mut self, connection: &wtq::Session) -> u64 {
        if self.is_under_way() {
            self.sent_on(connection);
        }
        self.left
    }

    /// Takes the connection's current counts, and returns how many bytes were sent since the last check. The result is
    /// zero if there was no STREAM frame (only acknowledgements, keep-alives): those are also sent to a peer that reads
    /// nothing.
    fn sent(&mut self, frames: u64, bytes: u64) -> usize {
        let (had_frames, had_bytes) = (self.frames, self.bytes);
        (self.frames, self.bytes) = (frames, bytes);
        if frames == had_frames {
            return 0;
        }
        let sent = bytes.saturating_sub(had_bytes);
        self.left = self.left.saturating_sub(sent);
        usize::try_from(sent).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_gave_nothing_has_nothing_under_way() {
        let mut progress = Progress::default();
        assert!(!progress.is_under_way());
        progress.given(1000);
        assert!(progress.is_under_way());
        assert_eq!(progress.sent(1, 1100), 1100);
        assert!(!progress.is_under_way());
    }

    #[test]
    fn packets_without_data_are_no_progress() {
        let mut progress = Progress::default();
        progress.given(100_000);
        assert_eq!(progress.sent(10, 12_000), 12_000);
        assert_eq!(progress.sent(10, 12_040), 0, "a keep-alive");
        assert_eq!(progress.sent(11, 13_240), 1_200);
        assert!(progress.is_under_way());
    }
}
