use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use pin_project_lite::pin_project;

use super::{
    ASK, TOKEN,
    alarm::Alarm,
    layer::expiry,
    state::{Due, Session},
};
use crate::{
    CloseCode, CloseFrame, Error, Message, Transport,
    layer::{
        auth::{Credentials, MAX_TOKEN, Oneshot, Principal, Verdict, Verify, verdict::close_frame},
        control::Control,
    },
    message::trailer,
    rt::Instant,
    transport::wakers::Half,
};

/// How long a close may take with a peer that does not read.
const GOODBYE: Duration = Duration::from_secs(10);

pin_project! {
    /// A transport that ends when its peer's token expires, created by [`ExpiryLayer`](super::ExpiryLayer).
    pub struct Expiring<T, V: Verify> {
        #[pin]
        pub(super) inner: T,
        session: Session,
        pub(super) alarm: Alarm,
        // Whether there is no renewal and no end yet. This layer then has nothing to send, and the transport below is
        // called directly.
        pub(super) is_plain: bool,
        pub(super) control: Control<Message>,
        pub(super) verifier: Option<V>,
        #[pin]
        pub(super) verifying: Option<Oneshot<V, Credentials>>,
        end: End,
    }
}

/// The progress of the end.
#[derive(Debug)]
enum End {
    Open,
    /// Until the close message is sent and the transport below is closed. The stream returns the error once.
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
        let is_plain = verifier.is_none();
        Self { inner, session, alarm, is_plain, control: Control::new(), verifier, verifying: None, end: End::Open }
    }

    /// Returns the close frame with which this layer closed the session, if it has.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        match &self.end {
            End::Open => None,
            End::Closing { frame, .. } | End::Ended { frame, .. } => Some(frame),
        }
    }

    /// Returns a reference to the inner transport.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner transport. The layer does not see what is sent or received there.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner transport, which no longer expires.
    pub fn into_inner(self) -> T {
        self.inner
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<(), Error> {
        if self.is_open() { Ok(()) } else { Err(self.closed()) }
    }

    #[cold]
    pub(super) fn closed(&self) -> Error {
        Error::closed("the session was closed because its credentials are no longer valid")
            .with_close_frame(self.close_frame().cloned())
    }

    /// Returns whether a message can pass without further checks: two loads for a regular session.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.is_plain && self.alarm.is_silent()
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self.end, End::Open)
    }

    /// Ends the session: messages that were accepted are sent, then the close message.
    fn refuse(self: Pin<&mut Self>, error: Error, frame: CloseFrame) {
        let this = self.project();
        this.control.push(Message::Close(Some(frame.clone())));
        this.alarm.set_at(Some(Instant::now() + GOODBYE));
        let error = Some(error.with_close_frame(Some(frame.clone())));
        *this.is_plain = false;
        *this.end = End::Closing { frame, error };
    }

    /// Costs one load while the alarm has not fired.
    #[inline]
    pub(super) fn look_at_alarm(mut self: Pin<&mut Self>) {
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
    pub(super) fn poll_end(self: Pin<&mut Self>, half: Half, cx: &mut Context<'_>) -> Poll<()> {
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
        // The other half may wait for the same event.
        this.alarm.waker().wake_by_ref();
        Poll::Ready(())
    }

    /// Returns the stream's item after the end.
    #[cold]
    pub(super) fn poll_rest(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let error = match self.as_mut().project().end {
            End::Closing { error, .. } | End::Ended { error, .. } => error.take(),
            End::Open => None,
        };
        // Starts the close at once, as far as possible, for callers that do not poll again after an error.
        let ended = self.poll_end(Half::Reader, cx);
        match error {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => ended.map(|()| None),
        }
    }

    /// Handles a token from the peer.
    pub(super) fn take_token(mut self: Pin<&mut Self>, kind: u8, token: &Bytes) {
        let mut this = self.as_mut().project();
        let refusal = match std::str::from_utf8(token) {
            _ if token.len() > MAX_TOKEN => Error::too_large(format!("the new token is larger than {MAX_TOKEN} bytes")),
            Ok(token) if kind == TOKEN && this.session.take_token() => {
                if let Some(verifier) = this.verifier {
                    let credentials = Credentials::Bearer(token.into());
                    this.verifying.set(Some(Oneshot::new(verifier.clone(), credentials)));
                }
                return;
            }
            _ => Error::protocol("the peer sent a token that was not requested"),
        };
        self.refuse(refusal, CloseFrame::new(CloseCode::POLICY, "no token was asked for"));
    }

    /// Continues the verification of a token, if there is one.
    pub(super) fn poll_verify(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
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
                // The old token is still valid, and the alarm remains set.
                Verdict::Unavailable => {}
                verdict => self.refuse(error.context("the new token was refused"), verdict.close_frame()),
            },
        }
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
