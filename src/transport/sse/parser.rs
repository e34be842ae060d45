use std::time::Duration;

use bytes::Bytes;

use self::{block::Block, lines::Lines};
use super::Event;
use crate::Error;

mod block;
mod lines;

/// Turns the bytes of an event stream into [`Event`]s, as the standard says to the letter
/// ([WHATWG HTML, sections 9.2.5 and 9.2.6](https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream)).
///
/// Pure: bytes go in by [`push`](Self::push), cut anywhere, and events come out of [`next_event`](Self::next_event), which does
/// no more than it takes to find the next one. An event that the stream does not end with a blank line is dropped with the parser.
///
/// - **Cost.** Linear in the bytes. An event whose data is one line within one pushed chunk is a slice of that chunk; it costs no
///   allocation, unless its id or its type is longer than 22 bytes.
/// - **Bounds.** [`max_event`](Self::max_event) for the data of one event, [`max_line`](Self::max_line) for any other line; comments are not
///   kept, however long. So a parser holds, beside the pushed chunk, no more than three times the one (where bytes that are not
///   UTF-8 are replaced) and four times the other (type, id, the id before, and a line that is not whole).
/// - **Text.** What is not UTF-8 becomes U+FFFD, value by value, as a browser does it; one byte order mark at the beginning is skipped.
///
/// ```
/// use bytes::Bytes;
/// use tower_transport::transport::sse::Parser;
///
/// # fn main() -> Result<(), tower_transport::Error> {
/// let mut parser = Parser::new();
/// let mut all = Vec::new();
/// for chunk in ["id: 7\ndata: a\n\nda", "ta: b\r\n\r\ndata: cut off"] {
///     parser.push(Bytes::from(chunk));
///     while let Some(event) = parser.next_event()? {
///         all.push((event.last_event_id().to_owned(), event.into_data()));
///     }
/// }
/// assert_eq!(all, [("7".to_owned(), "a".into()), ("7".to_owned(), "b".into())]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Parser {
    lines: Lines,
    block: Block,
    failed: Option<Error>,
}

impl Parser {
    /// A parser at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self { lines: Lines::default(), block: Block::default(), failed: None }
    }

    /// The longest line that is not `data` (type, id, unknown fields), in bytes; 5 at least, to tell what a line
    /// is. Default: 64 KiB.
    #[must_use]
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.lines.max_line = bytes.max(5);
        self
    }

    /// The most data of one event, in bytes, in one line or in many. Default: 4 MiB, as
    /// [`Limits::message`](crate::Limits::message).
    #[must_use]
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.block.max_event = bytes;
        self
    }

    /// Begins with the id that the stream before this one ended with, which is what a client sends as `Last-Event-ID`. It stays until
    /// the stream gives another one, as browsers have it.
    #[must_use]
    pub fn resume_from(mut self, id: &str) -> Self {
        self.block.begin_with(id);
        self
    }

    /// The next bytes of the stream. Meant for when [`next_event`](Self::next_event) has given `Ok(None)`: bytes that are pushed
    /// before that are copied together with those that wait.
    pub fn push(&mut self, chunk: Bytes) {
        self.lines.push(chunk);
    }

    /// The next event, or `Ok(None)` if it takes more bytes.
    ///
    /// # Errors
    ///
    /// [`is_too_large`](Error::is_too_large) for a line or an event over its limit; the events before it have been given. The
    /// error stays: the same comes from every further call.
    // Within the caller's code, so that an event is made where it is wanted rather than moved there: each move waits for the one before.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            // Most events, twice as fast as line by line.
            if self.failed.is_none()
                && let Some(room) = self.block.is_without_data()
                && let Some(plain) = self.lines.plain_event(room)
            {
                return Ok(Some(self.block.plain(plain)));
            }
            if let Some(found) = self.line()? {
                return Ok(found);
            }
        }
    }

    /// Goes on by one line, and says what is found, if that is known with it: an event, or that it takes more bytes.
    #[inline(never)]
    fn line(&mut self) -> Result<Option<Option<Event>>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let line = match self.lines.next(&self.block) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(Some(None)),
            Err(error) => return Err(self.fail(error)),
        };
        if line.bytes().is_empty() {
            return Ok(self.block.dispatch().map(Some));
        }
        self.block.line(&line).map_err(|error| self.fail(error))?;
        Ok(None)
    }

    /// The id to reconnect with: the last one that a blank line has confirmed, with an event or without; empty where there is
    /// none.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.block.last_event_id()
    }

    /// How long the server wants a client to wait before it reconnects, where it has said so.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.block.retry
    }

    fn fail(&mut self, error: Error) -> Error {
        // Nothing is read any more, so nothing is kept.
        self.lines.clear();
        self.failed = Some(error.clone());
        error
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
