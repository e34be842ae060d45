use std::{
    fmt,
    task::{Context, Poll},
    time::Duration,
};

#[cfg(not(target_arch = "wasm32"))]
use super::connection::Body;
#[cfg(target_arch = "wasm32")]
use super::fetch::Body;
#[cfg(target_arch = "wasm32")]
use crate::rt;
use crate::{
    Error,
    rt::Timer,
    transport::{
        signal,
        sse::{Event, Parser},
    },
};

/// The maximum number of bytes that one poll reads without finding an event, before it lets other tasks run. Comments
/// and empty lines cost a peer a byte or two each.
const AT_ONCE: usize = 256 * 1024;

/// A keep-alive comment, which shows that the server is alive but is not progress.
const KEEP_ALIVE: &[u8] = b":\n\n";

/// The receiving direction of a client: the response that does not end, and its connection.
pub(super) struct Downlink {
    body: Body,
    parser: Parser,
    /// The maximum silence, comments included.
    max_silence: Option<Duration>,
    silence: Timer,
    #[cfg(target_arch = "wasm32")]
    turn: rt::Turn,
}

impl Downlink {
    pub(super) fn new(body: Body, parser: Parser) -> Self {
        Self {
            body,
            parser,
            max_silence: None,
            silence: Timer::new(),
            #[cfg(target_arch = "wasm32")]
            turn: rt::Turn::new(),
        }
    }

    /// Ends the handshake: from now on the server may send without end.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn accept(&self) {
        self.body.accept();
    }

    /// Sets the silence after which the stream ends.
    pub(super) fn max_silence(mut self, time: Option<Duration>) -> Self {
        self.max_silence = time;
        self.listen();
        self
    }

    fn listen(&mut self) {
        if let Some(time) = self.max_silence {
            self.silence.set(time);
        }
    }

    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.silence.poll(cx).map(|()| {
            let time = self.max_silence.unwrap_or_default();
            Error::timeout(format!("nothing was received for {time:?}, not even a comment (max_silence)"))
        })
    }

    /// Returns the parser, which knows the stream's ids and reconnect delay.
    pub(super) fn parser(&self) -> &Parser {
        &self.parser
    }

    /// Returns the next event, or `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_too_large`](Error::is_too_large) is true if an event is over the limit,
    /// [`is_closed`](Error::is_closed) if the stream was cut, and [`is_timeout`](Error::is_timeout) if it was silent
    /// for too long.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, Error>> {
        // A chunk has many events.
        #[cfg(target_arch = "wasm32")]
        std::task::ready!(self.turn.poll(cx));
        let mut has_moved = false;
        let mut read = 0;
        loop {
            if let Some(event) = self.parser.next_event()? {
                return Poll::Ready(Ok(Some(event)));
            }
            if read >= AT_ONCE {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.body.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.listen();
                    if data != KEEP_ALIVE {
                        signal::moved(data.len());
                    }
                    read += data.len().max(1);
                    self.parser.push(data);
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Error::closed("the event stream was cut").with_source(error)));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Pending if has_moved => return self.poll_silence(cx).map(Err),
                // Bytes that the connection reads now are available at the next iteration.
                Poll::Pending => {
                    self.body.drive(cx);
                    has_moved = true;
                }
            }
        }
    }
}

impl fmt::Debug for Downlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downlink").finish_non_exhaustive()
    }
}
