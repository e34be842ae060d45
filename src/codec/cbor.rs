use std::marker::PhantomData;

use ciborium::de;
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, buffer::SerdeBuffer, serde_codec::serde_codec};
use crate::{Error, Message};

/// A codec for CBOR ([RFC 8949](https://www.rfc-editor.org/rfc/rfc8949)). Outgoing messages are binary, and only binary
/// messages are accepted.
///
/// `Out` is [`serde::Serialize`], `In` is [`DeserializeOwned`]. Structs are maps whose keys are the names of the
/// fields.
///
/// # Errors
///
/// Returns errors for which [`is_codec`](Error::is_codec) is true. Values nested deeper than
/// [`max_depth`](Self::max_depth), and bytes after the value, are errors. A decoding error names the position if it is
/// known. Its source is ciborium's error, unless that error would quote the payload.
///
/// # Example
///
/// ```
/// use tower_transport::{Message, codec::{Codec, CborCodec}};
///
/// let mut codec = CborCodec::<(u32, String)>::new();
/// let message = codec.encode(&(7, "seven".to_owned()))?;
/// assert_eq!(message, Message::binary(b"\x82\x07\x65seven".to_vec()));
/// assert_eq!(codec.decode(message)?, (7, "seven".to_owned()));
/// # Ok::<(), tower_transport::Error>(())
/// ```
pub struct CborCodec<Out, In = Out> {
    buffer: SerdeBuffer,
    max_depth: usize,
    values: PhantomData<fn(Out) -> In>,
}

serde_codec!(CborCodec { max_depth: 128 });

impl<Out, In> CborCodec<Out, In> {
    /// Sets how deep an incoming value may be nested. Defaults to 128.
    ///
    /// Each level takes a few hundred bytes of the stack of the task that decodes.
    #[must_use]
    pub fn max_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth;
        self
    }
}

impl<Out: Serialize, In: DeserializeOwned> Codec for CborCodec<Out, In> {
    type Out = Out;
    type In = In;

    fn encode(&mut self, value: &Out) -> Result<Message, Error> {
        let written = self.buffer.message(|to| ciborium::into_writer(value, to));
        let written = written.map_err(|error| Error::codec("the value has no CBOR form").with_source(error))?;
        Ok(Message::Binary(written))
    }

    fn decode(&mut self, message: Message) -> Result<In, Error> {
        let Message::Binary(bytes) = message else {
            return Err(Error::codec("CBOR is sent in binary messages, and this one is text"));
        };
        let mut rest = &bytes[..];
        let value = de::from_reader_with_recursion_limit(&mut rest, self.max_depth).map_err(refuse)?;
        match rest.len() {
            0 => Ok(value),
            left => Err(Error::codec(format!("{left} bytes follow the CBOR value in its message"))),
        }
    }
}

fn refuse(error: de::Error<std::io::Error>) -> Error {
    let place = match &error {
        de::Error::Syntax(at) | de::Error::Semantic(Some(at), _) => format!(", at byte {at}"),
        _ => String::new(),
    };
    let refusal = Error::codec(format!("not the CBOR that is expected{place}"));
    match error {
        // serde writes the unexpected value into it.
        de::Error::Semantic(..) => refusal,
        error => refusal.with_source(error),
    }
}
