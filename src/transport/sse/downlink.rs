use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Body;
use hyper::body::Incoming;

use super::line::Line;
use crate::{
    Error,
    transport::sse::{Event, Parser},
};

/// A client's way down: the response that does not end, and its connection.
pub(super) struct Downlink {
    line: Line,
    body: Incoming,
    parser: Parser,
}

impl Downlink {
    pub(super) fn new(line: Line, body: Incoming, parser: Parser) -> Self {
        Self { line, body, parser }
    }

    /// What the stream has said of ids and of the time to come back.
    pub(super) fn parser(&self) -> &Parser {
        &self.parser
    }

    /// The next event; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`is_too_large`](Error::is_too_large) for an event over the limit, [`is_closed`](Error::is_closed) where the stream was cut.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event>, Error>> {
        let mut has_moved = false;
        loop {
            if let Some(event) = self.parser.next_event()? {
                return Poll::Ready(Ok(Some(event)));
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.parser.push(data);
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Error::closed("the event stream was cut").with_source(error)));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Pending if has_moved => return Poll::Pending,
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
