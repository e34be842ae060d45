use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, buffer::SerdeBuffer, serde_codec::serde_codec};
use crate::{Error, Message, Text};

/// A codec for JSON. Outgoing messages are text; incoming text and binary messages are accepted.
///
/// `Out` is [`serde::Serialize`], `In` is [`DeserializeOwned`].
///
/// # Errors
///
/// Returns errors for which [`is_codec`](Error::is_codec) is true. A decoding error names the line and column. Its
/// source is the [`serde_json::Error`], unless that error would quote the payload: for a value of the wrong type or
/// content ("invalid type: string \"...\""), only the position is reported.
///
/// # Example
///
/// ```
/// use tower_transport::{Message, codec::{Codec, JsonCodec}};
///
/// let mut codec = JsonCodec::<(u32, String)>::new();
/// let message = codec.encode(&(7, "seven".to_owned()))?;
/// assert_eq!(message, Message::text(r#"[7,"seven"]"#));
/// assert_eq!(codec.decode(message)?, (7, "seven".to_owned()));
///
/// let error = codec.decode(Message::text("[7,")).unwrap_err();
/// assert_eq!(error.to_string(), "not the JSON that is expected, at line 1 column 3");
/// # Ok::<(), tower_transport::Error>(())
/// ```
pub struct JsonCodec<Out, In = Out> {
    buffer: SerdeBuffer,
    values: PhantomData<fn(Out) -> In>,
}

serde_codec!(JsonCodec {});

impl<Out: Serialize, In: DeserializeOwned> Codec for JsonCodec<Out, In> {
    type Out = Out;
    type In = In;

    fn encode(&mut self, value: &Out) -> Result<Message, Error> {
        let json = self.buffer.message(|to| serde_json::to_writer(to, value));
        let json = json.map_err(|error| Error::codec("the value has no JSON form").with_source(error))?;
        Ok(Message::Text(text(json)?))
    }

    fn decode(&mut self, message: Message) -> Result<In, Error> {
        // Text is known to be UTF-8. Parsing it as `str` avoids validating its strings a second time.
        let value = match &message {
            Message::Text(text) => serde_json::from_str(text),
            _ => serde_json::from_slice(message.as_bytes()),
        };
        value.map_err(refuse)
    }
}

/// Finished JSON is UTF-8. Validating it again costs a hundredth of writing it, and avoids an `unsafe`.
fn text(json: bytes::Bytes) -> Result<Text, Error> {
    Text::try_from(json).map_err(|error| Error::codec("a raw JSON value is not UTF-8").with_source(error))
}

fn refuse(error: serde_json::Error) -> Error {
    let place = (error.line(), error.column());
    let refusal = Error::codec(format!("not the JSON that is expected, at line {} column {}", place.0, place.1));
    if quotes_payload(&error) { refusal } else { refusal.with_source(error) }
}

/// Returns whether the error quotes the payload. Data errors do, except those that name a field of the type or a
/// length.
fn quotes_payload(error: &serde_json::Error) -> bool {
    const HARMLESS: [&str; 3] = ["missing field `", "duplicate field `", "invalid length "];
    error.is_data() && !HARMLESS.iter().any(|start| error.to_string().starts_with(start))
}
