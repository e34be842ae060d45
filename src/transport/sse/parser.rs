use std::time::Duration;

use bytes::Bytes;

use self::{block::Block, lines::Lines};
use super::Event;
use crate::Error;

mod block;
mod lines;

/// Parses the bytes of an event stream into [`Event`]s, exactly as the standard specifies ([WHATWG HTML, sections 9.2.5
/// and 9.2.6](https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream)).
///
/// Pure: [`push`](Self::push) takes bytes, cut anywhere, and [`next_event`](Self::next_event) returns events, doing
/// only the work to find the next one. An event that the stream does not end with a blank line is dropped with the
/// parser.
///
/// - **Cost.** Linear in the bytes. An event whose data is one line within one pushed chunk is a slice of that chunk.
///   It costs no allocation, unless its id or its type is longer than 22 bytes.
/// - **Bounds.** [`max_event`](Self::max_event) limits the data of one event, and [`max_line`](Self::max_line) any
///   other line; comments are not kept, however long. In addition to the pushed chunk, a parser holds at most three
///   times the first (if bytes that are not UTF-8 are replaced) and four times the second (type, id, the previous id,
///   and an incomplete line).
/// - **Text.** Bytes that are not UTF-8 become U+FFFD, as in a browser. One byte order mark at the beginning is
///   skipped.
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
    /// Creates a parser at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self { lines: Lines::default(), block: Block::default(), failed: None }
    }

    /// Sets the maximum length of a line that is not `data` (type, id, unknown fields), in bytes. Defaults to 64 KiB.
    /// The minimum is 5, enough to recognize a field.
    #[must_use]
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.lines.max_line = bytes.max(5);
        self
    }

    /// Sets the maximum data size of one event, in bytes, over all its lines. Defaults to 4 MiB, as
    /// [`Limits::message`](crate::Limits::message).
    #[must_use]
    pub fn max_event(mut self, bytes: usize) -> Self {
        self.block.max_event = bytes;
        self
    }

    /// Sets the initial id to the last id of the previous stream, which a client sends as `Last-Event-ID`. It applies
    /// until the stream contains another one, as in browsers.
    #[must_use]
    pub fn resume_from(mut self, id: &str) -> Self {
        self.block.begin_with(id);
        self
    }

    /// Adds the next bytes of the stream. Call it when [`next_event`](Self::next_event) has returned `Ok(None)`: bytes
    /// pushed before that are copied together with the waiting ones.
    pub fn push(&mut self, chunk: Bytes) {
        self.lines.push(chunk);
    }

    /// Returns the next event, or `Ok(None)` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_too_large`](Error::is_too_large) is true if a line or an event is over its
    /// limit, after the events before it. Every further call returns the same error.
    // Inlined into the caller's code, so that an event is created in place rather than moved there: each move waits for
    // the previous one.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            // The common form of an event, twice as fast as line by line.
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

    /// Advances by one line. Returns the result, if it is known by then: an event, or that more bytes are needed.
    #[inline(never)]
    fn line(&mut self) -> Result<Option<Option<Event>>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let line = match self.lines.next(self.block.room()) {
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

    /// Returns the id to reconnect with: the last one confirmed by a blank line, with or without an event. It is empty
    /// if there is no id.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.block.last_event_id()
    }

    /// Returns the reconnect delay that the server asked for, if any.
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
