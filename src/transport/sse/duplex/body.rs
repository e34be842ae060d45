use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::session::Session;
use crate::rt::Timer;

/// A comment, which shows the client and the proxies in between that the stream is alive.
const COMMENT: &[u8] = b":\n\n";

/// The body of a [`SseDuplexServer`](super::SseDuplexServer)'s responses: the event stream of a session, or a short
/// text.
///
/// The session ends when its stream is dropped, which an HTTP server does as soon as it detects that the client is
/// gone.
pub struct SseDuplexBody(Kind);

enum Kind {
    /// The rest of a short text.
    Text(Bytes),
    Events(Box<Events>),
}

struct Events {
    session: Arc<Session>,
    keep_alive: Duration,
    timer: Timer,
}

impl SseDuplexBody {
    pub(super) const fn text(text: Bytes) -> Self {
        Self(Kind::Text(text))
    }

    pub(super) fn events(session: Arc<Session>, keep_alive: Duration) -> Self {
        Self(Kind::Events(Box::new(Events { session, keep_alive, timer: Timer::new() })))
    }
}

impl Body for SseDuplexBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut self.get_mut().0 {
            Kind::Text(text) => Some(std::mem::take(text)).filter(|text| !text.is_empty()),
            Kind::Events(events) => ready!(events.poll_frame(cx)),
        };
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Text(text) => text.is_empty(),
            Kind::Events(events) => events.session.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Text(text) => SizeHint::with_exact(text.len() as u64),
            Kind::Events(_) => SizeHint::default(),
        }
    }
}

impl Events {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Poll::Ready(frame) = self.session.poll_frame(cx) {
            self.timer.clear();
            return Poll::Ready(frame);
        }
        if self.keep_alive.is_zero() {
            return Poll::Pending;
        }
        if !self.timer.is_set() {
            self.timer.set(self.keep_alive);
        }
        ready!(self.timer.poll(cx));
        Poll::Ready(Some(Bytes::from_static(COMMENT)))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.session.cut();
    }
}

impl fmt::Debug for SseDuplexBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Text(_) => "SseDuplexBody(text)",
            Kind::Events(_) => "SseDuplexBody(events)",
        })
    }
}

/// An empty body.
impl Default for SseDuplexBody {
    fn default() -> Self {
        Self::text(Bytes::new())
    }
}
