//! Combines lines into events: collects the fields of one block until a blank line dispatches it.

use std::{borrow::Cow, time::Duration};

use memchr::memchr;

use super::lines::{Line, Plain, Room, data_value, without_space};
use crate::{
    Error, Text,
    transport::sse::{Event, event::own_name, label::Label},
};

#[derive(Debug)]
pub(super) struct Block {
    pub(super) max_event: usize,
    data: Data,
    /// The type of this block's event.
    name: Label,
    /// A new id of this block, which becomes the stream's id at the next blank line.
    id: Label,
    last_id: Label,
    pub(super) retry: Option<Duration>,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Text),
    Many(String),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(text) => text.len(),
            Self::Many(text) => text.len(),
        }
    }
}

/// A variant of `String::from_utf8_lossy` with a fast path for valid text.
fn lossy(value: &[u8]) -> Cow<'_, str> {
    str::from_utf8(value).map_or_else(|_| String::from_utf8_lossy(value), Cow::Borrowed)
}

impl Default for Block {
    fn default() -> Self {
        Self {
            max_event: 4 << 20,
            data: Data::None,
            name: Label::ABSENT,
            id: Label::ABSENT,
            last_id: Label::ABSENT,
            retry: None,
        }
    }
}

impl Block {
    pub(super) fn begin_with(&mut self, id: &str) {
        self.last_id = if id.is_empty() { Label::ABSENT } else { Label::new(id) };
    }

    /// Returns the room for the value of another `data` line.
    pub(super) fn room(&self) -> Room {
        let left = match &self.data {
            Data::None => self.max_event,
            data => self.max_event.saturating_sub(data.len() + 1),
        };
        Room { left, max_event: self.max_event }
    }

    /// Returns the maximum data size of the event, if it has no data yet.
    #[inline]
    pub(super) fn is_without_data(&self) -> Option<usize> {
        matches!(self.data, Data::None).then_some(self.max_event)
    }

    pub(super) fn last_event_id(&self) -> &str {
        self.last_id.as_str()
    }

    /// Handles a line that is neither blank nor a comment.
    pub(super) fn line(&mut self, line: &Line<'_>) -> Result<(), Error> {
        let bytes = line.bytes();
        if let Some(value) = data_value(bytes) {
            return self.data(line, value);
        }
        let (field, value) = match memchr(b':', bytes).and_then(|colon| bytes.split_at_checked(colon)) {
            Some((field, value)) => (field, without_space(value.get(1..).unwrap_or_default())),
            None => (bytes, [].as_slice()),
        };
        match field {
            b"data" => return self.data(line, value),
            b"event" => self.name = own_name(&lossy(value)),
            b"id" => self.id(value),
            b"retry" => self.retry(value),
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, line: &Line<'_>, value: &[u8]) -> Result<(), Error> {
        let mut data = match std::mem::take(&mut self.data) {
            // The common form, one line of valid UTF-8, shares the memory of the chunk.
            Data::None => match Text::try_from(line.share(value)) {
                Ok(text) => {
                    self.data = Data::One(text);
                    return Ok(());
                }
                Err(_) => String::new(),
            },
            Data::One(first) => first.as_str().to_owned() + "\n",
            Data::Many(before) => before + "\n",
        };
        // The line fits, but replacing bytes that are not UTF-8 makes it longer, and there may not have been room for
        // the line feed.
        for chunk in value.utf8_chunks() {
            data.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                data.push(char::REPLACEMENT_CHARACTER);
            }
            if data.len() > self.max_event {
                return Err(self.room().too_large());
            }
        }
        if data.len() > self.max_event {
            return Err(self.room().too_large());
        }
        self.data = Data::Many(data);
        Ok(())
    }

    fn id(&mut self, value: &[u8]) {
        // An id with NUL is ignored (section 9.2.6).
        if !value.contains(&0) {
            self.id = Label::new(&lossy(value));
        }
    }

    fn retry(&mut self, value: &[u8]) {
        let digits = std::str::from_utf8(value).ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
        // Empty or overflowing values are ignored, as in a browser.
        if let Some(milliseconds) = digits.and_then(|digits| digits.parse().ok()) {
            self.retry = Some(Duration::from_millis(milliseconds));
        }
    }

    /// Handles a blank line: returns the event, if the block has data.
    pub(super) fn dispatch(&mut self) -> Option<Event> {
        // A block without data still sets the id, and is no event.
        self.commit_id();
        let name = std::mem::replace(&mut self.name, Label::ABSENT);
        let data = match std::mem::take(&mut self.data) {
            Data::None => return None,
            Data::One(text) => text,
            Data::Many(text) => text.into(),
        };
        Some(Event::received(data, name, self.last_id.clone()))
    }

    /// Returns the event of a block that ends with these fields.
    #[inline]
    pub(super) fn plain(&mut self, plain: Plain<'_>) -> Event {
        let before = std::mem::replace(&mut self.name, Label::ABSENT);
        let name = plain.name.map_or(before, own_name);
        match plain.id {
            Some(id) => {
                self.id = Label::ABSENT;
                self.last_id = Label::new(id);
            }
            None => self.commit_id(),
        }
        Event::received(plain.data, name, self.last_id.clone())
    }

    #[inline]
    fn commit_id(&mut self) {
        if self.id.is_present() {
            self.last_id = std::mem::replace(&mut self.id, Label::ABSENT);
        }
    }
}
