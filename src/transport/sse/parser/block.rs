//! Lines into events: what the fields of one block say, until a blank line dispatches it.

use std::{borrow::Cow, sync::Arc, time::Duration};

use memchr::memchr;

use super::lines::Line;
use crate::{
    Error, Text,
    transport::sse::{Event, event::own_name},
};

#[derive(Debug)]
pub(super) struct Block {
    pub(super) max_event: usize,
    data: Data,
    /// The type of this block's event.
    name: Option<Arc<str>>,
    /// The last type that was given, to be shared by the events that have it.
    last_name: Option<Arc<str>>,
    /// The id as the lines say it; it is the stream's with the next blank line.
    id: Option<Arc<str>>,
    last_id: Option<Arc<str>>,
    id_changed: bool,
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

fn joined(mut data: String, value: &[u8]) -> String {
    data.push('\n');
    data.push_str(&String::from_utf8_lossy(value));
    data
}

impl Default for Block {
    fn default() -> Self {
        Self {
            max_event: 4 << 20,
            data: Data::None,
            name: None,
            last_name: None,
            id: None,
            last_id: None,
            id_changed: false,
            retry: None,
        }
    }
}

/// The value of a `data` line, whole or so far.
pub(super) fn data_value(line: &[u8]) -> Option<&[u8]> {
    line.strip_prefix(b"data:").map(without_space)
}

fn without_space(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

impl Block {
    pub(super) fn begin_with(&mut self, id: &str) {
        self.id = (!id.is_empty()).then(|| id.into());
        self.last_id.clone_from(&self.id);
    }

    /// How long the value of another `data` line may be.
    pub(super) fn room(&self) -> usize {
        match &self.data {
            Data::None => self.max_event,
            data => self.max_event.saturating_sub(data.len() + 1),
        }
    }

    pub(super) fn last_event_id(&self) -> &str {
        self.last_id.as_deref().unwrap_or_default()
    }

    pub(super) fn too_large(&self) -> Error {
        Error::too_large(format!("an event's data is over the limit of {} bytes (Parser::max_event)", self.max_event))
    }

    /// A line that is neither blank nor a comment.
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
            b"event" => self.name(String::from_utf8_lossy(value)),
            b"id" => self.id(value),
            b"retry" => self.retry(value),
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, line: &Line<'_>, value: &[u8]) -> Result<(), Error> {
        self.data = match std::mem::take(&mut self.data) {
            Data::None => Data::One(
                Text::try_from(line.share(value))
                    .unwrap_or_else(|_| String::from_utf8_lossy(value).into_owned().into()),
            ),
            Data::One(first) => Data::Many(joined(first.as_str().to_owned(), value)),
            Data::Many(before) => Data::Many(joined(before, value)),
        };
        // The line fits, but replacing what is not UTF-8 makes it longer, and there may not have been room for the line feed.
        if self.data.len() > self.max_event {
            self.data = Data::None;
            return Err(self.too_large());
        }
        Ok(())
    }

    fn name(&mut self, name: Cow<'_, str>) {
        if self.last_name.as_deref() != Some(&name) {
            let Some(own) = own_name(&name) else {
                self.name = None;
                return;
            };
            self.last_name = Some(own);
        }
        self.name.clone_from(&self.last_name);
    }

    fn id(&mut self, value: &[u8]) {
        if memchr(0, value).is_some() {
            return;
        }
        let id = String::from_utf8_lossy(value);
        if self.id.as_deref() != Some(&id) {
            self.id = Some((&*id).into());
            self.id_changed = true;
        }
    }

    fn retry(&mut self, value: &[u8]) {
        let digits = std::str::from_utf8(value).ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
        // Empty, and what does not fit, is ignored as a browser does.
        if let Some(milliseconds) = digits.and_then(|digits| digits.parse().ok()) {
            self.retry = Some(Duration::from_millis(milliseconds));
        }
    }

    /// At a blank line: the event, if the block has data.
    pub(super) fn dispatch(&mut self) -> Option<Event> {
        if self.id_changed {
            self.id_changed = false;
            self.last_id.clone_from(&self.id);
        }
        let name = self.name.take();
        let data = match std::mem::take(&mut self.data) {
            Data::None => return None,
            Data::One(text) => text,
            Data::Many(text) => text.into(),
        };
        Some(Event::received(data, name, self.last_id.clone()))
    }
}
