use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::Body;
use hyper::body::Incoming;

use super::line::Line;
use crate::{
    Error,
    rt::Timer,
    transport::{
        signal,
        sse::{Event, Parser},
    },
};

/// How much of the stream one poll reads where no event comes of it, before other tasks have their turn, in bytes. Comments and empty
/// lines cost a peer a byte or two each.
const AT_ONCE: usize = 256 * 1024;

/// What says that a server is there, and nothing more: no progress.
const KEEP_ALIVE: &[u8] = b":\n\n";

/// A client's way down: the response that does not end, and its connection.
pub(super) struct Downlink {
    line: Line,
    body: Incoming,
    parser: Parser,
    /// How long nothing may come, comments included.
    max_silence: Option<Duration>,
    silence: Timer,
}

impl Downlink {
    pub(super) fn new(line: Line, body: Incoming, parser: Parser) -> Self {
        Self { line, body, parser, max_silence: None, silence: Timer::new() }
    }

    /// Ends the stream where nothing comes for this long.
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
            Error::timeout(format!("nothing came for {time:?}, not even a comment (max_silence)"))
        })
    }

    /// What the stream has said of ids and of the time to come back.
    pub(super) fn parser(&self) -> &Parser {
        &self.parser
    }

    /// The next event; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`is_too_large`](Error::is_too_large) for an event over the limit, [`is_closed`](Error::is_closed) where the stream was cut,
    /// [`is_timeout`](Error::is_timeout) where it was silent for too long.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, Error>> {
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
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.listen();
                        if data != KEEP_ALIVE {
                            signal::moved(data.len());
                        }
                        read += data.len().max(1);
                        self.parser.push(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Error::closed("the event stream was cut").with_source(error)));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Pending if has_moved => return self.poll_silence(cx).map(Err),
                // What the connection reads is there at the next look.
                Poll::Pending => {
                    self.line.poll(cx);
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
