//! Splits bytes, cut anywhere, into lines. Handles the byte order mark, the three line ends, and comments.

use std::ops::Range;

use bytes::Bytes;
use memchr::memchr2;

use crate::{Error, Text};

const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// The room for more data in the current event.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// The maximum length of the value of another `data` line.
    pub(super) left: usize,
    pub(super) max_event: usize,
}

impl Room {
    pub(super) fn too_large(self) -> Error {
        Error::too_large(format!("an event's data is over the limit of {} bytes (Parser::max_event)", self.max_event))
    }
}

/// Returns the value of a `data` line, complete or partial.
#[inline]
pub(super) fn data_value(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"data:").map(without_space)
}

#[inline]
pub(super) fn without_space(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

#[derive(Debug)]
pub(super) struct Lines {
    pub(super) max_line: usize,
    chunk: Bytes,
    /// The number of bytes of the chunk that were read.
    at: usize,
    /// The beginning of a line whose end has not arrived yet.
    begun: Vec<u8>,
    /// Whether the current line is a comment, which is not kept.
    in_comment: bool,
    /// Whether the last line ended in CR: an LF that follows belongs to it.
    after_cr: bool,
    /// The missing part of a byte order mark. It is empty once there was one, or none can follow.
    mark: &'static [u8],
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            max_line: 64 << 10,
            chunk: Bytes::new(),
            at: 0,
            begun: Vec::new(),
            in_comment: false,
            after_cr: false,
            mark: &BYTE_ORDER_MARK,
        }
    }
}

/// The fields of an event.
pub(super) struct Plain<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    pub(super) data: Text,
}

/// One line without its end.
pub(super) enum Line<'a> {
    /// A line within one chunk.
    Whole(&'a Bytes, &'a [u8]),
    /// A line from several chunks.
    Joined(Bytes),
}

impl Line<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Whole(_, line) => line,
            Self::Joined(line) => line,
        }
    }

    /// Returns a part of [`bytes`](Self::bytes), without a copy.
    pub(super) fn share(&self, part: &[u8]) -> Bytes {
        match self {
            Self::Whole(chunk, _) => chunk.slice_ref(part),
            Self::Joined(line) => line.slice_ref(part),
        }
    }
}

impl Lines {
    pub(super) fn push(&mut self, chunk: Bytes) {
        // Usually nothing waits: the parser reads a chunk to its end before the next one comes.
        let waiting = self.chunk.get(self.at..).unwrap_or_default();
        self.chunk = if waiting.is_empty() { chunk } else { [waiting, &chunk].concat().into() };
        self.at = 0;
        if !self.mark.is_empty() {
            self.skip_mark();
        }
    }

    pub(super) fn clear(&mut self) {
        (self.chunk, self.at, self.begun) = (Bytes::new(), 0, Vec::new());
    }

    fn skip_mark(&mut self) {
        while let (Some((expected, missing)), Some(byte)) = (self.mark.split_first(), self.chunk.get(self.at)) {
            if byte == expected {
                self.at += 1;
                self.mark = missing;
                continue;
            }
            // Not a byte order mark after all: its apparent beginning belongs to a line.
            let seen = BYTE_ORDER_MARK.len() - self.mark.len();
            self.begun.extend(BYTE_ORDER_MARK.iter().take(seen));
            self.mark = &[];
        }
    }

    /// Returns the next event if it has the common form: at most one `id` and one `event` line, one line of data up to
    /// `max` bytes, a blank line, all ended by LF, in UTF-8 and in this chunk. Any other form is left to
    /// [`next`](Self::next).
    #[inline]
    pub(super) fn plain_event(&mut self, max: usize) -> Option<Plain<'_>> {
        if self.after_cr || self.in_comment || !self.begun.is_empty() {
            return None;
        }
        let mut rest = self.chunk.get(self.at..)?;
        let (mut name, mut id) = (None, None);
        // No line is examined more often than there are kinds of lines.
        loop {
            let (line, after) = rest.split_at_checked(memchr2(b'\n', b'\r', rest)?)?;
            if let Some(value) = data_value(line) {
                if value.len() > max || !after.starts_with(b"\n\n") {
                    return None;
                }
                let end = self.chunk.len() - after.len();
                // Not `slice_ref`: its checks and its call are measurable in the cost of an event.
                let data = Text::try_from(self.chunk.slice(end - value.len()..end)).ok()?;
                self.at = end + 2;
                return Some(Plain { name, id, data });
            }
            let (place, value) = match line {
                [b'i', b'd', b':', value @ ..] if !value.contains(&0) => (&mut id, value),
                [b'e', b'v', b'e', b'n', b't', b':', value @ ..] => (&mut name, value),
                _ => return None,
            };
            if place.is_some() || line.len() > self.max_line {
                return None;
            }
            *place = Some(str::from_utf8(without_space(value)).ok()?);
            rest = after.strip_prefix(b"\n")?;
        }
    }

    /// Returns the next line that is not a comment. `room` is that of the event which receives the line.
    pub(super) fn next(&mut self, room: Room) -> Result<Option<Line<'_>>, Error> {
        let (start, end) = loop {
            let start = self.at;
            let rest = self.chunk.get(start..).unwrap_or_default();
            let Some(&first) = rest.first() else {
                // Released now, because the next chunk may take long to arrive.
                self.chunk = Bytes::new();
                self.at = 0;
                return Ok(None);
            };
            if self.after_cr {
                self.after_cr = false;
                if first == b'\n' {
                    self.at += 1;
                    continue;
                }
            }
            self.in_comment |= first == b':' && self.begun.is_empty();
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                self.at = self.chunk.len();
                self.keep(start, room)?;
                continue;
            };
            self.after_cr = rest.get(length) == Some(&b'\r');
            self.at = start + length + 1;
            if !std::mem::take(&mut self.in_comment) {
                break (start, start + length);
            }
        };
        if !self.begun.is_empty() {
            self.append(start..end, room);
            let line = std::mem::take(&mut self.begun);
            self.check(&line, room)?;
            return Ok(Some(Line::Joined(line.into())));
        }
        let line = self.chunk.get(start..end).unwrap_or_default();
        self.check(line, room)?;
        Ok(Some(Line::Whole(&self.chunk, line)))
    }

    /// Keeps the beginning of a line, unless it is already over its limit.
    fn keep(&mut self, start: usize, room: Room) -> Result<(), Error> {
        if self.in_comment {
            return Ok(());
        }
        self.append(start..self.chunk.len(), room);
        // Checked before the line is whole: a line without an end must not grow without a bound.
        self.check(&self.begun, room)
    }

    /// Copies a part of the chunk to the current line. The line's buffer doubles, but never exceeds the maximum length
    /// of a line.
    fn append(&mut self, part: Range<usize>, room: Room) {
        let part = self.chunk.get(part).unwrap_or_default();
        let length = self.begun.len() + part.len();
        if length > self.begun.capacity() {
            let longest = self.max_line.max(room.left);
            let capacity = length.max(longest.min(2 * length));
            self.begun.reserve_exact(capacity - self.begun.len());
        }
        self.begun.extend_from_slice(part);
    }

    fn check(&self, line: &[u8], room: Room) -> Result<(), Error> {
        if line.len() <= self.max_line.min(room.left) {
            return Ok(());
        }
        match data_value(line) {
            Some(value) if value.len() > room.left => Err(room.too_large()),
            None if line.len() > self.max_line => Err(Error::too_large(format!(
                "a line of the event stream is over the limit of {} bytes (Parser::max_line)",
                self.max_line
            ))),
            _ => Ok(()),
        }
    }
}
