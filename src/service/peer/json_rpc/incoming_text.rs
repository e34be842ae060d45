//! A message of the other end: one entry, or a batch of them. Pure.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer,
};
use serde_json::Value;

/// A message as it was read.
#[derive(Debug)]
pub(super) enum IncomingText {
    Entry(Value),
    Batch(Vec<Value>),
    /// A batch of more entries than are allowed, which are not kept.
    LongBatch,
}

/// Reads a message. The entries of a batch over the limit are skipped, so they cost no memory.
pub(super) fn read(text: &[u8], max_batch: usize) -> Result<IncomingText, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let message = Reader { max_batch }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(message)
}

struct Reader {
    max_batch: usize,
}

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = IncomingText;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<IncomingText, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A value that is neither an object nor an array is refused later, whatever it is.
const NO_REQUEST: IncomingText = IncomingText::Entry(Value::Null);

impl<'de> Visitor<'de> for Reader {
    type Value = IncomingText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request, an answer, or a batch of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IncomingText, A::Error> {
        serde::Deserialize::deserialize(MapAccessDeserializer::new(map)).map(IncomingText::Entry)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<IncomingText, A::Error> {
        let mut batch = Vec::new();
        while batch.len() < self.max_batch {
            match entries.next_element()? {
                Some(entry) => batch.push(entry),
                None => return Ok(IncomingText::Batch(batch)),
            }
        }
        if entries.next_element::<IgnoredAny>()?.is_none() {
            return Ok(IncomingText::Batch(batch));
        }
        drop(batch);
        while entries.next_element::<IgnoredAny>()?.is_some() {}
        Ok(IncomingText::LongBatch)
    }

    fn visit_bool<E>(self, _: bool) -> Result<IncomingText, E> {
        Ok(NO_REQUEST)
    }

    fn visit_i64<E>(self, _: i64) -> Result<IncomingText, E> {
        Ok(NO_REQUEST)
    }

    fn visit_u64<E>(self, _: u64) -> Result<IncomingText, E> {
        Ok(NO_REQUEST)
    }

    fn visit_f64<E>(self, _: f64) -> Result<IncomingText, E> {
        Ok(NO_REQUEST)
    }

    fn visit_str<E>(self, _: &str) -> Result<IncomingText, E> {
        Ok(NO_REQUEST)
    }

    fn visit_unit<E>(self) -> Result<IncomingText, E> {
        Ok(NO_REQUEST)
    }
}
