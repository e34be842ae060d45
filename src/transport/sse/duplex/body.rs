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
#[derive(Default)]
pub struct SseDuplexBody(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Sentence(Bytes),
    Events(Box<Events>),
}

struct Events {
    session: Arc<Session>,
    keep_alive: Duration,
    timer: Timer,
}

impl SseDuplexBody {
    pub(super) fn sentence(text: impl Into<Bytes>) -> Self {
        Self(Kind::Sentence(text.into()))
    }

    pub(super) fn events(session: Arc<Session>, keep_alive: Duration) -> Self {
        Self(Kind::Events(Box::new(Events { session, keep_alive, timer: Timer::new() })))
    }
}

impl Body for SseDuplexBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let frame = match &mut this.0 {
            Kind::Empty => None,
            Kind::Sentence(text) => {
                let text = std::mem::take(text);
                this.0 = Kind::Empty;
                Some(text)
            }
            Kind::Events(events) => ready!(events.poll_frame(cx)),
        };
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Sentence(_) => false,
            Kind::Events(events) => events.session.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Sentence(text) => SizeHint::with_exact(text.len() as u64),
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
            Kind::Empty => "SseDuplexBody(empty)",
            Kind::Sentence(_) => "SseDuplexBody(sentence)",
            Kind::Events(_) => "SseDuplexBody(events)",
        })
    }
}
