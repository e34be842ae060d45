use std::{sync::Arc, time::Duration};

use bytes::BytesMut;

use super::{encode, label::Label};
use crate::{Error, Text};

/// One server-sent event in either direction: [`Parser`](super::Parser) yields it, and a server writes it ([WHATWG
/// HTML, section 9.2.6](https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation)).
///
/// A clone costs reference counts. The data of a received event may be a slice of the chunk in which it arrived, which
/// then lives as long as the data does.
///
/// ```
/// use bytes::BytesMut;
/// use tower_transport::transport::sse::Event;
///
/// # fn main() -> Result<(), tower_transport::Error> {
/// let event = Event::new("two\nlines").event("note")?.id("42")?;
/// let mut bytes = BytesMut::new();
/// event.encode(&mut bytes);
/// assert_eq!(&bytes[..], b"event: note\nid: 42\ndata: two\ndata: lines\n\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    data: Text,
    fields: Fields,
}

/// All fields except the data. An event without any uses one constant, because values written in small pieces delay a
/// move in large ones.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    /// The type, absent for "message".
    name: Label,
    /// The id, absent if there is no `id` line, and empty if the line clears the id.
    id: Label,
    /// The reconnect delay. Few events have one, so it is boxed to keep the others small.
    retry: Option<Arc<Duration>>,
}

impl Fields {
    const NONE: Self = Self { name: Label::ABSENT, id: Label::ABSENT, retry: None };
}

impl Event {
    /// Creates an event of type "message" without an id.
    ///
    /// A CR, LF or CRLF in `data` is one line end: the receiver sees each as LF. All other text arrives unchanged.
    #[must_use]
    pub fn new(data: impl Into<Text>) -> Self {
        Self { data: data.into(), fields: Fields::NONE }
    }

    /// Creates an event that the parser dispatches.
    #[inline]
    pub(super) fn received(data: Text, name: Label, id: Label) -> Self {
        if name.is_present() || id.is_present() {
            Self { data, fields: Fields { name, id, retry: None } }
        } else {
            Self { data, fields: Fields::NONE }
        }
    }

    /// Sets the type, as named in a browser's `addEventListener`. Defaults to "message", which an empty name also
    /// means.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `name` contains CR, LF or NUL: it would
    /// end the line, or be read differently by others.
    pub fn event(mut self, name: &str) -> Result<Self, Error> {
        on_one_line("an event's type", name)?;
        self.fields.name = own_name(name);
        Ok(self)
    }

    /// Sets the id, which the client sends as `Last-Event-ID` when it reconnects. It stays with the client until
    /// another event has one; an empty id clears it.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_config`](Error::is_config) is true if `id` contains CR or LF, which would end
    /// the line, or NUL, for which clients ignore it.
    pub fn id(mut self, id: &str) -> Result<Self, Error> {
        on_one_line("an event's id", id)?;
        self.fields.id = Label::new(id);
        Ok(self)
    }

    /// Sets the delay before the client reconnects, truncated to whole milliseconds.
    #[must_use]
    pub fn retry(mut self, time: Duration) -> Self {
        self.fields.retry = Some(Arc::new(time));
        self
    }

    /// Returns the type, which is "message" by default.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.fields.name.get().unwrap_or("message")
    }

    /// Returns the data, its lines joined by LF.
    #[must_use]
    pub fn data(&self) -> &Text {
        &self.data
    }

    /// Returns the data alone, without a copy.
    #[must_use]
    pub fn into_data(self) -> Text {
        self.data
    }

    /// Returns the id. For a received event, this is the last id of the stream, from this event or before it; it is
    /// empty if there is no id.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        self.fields.id.as_str()
    }

    /// Appends the event to `into`, with the blank line that ends it.
    ///
    /// Any event can be written: there is one `data` line for each line of the data, and at least one. For a received
    /// event, the inherited id is written too.
    pub fn encode(&self, into: &mut BytesMut) {
        let Fields { name, id, retry } = &self.fields;
        encode::event(name.get(), id.get(), retry.as_deref().copied(), &self.data, into);
    }
}

/// Returns a name in its stored form: absent for the default.
#[inline]
pub(super) fn own_name(name: &str) -> Label {
    if name.is_empty() || name == "message" { Label::ABSENT } else { Label::new(name) }
}

fn on_one_line(what: &str, text: &str) -> Result<(), Error> {
    if text.contains(['\r', '\n', '\0']) {
        return Err(Error::config(format!("{what} must be one line of text: it contains CR, LF or NUL")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_or_an_id_of_more_than_one_line_is_refused() {
        for bad in ["a\nb", "a\r", "\0"] {
            assert!(Event::new("").event(bad).is_err_and(|error| error.is_config()), "{bad:?}");
            assert!(Event::new("").id(bad).is_err_and(|error| error.is_config()), "{bad:?}");
        }
    }

    #[test]
    fn the_type_is_message_unless_another_one_is_given() -> Result<(), Error> {
        assert_eq!(Event::new("").event_type(), "message");
        assert_eq!(Event::new("").event("note")?.event("")?, Event::new("").event("message")?);
        assert_eq!(Event::new("").event("note")?.event_type(), "note");
        Ok(())
    }
}
