//! How an answer finds its request: [`Correlate`] on the calling side, [`Respond`] on the answering one. Pure.

/// How a [`Client`](super::Client) finds the call that an answer belongs to.
///
/// [`InOrder`] and [`ByTag`] are the two that come with the crate. Implement it to carry the tag wherever a protocol has
/// its place for it:
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
/// Its methods run under the client's lock: they must not block, and not call the client.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not correlate requests of `{Req}` with answers of `{Res}`",
    note = "`InOrder` and `ByTag` do; for a tag of your own protocol, implement `Correlate` for a type of yours"
)]
pub trait Correlate<Req, Res> {
    /// Whether answers come in the order of their requests. Then the answer of a dropped call is waited for and thrown
    /// away, and the call keeps its place among those in flight until then. If not, a dropped call is forgotten at once.
    const IN_ORDER: bool;

    /// What goes out to the transport for a request.
    type Out;

    /// What comes in from the transport for an answer.
    type In;

    /// Marks a request. A tag is used once in the life of a client, and rises from call to call; with `n` calls in flight
    /// at most, it grows by about `n` a call.
    fn request(&mut self, tag: u64, request: Req) -> Self::Out;

    /// Takes the mark off an answer. `None` in order, where it is not looked at; by tag, `None` is a message that
    /// answers nobody, which is counted and thrown away.
    fn answer(&mut self, message: Self::In) -> (Option<u64>, Res);
}

/// How a [`Server`](super::Server) takes requests out of messages and puts answers into them.
///
/// [`InOrder`] and [`ByTag`] are the two that come with the crate.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer requests of `{Req}` with `{Res}`",
    note = "`InOrder` and `ByTag` do; for a tag of your own protocol, implement `Respond` for a type of yours"
)]
pub trait Respond<Req, Res> {
    /// Whether answers must go out in the order of their requests, or as they finish.
    const IN_ORDER: bool;

    /// What comes in from the transport for a request.
    type In;

    /// What goes out to the transport for an answer.
    type Out;

    /// What is kept of a request for its answer.
    type Tag;

    /// Takes the mark off a request.
    fn request(&mut self, message: Self::In) -> (Self::Tag, Req);

    /// Marks an answer.
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

/// A request or an answer, and the tag that says which belong together. What [`ByTag`] sends.
///
/// With the features `json` and `rkyv` it can be what a codec carries, wherever its value can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "json", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "rkyv", derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize))]
pub struct Tagged<T> {
    /// Chosen by the client, given back by the server.
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
