//! The message type that every transport carries: [`Message`].

mod close;
mod text;
#[allow(dead_code, reason = "the layers use it, and each is a feature")]
pub(crate) mod trailer;

use bytes::Bytes;

pub use self::{
    close::{CloseCode, CloseFrame},
    text::Text,
};

/// One message of a transport: data ([`Text`](Self::Text), [`Binary`](Self::Binary)) or control (the other variants).
///
/// Payloads are shared bytes. A clone costs a reference count, and a slice of a payload keeps its memory alive without
/// a copy. The kinds are those of [RFC 6455, section 5](https://www.rfc-editor.org/rfc/rfc6455#section-5). A transport
/// without control messages of its own documents how it treats them.
///
/// ```
/// use tower_transport::Message;
///
/// let message = Message::text("hello");
/// assert_eq!(message.as_text(), Some("hello"));
/// assert_eq!(message.len(), 5);
/// assert!(!message.is_control());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Text, valid UTF-8.
    Text(Text),
    /// Binary data.
    Binary(Bytes),
    /// A liveness check, at most 125 bytes. Transports answer it themselves.
    Ping(Bytes),
    /// The answer to a ping, with the ping's bytes.
    Pong(Bytes),
    /// The end of the connection, and its reason. No data follows a close message.
    Close(Option<CloseFrame>),
}

impl Message {
    /// Creates a text message.
    pub fn text(text: impl Into<Text>) -> Self {
        Self::Text(text.into())
    }

    /// Creates a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self::Binary(bytes.into())
    }

    /// Returns the length of the payload in bytes. For a close message, this is the length of its reason.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
            Self::Close(frame) => frame.as_ref().map_or(0, |frame| frame.reason().len()),
        }
    }

    /// Returns whether the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether this is a data message: text or binary.
    #[must_use]
    #[inline]
    pub fn is_data(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Binary(_))
    }

    /// Returns whether this is a control message: ping, pong or close.
    #[must_use]
    #[inline]
    pub fn is_control(&self) -> bool {
        !self.is_data()
    }

    /// Returns whether this is a close message.
    #[must_use]
    #[inline]
    pub fn is_close(&self) -> bool {
        matches!(self, Self::Close(_))
    }

    /// Returns the text of a text message.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the payload as bytes. It is empty for a close message.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(_) => &[],
        }
    }

    /// Returns the payload as shared bytes, without a copy. It is empty for a close message.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(_) => Bytes::new(),
        }
    }
}

impl From<Text> for Message {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::binary(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_and_slices_share_one_buffer() {
        let payload = Bytes::from(vec![7u8; 1024]);
        let message = Message::binary(payload.clone());
        let copy = message.clone().into_bytes();
        assert_eq!(copy.as_ptr(), payload.as_ptr());
        assert_eq!(copy.slice(10..20).as_ptr(), payload[10..].as_ptr());

        let text = Text::from("shared text".to_owned());
        assert_eq!(text.slice_ref(&text[7..]).as_ptr(), text[7..].as_ptr());
    }

    #[test]
    fn bytes_that_are_not_utf8_do_not_become_text() {
        assert!(Text::try_from(Bytes::from_static(&[0xff])).is_err());
    }
}
