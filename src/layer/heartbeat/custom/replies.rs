/// No answers to the peer's pings: the default of [`CustomHeartbeatLayer`](super::CustomHeartbeatLayer).
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReplies;

/// The answers to the peer's pings: a function, or [`NoReplies`].
pub trait Replies<In, Out> {
    /// Returns the answer, if `message` is a ping.
    fn reply(&mut self, message: &In) -> Option<Out>;
}

impl<In, Out> Replies<In, Out> for NoReplies {
    #[inline]
    fn reply(&mut self, _: &In) -> Option<Out> {
        None
    }
}

impl<In, Out, F: FnMut(&In) -> Option<Out>> Replies<In, Out> for F {
    #[inline]
    fn reply(&mut self, message: &In) -> Option<Out> {
        self(message)
    }
}
