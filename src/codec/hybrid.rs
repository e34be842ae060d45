use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, JsonCodec, Owned, RkyvCodec, RkyvEncode};
use crate::{Error, Message};

/// A codec for JSON and rkyv on one connection: text messages are JSON, binary messages are rkyv archives.
///
/// Both formats are always accepted. The [`Policy`] chooses the format of outgoing values:
///
/// | constructor | sends |
/// |---|---|
/// | [`always`](HybridCodec::always) | one fixed format |
/// | [`mirror`](HybridCodec::mirror) | the format of the peer's last valid message; a first choice until one arrives |
/// | [`by_value`](HybridCodec::by_value) | the format that a function returns for each value |
///
/// One server can therefore serve a browser that speaks JSON and a native client that speaks rkyv without configuring
/// either. Incoming values are owned; for zero-copy views use [`RkyvCodec`].
///
/// # Errors
///
/// Returns the errors of [`JsonCodec`] for text messages, and those of [`RkyvCodec`] for binary messages.
///
/// # Example
///
/// ```
/// use tower_transport::{Message, codec::{Codec, Format, HybridCodec}};
///
/// let mut codec = HybridCodec::<u32>::mirror(Format::Rkyv);
/// assert!(matches!(codec.encode(&1)?, Message::Binary(_)));
///
/// assert_eq!(codec.decode(Message::text("2"))?, 2);
/// assert_eq!(codec.encode(&3)?, Message::text("3")); // the peer speaks JSON, as it seems
/// # Ok::<(), tower_transport::Error>(())
/// ```
pub struct HybridCodec<Out, In = Out, P = Mirror> {
    json: JsonCodec<Out, In>,
    rkyv: RkyvCodec<Out, In>,
    policy: P,
}

/// One of the two formats of a [`HybridCodec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JSON, in text messages.
    Json,
    /// rkyv archives, in binary messages.
    Rkyv,
}

/// Chooses the format of each value that a [`HybridCodec`] sends.
pub trait Policy<Out> {
    /// Returns the format for this value.
    fn choose(&self, value: &Out) -> Format;

    /// Records the format of each valid incoming message.
    fn received(&mut self, format: Format) {
        let _ = format;
    }
}

/// The policy of [`HybridCodec::always`].
#[derive(Clone, Copy, Debug)]
pub struct Always(Format);

/// The policy of [`HybridCodec::mirror`].
#[derive(Debug)]
pub struct Mirror {
    first: Format,
    last: Option<Format>,
}

/// The policy of [`HybridCodec::by_value`].
#[derive(Clone, Copy)]
pub struct ByValue<F>(F);

impl<Out, In> HybridCodec<Out, In> {
    /// Creates a codec that always sends `format`.
    #[must_use]
    pub fn always(format: Format) -> HybridCodec<Out, In, Always> {
        HybridCodec::with(RkyvCodec::new(), Always(format))
    }

    /// Creates a codec that answers in the peer's own format. It sends `first` until a valid message has arrived.
    #[must_use]
    pub fn mirror(first: Format) -> Self {
        Self::with(RkyvCodec::new(), Mirror { first, last: None })
    }

    /// Creates a codec that calls `choose` for the format of each value.
    #[must_use]
    pub fn by_value<F>(choose: F) -> HybridCodec<Out, In, ByValue<F>>
    where
        F: Fn(&Out) -> Format,
    {
        HybridCodec::with(RkyvCodec::new(), ByValue(choose))
    }

    /// Creates a codec with a custom policy.
    #[must_use]
    pub fn with_policy<P: Policy<Out>>(policy: P) -> HybridCodec<Out, In, P> {
        HybridCodec::with(RkyvCodec::new(), policy)
    }
}

impl<Out, In, P> HybridCodec<Out, In, P> {
    fn with(rkyv: RkyvCodec<Out, In>, policy: P) -> Self {
        Self { json: JsonCodec::new(), rkyv, policy }
    }

    /// Sets the codec for binary messages, for its settings or its [`realigned`](RkyvCodec::realigned) count.
    #[must_use]
    pub fn rkyv(mut self, rkyv: RkyvCodec<Out, In>) -> Self {
        self.rkyv = rkyv;
        self
    }
}

impl<Out, In, P> Codec for HybridCodec<Out, In, P>
where
    Out: Serialize + RkyvEncode,
    In: DeserializeOwned + Owned,
    P: Policy<Out>,
{
    type Out = Out;
    type In = In;

    fn encode(&mut self, value: &Out) -> Result<Message, Error> {
        match self.policy.choose(value) {
            Format::Json => self.json.encode(value),
            Format::Rkyv => self.rkyv.encode(value),
        }
    }

    fn decode(&mut self, message: Message) -> Result<In, Error> {
        let (format, value) = match message {
            Message::Text(_) => (Format::Json, self.json.decode(message)?),
            _ => (Format::Rkyv, self.rkyv.decode(message)?),
        };
        self.policy.received(format);
        Ok(value)
    }
}

impl<Out> Policy<Out> for Always {
    fn choose(&self, _: &Out) -> Format {
        self.0
    }
}

impl<Out> Policy<Out> for Mirror {
    fn choose(&self, _: &Out) -> Format {
        self.last.unwrap_or(self.first)
    }

    fn received(&mut self, format: Format) {
        self.last = Some(format);
    }
}

impl<Out, F: Fn(&Out) -> Format> Policy<Out> for ByValue<F> {
    fn choose(&self, value: &Out) -> Format {
        (self.0)(value)
    }
}

/// Keeps the first choice. The format of one peer says nothing about the next one.
impl Clone for Mirror {
    fn clone(&self) -> Self {
        Self { first: self.first, last: None }
    }
}

debug_fields!([F] ByValue<F> {});

/// Returns a codec for another connection. The policy is cloned; buffers are not shared.
impl<Out, In, P: Clone> Clone for HybridCodec<Out, In, P> {
    fn clone(&self) -> Self {
        Self::with(self.rkyv.clone(), self.policy.clone())
    }
}

debug_fields!([Out, In, P: fmt::Debug] HybridCodec<Out, In, P> { policy, rkyv });
