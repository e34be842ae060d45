use std::fmt::Write;

use bytes::{BufMut, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use crate::{Error, Message, Text};

/// The maximum size of the header of a message, in bytes.
const MAX_HEADER: usize = 4 * 1024;

/// The framing of LSP and of similar protocols over a byte stream: each message has a header with its length, as in
/// HTTP.
///
/// It is a codec for [`tokio_util::codec::Framed`], which makes a transport for [`JsonRpc`](super::JsonRpc) of a socket,
/// a pipe or the two ends of a child process ([`tokio::io::join`]).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use serde_json::json;
/// use tokio_util::codec::Framed;
/// use tower::{ServiceExt, service_fn};
/// use tower_transport::service::peer::{
///     JsonRpc, PeerBuilder,
///     json_rpc::{ContentLength, JsonRpcError, JsonRpcRequest},
///     unary,
/// };
///
/// let (editor, server) = tokio::io::duplex(1024); // in production a socket, or stdin and stdout
/// let methods = service_fn(async |request: JsonRpcRequest| match request.method.as_str() {
///     "initialize" => Ok(json!({ "capabilities": {} })),
///     method => Err(JsonRpcError::method_not_found(method)),
/// });
/// // LSP cancels a call by a notification.
/// let protocol = || JsonRpc::new().cancel_method("$/cancelRequest");
///
/// let (caller, peer) = PeerBuilder::new(protocol()).build(Framed::new(editor, ContentLength::new()), unary(methods));
/// tokio::spawn(peer);
/// tokio::spawn(PeerBuilder::new(protocol()).build(Framed::new(server, ContentLength::new()), unary(methods)).1);
///
/// let answer = caller.oneshot(JsonRpcRequest::new("initialize", json!({}))).await.unwrap();
/// assert_eq!(answer, json!({ "capabilities": {} }));
/// # });
/// ```
///
/// # Errors
///
/// An incoming message returns an error for which [`is_too_large`](Error::is_too_large) is true if it exceeds
/// [`max_message`](Self::max_message), and one for which [`is_protocol`](Error::is_protocol) is true if its header has
/// no length, is over 4 KiB, or if the message is not UTF-8. The stream cannot be read any further then. An outgoing
/// message over the limit is [refused](Error::is_rejection), and the stream goes on.
///
/// Only data messages are written: the framing has no pings and no close frames. The end of the byte stream ends the
/// transport.
///
/// # Memory
///
/// A message is kept until it is complete, so a connection holds at most its limit and what `Framed` reads ahead. No
/// memory is reserved for a length that was only announced. Backpressure and cancel safety are those of `Framed`.
#[derive(Clone, Debug)]
pub struct ContentLength {
    max_message: usize,
    /// The length of the message whose header was read.
    length: Option<usize>,
    /// The number of bytes in which no end of a header was found.
    searched: usize,
}

impl ContentLength {
    /// Creates the codec for messages of at most 4 MiB.
    #[must_use]
    pub fn new() -> Self {
        Self { max_message: 4 << 20, length: None, searched: 0 }
    }

    /// Sets the maximum size of a message in either direction, in bytes, without its header. Defaults to 4 MiB.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Takes the header of the next message, once it is complete. Returns the length of the message.
    fn take_header(&mut self, bytes: &mut BytesMut) -> Result<Option<usize>, Error> {
        const END: &[u8] = b"\r\n\r\n";

        // The end may be cut.
        let start = self.searched.saturating_sub(END.len() - 1);
        let found = bytes[start..].windows(END.len()).position(|window| window == END);
        let end = found.map_or(bytes.len(), |at| start + at + END.len());
        if end > MAX_HEADER {
            return Err(Error::protocol(format!("the header of a message is over {MAX_HEADER} bytes")));
        }
        if found.is_none() {
            self.searched = bytes.len();
            return Ok(None);
        }
        self.searched = 0;
        let header = bytes.split_to(end);
        let length = length(&header).ok_or_else(|| {
            Error::protocol("the header of a message has no valid `Content-Length`: is this LSP's framing?")
        })?;
        if length > self.max_message {
            let max = self.max_message;
            return Err(Error::too_large(format!(
                "an incoming message of {length} bytes is over the limit of {max} (ContentLength::max_message)"
            )));
        }
        Ok(Some(length))
    }
}

impl Default for ContentLength {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the value of the field `Content-Length`, or `None` if there is no valid one, or if two differ (RFC 9110,
/// section 8.6).
fn length(header: &[u8]) -> Option<usize> {
    let mut found = None;
    for line in str::from_utf8(header).ok()?.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        if name.trim().eq_ignore_ascii_case("content-length") {
            let value = value.trim();
            // `parse` accepts a sign.
            let length = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())??;
            if found.replace(length).is_some_and(|before| before != length) {
                return None;
            }
        }
    }
    found
}

impl Decoder for ContentLength {
    type Item = Message;
    type Error = Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Message>, Error> {
        let length = match self.length {
            Some(length) => length,
            None => match self.take_header(bytes)? {
                Some(length) => *self.length.insert(length),
                None => return Ok(None),
            },
        };
        // No memory is reserved for a length that the peer has only announced.
        if bytes.len() < length {
            return Ok(None);
        }
        self.length = None;
        let text = Text::try_from(bytes.split_to(length).freeze())
            .map_err(|error| Error::protocol("an incoming message is not UTF-8").with_source(error))?;
        Ok(Some(Message::Text(text)))
    }
}

impl Encoder<Message> for ContentLength {
    type Error = Error;

    fn encode(&mut self, message: Message, bytes: &mut BytesMut) -> Result<(), Error> {
        let (Message::Text(_) | Message::Binary(_)) = &message else { return Ok(()) };
        let (length, max) = (message.len(), self.max_message);
        if length > max {
            return Err(Error::too_large(format!(
                "an outgoing message of {length} bytes is over the limit of {max} (ContentLength::max_message)"
            ))
            .into_rejection());
        }
        // Writing into a `BytesMut` does not fail.
        let _ = write!(bytes, "Content-Length: {length}\r\n\r\n");
        bytes.put_slice(message.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(codec: &mut ContentLength, bytes: &mut BytesMut) -> Vec<String> {
        let mut messages = Vec::new();
        while let Some(message) = codec.decode(bytes).unwrap() {
            messages.push(message.as_text().unwrap().to_owned());
        }
        messages
    }

    proptest! {
        #[test]
        fn messages_arrive_as_they_were_sent_wherever_the_stream_is_cut(
            messages in prop::collection::vec(".{0,40}", 0..8),
            cuts in prop::collection::vec(1..30usize, 1..8),
        ) {
            let mut stream = BytesMut::new();
            for message in &messages {
                ContentLength::new().encode(Message::text(message.clone()), &mut stream).unwrap();
            }
            let (mut codec, mut bytes, mut arrived) = (ContentLength::new(), BytesMut::new(), Vec::new());
            for cut in cuts.iter().cycle() {
                let part = stream.split_to(stream.len().min(*cut));
                bytes.extend_from_slice(&part);
                arrived.extend(decode(&mut codec, &mut bytes));
                if stream.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(arrived, messages);
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn any_bytes_are_messages_or_an_error(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = BytesMut::from(&input[..]);
            let mut codec = ContentLength::new();
            while let Ok(Some(_)) = codec.decode(&mut bytes) {}
        }
    }

    fn error(header: &str) -> Error {
        ContentLength::new().max_message(100).decode(&mut BytesMut::from(header)).unwrap_err()
    }

    #[test]
    fn other_fields_are_passed_over_and_names_have_no_case() {
        let message = "content-type: application/vscode-jsonrpc; charset=utf-8\r\nCONTENT-LENGTH: 2\r\n\r\n{}";
        assert_eq!(decode(&mut ContentLength::new(), &mut BytesMut::from(message)), ["{}"]);
    }

    #[test]
    fn a_header_without_one_valid_length_is_an_error() {
        for header in
            ["X: 1", "Content-Length: +1", "Content-Length: ", "Content-Length: 1\r\nContent-Length: 2", "GET /"]
        {
            assert!(error(&format!("{header}\r\n\r\n")).is_protocol(), "{header}");
        }
        assert!(error("Content-Length: 99999999999999999999\r\n\r\n").is_protocol());
        assert!(error("Content-Length: 101\r\n\r\n").is_too_large());
        assert!(error(&"x".repeat(MAX_HEADER + 1)).is_protocol());
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut bytes = BytesMut::from("Content-Length: 4000000\r\n\r\n{");
        assert_eq!(ContentLength::new().decode(&mut bytes).unwrap(), None);
        assert!(bytes.capacity() < 1000);
    }

    #[test]
    fn what_is_over_the_limit_is_refused_and_the_stream_goes_on() {
        let (mut codec, mut bytes) = (ContentLength::new().max_message(5), BytesMut::new());
        let error = codec.encode(Message::text("123456"), &mut bytes).unwrap_err();
        assert!(error.is_too_large() && error.is_rejection() && bytes.is_empty());
        codec.encode(Message::text("12345"), &mut bytes).unwrap();
        assert_eq!(decode(&mut codec, &mut bytes), ["12345"]);
    }

    #[test]
    fn pings_are_not_written() {
        let mut bytes = BytesMut::new();
        ContentLength::new().encode(Message::Ping("".into()), &mut bytes).unwrap();
        assert!(bytes.is_empty());
    }
}
