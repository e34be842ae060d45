use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Buf;
use http::{Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;

use super::{
    body::SseDuplexBody,
    head::{self, Cors},
    incoming_post::{Step, Turn},
    names::{HOLD, SEQUENCE},
    session::Session,
};
use crate::{rt::Timer, transport::refusal::Refusal};

/// The maximum number of body chunks that one poll takes before it lets other tasks run.
const AT_ONCE: usize = 64;

pin_project! {
    /// The future of a [`SseDuplexServer`](super::SseDuplexServer): a finished response, or a POST that is being read.
    #[must_use = "futures do nothing unless awaited"]
    pub struct SseDuplexAnswer<B> {
        #[pin]
        kind: Kind<B>,
        cors: Cors,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Ready { response: Option<Response<SseDuplexBody>> },
        Receive { #[pin] body: B, receive: Receive },
    }
}

struct Receive {
    session: Arc<Session>,
    turn: Turn,
    is_end: bool,
    timer: Timer,
    waits: Waits,
}

/// The purpose of the running timer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Not,
    ForRoom,
    ForBody,
}

impl<B> SseDuplexAnswer<B> {
    pub(super) fn ready(response: Response<SseDuplexBody>, cors: Cors) -> Self {
        Self { kind: Kind::Ready { response: Some(response) }, cors }
    }

    pub(super) fn receive(session: Arc<Session>, turn: Turn, body: B, cors: Cors) -> Self {
        let receive = Receive { session, turn, is_end: false, timer: Timer::new(), waits: Waits::Not };
        Self { kind: Kind::Receive { body, receive }, cors }
    }
}

impl<B: Body> Future for SseDuplexAnswer<B> {
    type Output = Result<Response<SseDuplexBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.kind.project() {
            KindProj::Ready { response } => match response.take() {
                Some(response) => response,
                None => return Poll::Pending,
            },
            KindProj::Receive { body, receive } => ready!(receive.poll(body, cx)),
        };
        this.cors.put(response.headers_mut());
        Poll::Ready(Ok(response))
    }
}

impl Receive {
    fn poll<B: Body>(&mut self, mut body: Pin<&mut B>, cx: &mut Context<'_>) -> Poll<Response<SseDuplexBody>> {
        for _ in 0..AT_ONCE {
            match self.session.take(&mut self.turn, cx) {
                Step::Read => {}
                // The whole POST is in the inbox: there is nothing to wait for.
                Step::Full if self.turn.is_whole() && (self.is_end || body.is_end_stream()) => {
                    return Poll::Ready(self.progress());
                }
                Step::Full => {
                    ready!(self.poll_timer(Waits::ForRoom, HOLD, cx));
                    return Poll::Ready(self.progress());
                }
                Step::Superseded => {
                    return refuse(StatusCode::CONFLICT, "another POST of this session came after this one");
                }
                Step::Over => return refuse(StatusCode::NOT_FOUND, "the session has ended"),
                Step::Paused => continue,
                Step::Bad(error) if error.is_too_large() => {
                    return self.refuse(StatusCode::PAYLOAD_TOO_LARGE, "a message is over the limit");
                }
                Step::Bad(_) => {
                    return self.refuse(StatusCode::BAD_REQUEST, "the body is not messages in their framing");
                }
            }
            if self.is_end {
                return match self.turn.is_whole() {
                    true => Poll::Ready(self.progress()),
                    false => self.refuse(StatusCode::BAD_REQUEST, "the body ended within a message"),
                };
            }
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(None) => self.is_end = true,
                Poll::Ready(Some(Ok(frame))) => {
                    self.waits = Waits::Not;
                    if let Ok(mut data) = frame.into_data() {
                        let data = data.copy_to_bytes(data.remaining());
                        self.session.read(&mut self.turn, data);
                    }
                }
                Poll::Ready(Some(Err(_))) => return refuse(StatusCode::BAD_REQUEST, "the body was cut"),
                Poll::Pending => {
                    ready!(self.poll_timer(Waits::ForBody, self.session.limits.handshake, cx));
                    return refuse(StatusCode::REQUEST_TIMEOUT, "the body came to a stop");
                }
            }
        }
        // A body that is always ready must not starve other tasks.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Rejects the POST and reports how many messages were taken, so that the client can tell the server from a proxy.
    fn refuse(&self, status: StatusCode, reason: &'static str) -> Poll<Response<SseDuplexBody>> {
        refuse(status, reason).map(|mut response| {
            response.headers_mut().insert(SEQUENCE, self.session.next().into());
            response
        })
    }

    fn progress(&self) -> Response<SseDuplexBody> {
        head::progress(StatusCode::NO_CONTENT, self.session.next())
    }

    fn poll_timer(&mut self, waits: Waits, time: Duration, cx: &mut Context<'_>) -> Poll<()> {
        if self.waits != waits {
            self.waits = waits;
            self.timer.set(time);
        }
        self.timer.poll(cx)
    }
}

fn refuse(status: StatusCode, reason: &'static str) -> Poll<Response<SseDuplexBody>> {
    Poll::Ready(head::refusal(Refusal::new(status, reason)))
}

impl<B> fmt::Debug for SseDuplexAnswer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SseDuplexAnswer").finish_non_exhaustive()
    }
}
