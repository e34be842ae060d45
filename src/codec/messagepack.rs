use std::marker::PhantomData;

use rmp_serde::{Deserializer, Serializer, config::BytesMode, decode};
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, buffer::SerdeBuffer, serde_codec::serde_codec};
use crate::{Error, Message};

/// A codec for [MessagePack](https://msgpack.org). Outgoing messages are binary, and only binary messages are accepted.
///
/// `Out` is [`serde::Serialize`], `In` is [`DeserializeOwned`]. Structs are maps whose keys are the names of the
/// fields, so that either end may add an optional field later, and other languages read them by name.
/// [`compact`](Self::compact) makes them arrays. Both forms are accepted.
///
/// # Errors
///
/// Returns errors for which [`is_codec`](Error::is_codec) is true. Values nested deeper than
/// [`max_depth`](Self::max_depth), and bytes after the value, are errors. The source is the [`decode::Error`], unless
/// that error would quote the payload.
///
/// # Example
///
/// ```
/// use tower_transport::{Message, codec::{Codec, MessagePackCodec}};
///
/// let mut codec = MessagePackCodec::<(u32, String)>::new();
/// let message = codec.encode(&(7, "seven".to_owned()))?;
/// assert_eq!(message, Message::binary(b"\x92\x07\xa5seven".to_vec()));
/// assert_eq!(codec.decode(message)?, (7, "seven".to_owned()));
/// # Ok::<(), tower_transport::Error>(())
/// ```
pub struct MessagePackCodec<Out, In = Out> {
    buffer: SerdeBuffer,
    compact: bool,
    max_depth: usize,
    values: PhantomData<fn(Out) -> In>,
}

serde_codec!(MessagePackCodec { compact: false, max_depth: 128 });

impl<Out, In> MessagePackCodec<Out, In> {
    /// Sends structs as arrays, without the names of their fields. Defaults to maps.
    ///
    /// Such messages are smaller. Both ends must have the same fields in the same order.
    #[must_use]
    pub fn compact(mut self) -> Self {
        self.compact = true;
        self
    }

    /// Sets how deep an incoming value may be nested. Defaults to 128.
    ///
    /// Each level takes a few hundred bytes of the stack of the task that decodes.
    #[must_use]
    pub fn max_depth(mut self, max_depth: usize) -> Self {
        self.max_depth = max_depth;
        self
    }
}

impl<Out: Serialize, In: DeserializeOwned> Codec for MessagePackCodec<Out, In> {
    type Out = Out;
    type In = In;

    fn encode(&mut self, value: &Out) -> Result<Message, Error> {
        let compact = self.compact;
        let written = self.buffer.message(|to| {
            let serializer = Serializer::new(to).with_bytes(BytesMode::Normal);
            match compact {
                true => value.serialize(&mut serializer.with_struct_tuple()),
                false => value.serialize(&mut serializer.with_struct_map()),
            }
        });
        let written = written.map_err(|error| Error::codec("the value has no MessagePack form").with_source(error))?;
        Ok(Message::Binary(written))
    }

    fn decode(&mut self, message: Message) -> Result<In, Error> {
        let Message::Binary(bytes) = message else {
            return Err(Error::codec("MessagePack is sent in binary messages, and this one is text"));
        };
        let mut rest = &bytes[..];
        let mut deserializer = Deserializer::new(&mut rest);
        deserializer.set_max_depth(self.max_depth);
        let value = In::deserialize(&mut deserializer).map_err(refuse)?;
        match rest.len() {
            0 => Ok(value),
            left => Err(Error::codec(format!("{left} bytes follow the MessagePack value in its message"))),
        }
    }
}

fn refuse(error: decode::Error) -> Error {
    use decode::Error as E;

    let refusal = Error::codec("not the MessagePack that is expected");
    match error {
        // serde writes the unexpected value into these.
        E::Syntax(_) | E::Uncategorized(_) => refusal,
        error => refusal.with_source(error),
    }
}
