use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{
    ASK, TOKEN,
    alarm::{Alarm, Half},
    layer::expiry,
    state::{Due, Session},
};
use crate::{
    CloseCode, CloseFrame, Error, Message, Transport,
    layer::{
        auth::{Credentials, MAX_TOKEN, Oneshot, Principal, Verdict, Verify, verdict::close_frame},
        control::Control,
    },
    message::trailer::{self, Opened},
    rt::Instant,
};

/// How long a close may take with a peer that does not read.
const GOODBYE: Duration = Duration::from_secs(10);

pin_project! {
    /// A transport that ends when its peer's token expires: what [`ExpiryLayer`](super::ExpiryLayer) makes.
    pub struct Expiring<T, V: Verify> {
        #[pin]
        inner: T,
        session: Session,
        alarm: Alarm,
        control: Control<Message>,
        verifier: Option<V>,
        #[pin]
        verifying: Option<Oneshot<V, Credentials>>,
        end: End,
    }
}

/// How far the end has come.
#[derive(Debug)]
enum End {
    Open,
    /// Until the close message is out and the transport below is closed. The error is for the stream, once.
    Closing {
        frame: CloseFrame,
        error: Option<Error>,
    },
    Ended {
        frame: CloseFrame,
        error: Option<Error>,
    },
}

impl<T, V: Verify> Expiring<T, V> {
    pub(super) fn new(inner: T, session: Session, verifier: Option<V>) -> Self {
        let mut alarm = Alarm::new();
        alarm.set_at(session.alarm(Instant::now()));
        Self { inner, session, alarm, control: Control::new(), verifier, verifying: None, end: End::Open }
    }

    /// With what the session was closed by this layer, once it was.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        match &self.end {
            End::Open => None,
            End::Closing { frame, .. } | End::Ended { frame, .. } => Some(frame),
        }
    }

    /// The inner transport.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The inner transport. What is sent or received there is not looked at.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The inner transport, without an end from now on.
    pub fn into_inner(self) -> T {
        self.inner
    }

    fn check_open(&self) -> Result<(), Error> {
        match self.close_frame() {
            None => Ok(()),
            Some(frame) => {
                Err(Error::closed("the session was closed for its credentials").with_close_frame(Some(frame.clone())))
            }
        }
    }

    fn is_open(&self) -> bool {
        matches!(self.end, End::Open)
    }

    /// Ends the session: what was accepted goes out, then the close message.
    fn refuse(self: Pin<&mut Self>, error: Error, frame: CloseFrame) {
        let this = self.project();
        this.control.push(Message::Close(Some(frame.clone())));
        this.alarm.set_at(Some(Instant::now() + GOODBYE));
        let error = Some(error.with_close_frame(Some(frame.clone())));
        *this.end = End::Closing { frame, error };
    }

    /// Costs a load while the alarm is silent.
    #[inline]
    fn look_at_alarm(mut self: Pin<&mut Self>) {
        let this = self.as_mut().project();
        if matches!(this.end, End::Open) && this.alarm.has_rung() {
            self.ring();
        }
    }

    #[cold]
    fn ring(mut self: Pin<&mut Self>) {
        let this = self.as_mut().project();
        match this.session.ring() {
            Due::Ask => {
                this.control.push(Message::Binary(trailer::append(&[], trailer::Layer::Auth, ASK)));
                this.alarm.set_at(this.session.alarm(Instant::now()));
            }
            Due::Close => {
                self.refuse(Error::auth("the session's token has expired"), close_frame(4401, "token expired"))
            }
        }
    }
}

impl<T, V> Expiring<T, V>
where
    T: Transport<Message>,
    V: Verify<Response: Principal>,
{
    fn poll_end(self: Pin<&mut Self>, half: Half, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let End::Closing { frame, error } = this.end else { return Poll::Ready(()) };
        loop {
            let closed = match half {
                _ if this.alarm.has_rung() => break,
                Half::Reader => this.control.poll_shutdown(this.inner.as_mut(), cx),
                Half::Writer => this.control.poll_close(this.inner.as_mut(), cx),
            };
            if closed.is_ready() {
                break;
            }
            if this.alarm.waits(half, cx) {
                return Poll::Pending;
            }
        }
        *this.end = End::Ended { frame: frame.clone(), error: error.take() };
        // The other half may wait for the same.
        this.alarm.waker().wake_by_ref();
        Poll::Ready(())
    }

    /// A token of the peer.
    fn take_token(mut self: Pin<&mut Self>, kind: u8, token: &Bytes) {
        let mut this = self.as_mut().project();
        let refusal = match std::str::from_utf8(token) {
            _ if token.len() > MAX_TOKEN => Error::too_large(format!("the new token is over {MAX_TOKEN} bytes")),
            Ok(token) if kind == TOKEN && this.session.take_token() => {
                if let Some(verifier) = this.verifier {
                    let credentials = Credentials::Bearer(token.into());
                    this.verifying.set(Some(Oneshot::new(verifier.clone(), credentials)));
                }
                return;
            }
            _ => Error::protocol("the peer sent a token that nobody asked for"),
        };
        self.refuse(refusal, CloseFrame::new(CloseCode::POLICY, "no token was asked for"));
    }

    /// Goes on with the verification of a token, if there is one.
    fn poll_verify(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let mut this = self.as_mut().project();
        let Some(verifying) = this.verifying.as_mut().as_pin_mut() else { return };
        let Poll::Ready(verified) = verifying.poll(cx) else { return };
        this.verifying.set(None);
        match verified {
            Ok(principal) if this.session.renew(principal.subject(), expiry(&principal)) => {
                this.alarm.set_at(this.session.alarm(Instant::now()));
            }
            Ok(_) => self.refuse(
                Error::auth("the new token is for another subject than the session"),
                Verdict::Forbidden.close_frame(),
            ),
            Err(error) => match Verdict::of(&error) {
                // The old token is good for a while, and the alarm stands.
                Verdict::Unavailable => {}
                verdict => self.refuse(error.context("the new token was refused"), verdict.close_frame()),
            },
        }
    }
}

impl<T, V> Stream for Expiring<T, V>
where
    T: Transport<Message, In = Message>,
    V: Verify<Response: Principal>,
{
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            self.as_mut().look_at_alarm();
            if self.verifying.is_some() {
                self.as_mut().poll_verify(cx);
            }
            let mut this = self.as_mut().project();
            if let End::Closing { error, .. } | End::Ended { error, .. } = this.end {
                let error = error.take();
                // At once, as far as it goes, for callers that do not poll again after an error.
                let ended = self.as_mut().poll_end(Half::Reader, cx);
                if let Some(error) = error {
                    return Poll::Ready(Some(Err(error)));
                }
                return ended.map(|()| None);
            }
            // A transport that cannot be written ends the stream by itself.
            let _ = this.control.poll_send(this.inner.as_mut(), cx);
            let message = match this.inner.poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(end) => return Poll::Ready(end.map(|item| item.map_err(Into::into))),
                Poll::Pending if this.alarm.waits(Half::Reader, cx) => return Poll::Pending,
                Poll::Pending => continue,
            };
            if this.verifier.is_none() {
                return Poll::Ready(Some(Ok(message)));
            }
            match trailer::open(trailer::Layer::Auth, message) {
                Opened::Plain(message) => return Poll::Ready(Some(Ok(message))),
                Opened::Marked(kind, body) => self.as_mut().take_token(kind, &body),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more for the error of the end.
        (0, self.inner.size_hint().1.and_then(|most| most.checked_add(1)))
    }
}

impl<T, V> Sink<Message> for Expiring<T, V>
where
    T: Transport<Message>,
    V: Verify<Response: Principal>,
{
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.as_mut().look_at_alarm();
            self.check_open()?;
            let this = self.as_mut().project();
            match this.control.poll_ready(this.inner, cx) {
                Poll::Pending if !this.alarm.waits(Half::Writer, cx) => {}
                ready => return ready.map_err(Into::into),
            }
        }
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.check_open()?;
        let this = self.project();
        let message = match this.verifier {
            Some(_) => trailer::close(trailer::Layer::Auth, message),
            None => message,
        };
        this.control.start_send(this.inner, message).map_err(Into::into)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.as_mut().look_at_alarm();
            // What was accepted before goes out ahead of the close message.
            ready!(self.as_mut().poll_end(Half::Writer, cx));
            self.check_open()?;
            let this = self.as_mut().project();
            match this.control.poll_flush(this.inner, cx) {
                Poll::Pending if !this.alarm.waits(Half::Writer, cx) => {}
                ready => return ready.map_err(Into::into),
            }
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.is_open() {
            return self.as_mut().poll_end(Half::Writer, cx).map(Ok);
        }
        let this = self.project();
        this.control.poll_close(this.inner, cx).map_err(Into::into)
    }
}

impl<T: fmt::Debug, V: Verify> fmt::Debug for Expiring<T, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiring")
            .field("inner", &self.inner)
            .field("end", &self.end)
            .field("alarm", &self.alarm)
            .finish_non_exhaustive()
    }
}
