//! How an answer finds its request: [`Correlate`] on the calling side, [`Respond`] on the answering side. Pure.

/// Determines how a [`Client`](super::Client) finds the call that an answer belongs to.
///
/// The crate provides [`InOrder`] and [`ByTag`]. Implement the trait to carry the tag where your protocol has a place
/// for it:
///
/// ```
/// use tower_transport::service::Correlate;
///
/// struct Rpc { id: u64, method: &'static str }
/// struct Outcome { id: Option<u64>, result: i32 }
///
/// struct ById;
///
/// impl Correlate<&'static str, i32> for ById {
///     const IN_ORDER: bool = false;
///     type Out = Rpc;
///     type In = Outcome;
///
///     fn request(&mut self, tag: u64, method: &'static str) -> Rpc {
///         Rpc { id: tag, method }
///     }
///
///     fn answer(&mut self, outcome: Outcome) -> (Option<u64>, i32) {
///         (outcome.id, outcome.result)
///     }
/// }
/// ```
///
/// Its methods run within a poll of one call for all of them, so they must not block. They may use the client.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not correlate requests of `{Req}` with answers of `{Res}`",
    note = "`InOrder` and `ByTag` do; for a tag of your own protocol, implement `Correlate` for your own type"
)]
pub trait Correlate<Req, Res> {
    /// Whether answers come in the order of their requests. If true, the answer of a dropped call is awaited and
    /// discarded, and the call keeps its place in flight until then. If false, a dropped call is forgotten at once.
    const IN_ORDER: bool;

    /// The message that is sent for a request.
    type Out;

    /// The message that is received for an answer.
    type In;

    /// Adds the tag to a request. A tag is used once in the life of a client, and increases from call to call. With at
    /// most `n` calls in flight, it grows by about `n` for each call.
    fn request(&mut self, tag: u64, request: Req) -> Self::Out;

    /// Takes the tag off an answer. In order, the tag is ignored and may be `None`. By tag, `None` means that the
    /// message answers no call; it is counted and discarded.
    fn answer(&mut self, message: Self::In) -> (Option<u64>, Res);
}

/// Determines how a [`Server`](super::Server) takes requests out of messages and puts answers into them.
///
/// The crate provides [`InOrder`] and [`ByTag`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer requests of `{Req}` with `{Res}`",
    note = "`InOrder` and `ByTag` do; for a tag of your own protocol, implement `Respond` for your own type"
)]
pub trait Respond<Req, Res> {
    /// Whether answers must be sent in the order of their requests, or as they finish.
    const IN_ORDER: bool;

    /// The message that is received for a request.
    type In;

    /// The message that is sent for an answer.
    type Out;

    /// The part of a request that is kept for its answer.
    type Tag;

    /// Takes the tag off a request.
    fn request(&mut self, message: Self::In) -> (Self::Tag, Req);

    /// Adds the tag to an answer.
    fn answer(&mut self, tag: Self::Tag, answer: Res) -> Self::Out;
}

/// Answers come in the order of their requests; nothing is added to a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InOrder;

impl<Req, Res> Correlate<Req, Res> for InOrder {
    const IN_ORDER: bool = true;
    type Out = Req;
    type In = Res;

    fn request(&mut self, _: u64, request: Req) -> Req {
        request
    }

    fn answer(&mut self, message: Res) -> (Option<u64>, Res) {
        (None, message)
    }
}

impl<Req, Res> Respond<Req, Res> for InOrder {
    const IN_ORDER: bool = true;
    type In = Req;
    type Out = Res;
    type Tag = ();

    fn request(&mut self, message: Req) -> ((), Req) {
        ((), message)
    }

    fn answer(&mut self, (): (), answer: Res) -> Res {
        answer
    }
}

/// Requests and answers travel as [`Tagged`] values; answers come in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByTag;

impl<Req, Res> Correlate<Req, Res> for ByTag {
    const IN_ORDER: bool = false;
    type Out = Tagged<Req>;
    type In = Tagged<Res>;

    fn request(&mut self, tag: u64, value: Req) -> Tagged<Req> {
        Tagged { tag, value }
    }

    fn answer(&mut self, message: Tagged<Res>) -> (Option<u64>, Res) {
        (Some(message.tag), message.value)
    }
}

impl<Req, Res> Respond<Req, Res> for ByTag {
    const IN_ORDER: bool = false;
    type In = Tagged<Req>;
    type Out = Tagged<Res>;
    type Tag = u64;

    fn request(&mut self, message: Tagged<Req>) -> (u64, Req) {
        (message.tag, message.value)
    }

    fn answer(&mut self, tag: u64, value: Res) -> Tagged<Res> {
        Tagged { tag, value }
    }
}

/// A request or an answer, with the tag that connects them. [`ByTag`] sends these values.
///
/// With the features `json` and `rkyv`, a codec can carry it wherever the codec can carry its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Tagged<T> {
    /// The tag, chosen by the client and returned by the server.
    pub tag: u64,
    /// The request or the answer.
    pub value: T,
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "json")]
    #[test]
    fn a_tagged_value_travels_as_json() {
        let value = super::Tagged { tag: 7, value: "seven".to_owned() };
        let text = serde_json::to_string(&value).unwrap();
        assert_eq!(text, r#"{"tag":7,"value":"seven"}"#);
        assert_eq!(serde_json::from_str::<super::Tagged<String>>(&text).unwrap(), value);
    }

    #[cfg(feature = "rkyv")]
    #[test]
    fn a_tagged_value_travels_as_an_archive() {
        let value = super::Tagged { tag: 7, value: "seven".to_owned() };
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&value).unwrap();
        let archived = rkyv::access::<super::ArchivedTagged<String>, rkyv::rancor::Error>(&bytes).unwrap();
        assert_eq!((archived.tag.to_native(), archived.value.as_str()), (7, "seven"));
    }
}
