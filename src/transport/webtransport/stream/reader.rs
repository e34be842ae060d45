use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};

use super::RawReceive;
use crate::{
    CloseCode, Error, Message, log, rt,
    transport::{framing::Decoder, signal, webtransport::Session},
};

/// The number of chunks taken from QUIC at a time. Each has the data of one packet.
pub(super) const PIECES: usize = 8;

/// The maximum number of times that one poll takes chunks before it lets other tasks run. QUIC does not take part in
/// tokio's cooperative budget, and the peer decides how long a message arrives without a pause.
const AT_ONCE: usize = 32;

/// The receiving half of a stream, which decodes messages from QUIC.
pub(super) struct Reader {
    session: Session,
    /// The stream below, until no more data is read.
    receive: Option<RawReceive>,
    pieces: [Bytes; PIECES],
    next: usize,
    filled: usize,
    decoder: Decoder,
    /// Whether the peer opened the stream and its first byte has not arrived yet.
    awaits_preamble: bool,
    /// Whether the peer's close frame was read. Nothing but the end of the stream may follow it.
    has_closed: bool,
}

/// The reason why there is no next message.
#[derive(Debug)]
pub(super) enum ReadEnd {
    /// The peer ended the stream between two messages.
    Finished,
    Lost(Error),
    /// The peer is at error, and is told so with this code.
    Broken(Error, CloseCode),
}

impl Reader {
    pub(super) fn new(session: Session, receive: RawReceive, awaits_preamble: bool) -> Self {
        Self {
            receive: Some(receive),
            pieces: Default::default(),
            next: 0,
            filled: 0,
            decoder: Decoder::new(session.limits().message),
            awaits_preamble,
            has_closed: false,
            session,
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, ReadEnd>> {
        for _ in 0..AT_ONCE {
            while self.next < self.filled
                && let Some(piece) = self.pieces.get_mut(self.next)
            {
                if self.awaits_preamble && !piece.is_empty() {
                    let version = piece.get_u8();
                    if version != super::PREAMBLE {
                        return Poll::Ready(Err(wrong_preamble(version)));
                    }
                    self.awaits_preamble = false;
                }
                match self.decoder.next(piece) {
                    Ok(Some(message)) => {
                        self.has_closed |= message.is_close();
                        return Poll::Ready(Ok(message));
                    }
                    Ok(None) => {
                        // Releases the packet.
                        *piece = Bytes::new();
                        self.next += 1;
                    }
                    Err(error) => {
                        let code = if error.is_too_large() { CloseCode::TOO_BIG } else { CloseCode::PROTOCOL };
                        log::closing("webtransport", code, &error, None);
                        return Poll::Ready(Err(ReadEnd::Broken(error, code)));
                    }
                }
            }
            ready!(self.poll_fill(cx))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReadEnd>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Err(ReadEnd::Finished)) };
        Poll::Ready(match ready!(receive.poll_read(cx, &mut self.pieces)) {
            Ok(Some(filled)) => {
                (self.next, self.filled) = (0, filled);
                signal::moved(self.pieces.iter().take(filled).map(Bytes::len).sum());
                Ok(())
            }
            Ok(None) => {
                self.receive = None;
                Err(match self.decoder.is_between_messages() {
                    true => ReadEnd::Finished,
                    false => ReadEnd::Lost(Error::closed("the peer ended the stream in the middle of a message")),
                })
            }
            Err(error) => {
                self.receive = None;
                Err(ReadEnd::Lost(error))
            }
        })
    }

    /// Tells the peer that this end stops reading, and why. A peer that has closed the stream is not told.
    pub(super) fn stop(&mut self, code: u32) {
        let Some(mut receive) = self.receive.take() else { return };
        if !self.has_closed || !rt::has_runtime() {
            return receive.stop(code);
        }
        // The end of the stream may be on its way. A peer that is stopped before it takes its last message for unread.
        let limit = self.session.limits().close;
        rt::detach(async move {
            let mut pieces = Default::default();
            let end = rt::timeout(limit, poll_fn(|cx| receive.poll_read(cx, &mut pieces))).await;
            if !matches!(end, Ok(Ok(None))) {
                receive.stop(code);
            }
        });
    }
}

fn wrong_preamble(version: u8) -> ReadEnd {
    let error = Error::protocol(format!(
        "the peer opened a stream with the byte {version:#04x}, which is not a known version of the framing (0x01)"
    ));
    ReadEnd::Broken(error, CloseCode::PROTOCOL)
}
