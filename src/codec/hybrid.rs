use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, JsonCodec, Owned, RkyvCodec, RkyvEncode};
use crate::{Error, Message};

/// JSON and rkyv on one connection: a text message is JSON, a binary one is rkyv.
///
/// Both are always understood. Which one is sent is the [`Policy`]'s to choose:
///
/// | constructor | sends |
/// |---|---|
/// | [`always`](HybridCodec::always) | one format, whatever comes in |
/// | [`mirror`](HybridCodec::mirror) | the format in which the peer's last valid message came; until there is one, a first choice |
/// | [`by_value`](HybridCodec::by_value) | what a function of each value says |
///
/// So one server serves a browser that speaks JSON and a native client that speaks rkyv, and neither is configured. Incoming
/// values are owned; for zero-copy views take [`RkyvCodec`].
///
/// # Errors
///
/// Those of [`JsonCodec`] for text, and of [`RkyvCodec`] for binary messages.
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
pub enum Format {
    /// JSON, in text messages.
    Json,
    /// rkyv archives, in binary messages.
    Rkyv,
}

/// Chooses the format of each value that a [`HybridCodec`] sends.
pub trait Policy<Out> {
    /// The format of this value.
    fn choose(&self, value: &Out) -> Format;

    /// Told of the format of each valid message that came in.
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
    /// The codec that always sends `format`.
    #[must_use]
    pub fn always(format: Format) -> HybridCodec<Out, In, Always> {
        HybridCodec::with(RkyvCodec::new(), Always(format))
    }

    /// The codec that answers in the peer's own format, and sends `first` until a valid message has come.
    #[must_use]
    pub fn mirror(first: Format) -> Self {
        Self::with(RkyvCodec::new(), Mirror { first, last: None })
    }

    /// The codec that asks `choose` for the format of each value.
    #[must_use]
    pub fn by_value<F>(choose: F) -> HybridCodec<Out, In, ByValue<F>>
    where
        F: Fn(&Out) -> Format,
    {
        HybridCodec::with(RkyvCodec::new(), ByValue(choose))
    }

    /// The codec that sends by a policy of your own.
    #[must_use]
    pub fn with_policy<P: Policy<Out>>(policy: P) -> HybridCodec<Out, In, P> {
        HybridCodec::with(RkyvCodec::new(), policy)
    }
}

impl<Out, In, P> HybridCodec<Out, In, P> {
    fn with(rkyv: RkyvCodec<Out, In>, policy: P) -> Self {
        Self { json: JsonCodec::new(), rkyv, policy }
    }

    /// The same with this codec for the binary messages: for its settings, or for its
    /// [`realigned`](RkyvCodec::realigned) count.
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

/// The first choice is kept; what one peer spoke says nothing about the next.
impl Clone for Mirror {
    fn clone(&self) -> Self {
        Self { first: self.first, last: None }
    }
}

impl<F> fmt::Debug for ByValue<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByValue").finish_non_exhaustive()
    }
}

/// A codec of its own for another connection: the policy is cloned, no buffer is shared.
impl<Out, In, P: Clone> Clone for HybridCodec<Out, In, P> {
    fn clone(&self) -> Self {
        Self::with(self.rkyv.clone(), self.policy.clone())
    }
}

impl<Out, In, P: fmt::Debug> fmt::Debug for HybridCodec<Out, In, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HybridCodec").field("policy", &self.policy).field("rkyv", &self.rkyv).finish_non_exhaustive()
    }
}
