use std::{
    fmt,
    num::NonZeroUsize,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{
    correlate::{ByTag, Correlate, InOrder, Tagged},
    future::{Call, Drive},
    shared::{Readiness, Shared, Stage},
    state::State,
};
use crate::{Error, Transport};

/// How many calls may be in flight, if nothing else is said.
const IN_FLIGHT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// A transport as a cloneable `Service<Req, Response = Res>`: a call sends its request and waits for the answer.
///
/// All clones share the one transport. There is no task behind them and no channel between them: whichever call is polled
/// writes its request, and one of those that wait reads for all, hands each answer to its call and passes the lead on when
/// it is done. Nothing is allocated per call.
///
/// # Where it waits
///
/// `poll_ready` is pending while as many calls are in flight as the client allows (1024, or what
/// [`with_max_in_flight`](Self::with_max_in_flight) says), and reserves a place for one call when it is ready. Places are given in the order in which they were asked
/// for. A clone starts without a place; one that is reserved and not used is given back when its handle is dropped. So do
/// not keep a ready handle that has nothing to call.
///
/// The call's future waits for the transport to take the request, then for the answer.
///
/// # Flushing
///
/// A call that is alone flushes at once. While others are in flight, the first to write asks to be polled again and
/// flushes then, for all who have written by that time.
///
/// # Errors
///
/// Each call ends. [`Error::may_have_been_executed`] says of one that failed whether its request may have reached the peer; where it
/// is `false`, calling again cannot do it twice.
///
/// | what happens | calls whose request was sent | calls that wait to be sent | later calls |
/// |---|---|---|---|
/// | the transport ends or fails | fail with the cause | fail with the cause, as not executed | fail |
/// | a transport that reconnects loses its connection, by tag | fail: [`is_closed`](Error::is_closed), [`is_rejection`](Error::is_rejection) | are sent on the next connection | work |
/// | the same, in order, with calls in flight | fail with [`is_closed`](Error::is_closed) | fail, as not executed | fail |
/// | the transport rejects a request (too large, not to be encoded) | that call alone fails, as not executed | - | work |
/// | an answer cannot be read, in order | its call alone fails | - | work |
/// | an answer cannot be read, or a layer with a queue rejects a request late, by tag | all fail, since nobody knows whose it is | - | work |
/// | a layer with a queue rejects a request late, in order | fail | fail, as not executed | fail |
///
/// A call without a place (without a `poll_ready` that was ready) fails alone.
///
/// # Over a transport that reconnects
///
/// By tag, a client goes on across connections, whatever [`WhenLost`](crate::layer::reconnect::WhenLost) says. A request that was kept
/// and is sent again may still be executed and answered: its call has failed by then, and the answer is counted in
/// [`unknown_answers`](Self::unknown_answers). A resumed session without a loss fails no call. In order, an answer is known by its place
/// alone, and an answer to a request that was sent again would be given to another call; so a loss with calls in flight ends the client.
/// Use a [`Pool`](crate::stack::pool::Pool) for answers in order: it makes a new client for each connection.
///
/// # Cancel safety
///
/// A dropped call is forgotten. Before the transport has taken the request, the request is withdrawn. After that the
/// peer will answer it: in order, the answer is thrown away when it comes, and the call keeps its place in flight until
/// then; by tag, the place is free at once, and the late answer is counted in [`unknown_answers`](Self::unknown_answers)
/// (tags are never used again). A request that was taken but not flushed goes out with the next flush.
///
/// # Keep polling, or drive
///
/// A call that reads for all must be polled when it is woken, as every task does by itself. A future that is kept but not polled (in
/// one arm of a `select!` that is left for a while) can hold up the answers of others, until any other call is polled.
/// [`drive`](Self::drive) takes the reading away from the calls; it also sees the end of the transport, and answers
/// pings, while nobody calls.
///
/// # Example
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tower::{Service, ServiceExt};
/// use tower_transport::{TransportExt, channel, service::Client};
///
/// let (here, mut there) = channel::<u32, u32>(8);
/// tokio::spawn(async move {
///     while let Some(Ok(number)) = there.receive_message().await {
///         there.send_message(number * number).await.unwrap();
///     }
/// });
///
/// let mut client = Client::in_order(here);
/// let other = client.clone();
/// assert_eq!(client.ready().await?.call(7).await?, 49);
/// assert_eq!(other.oneshot(9).await?, 81);
/// # Ok::<(), tower_transport::Error>(()) }).unwrap();
/// ```
pub struct Client<T, Req, Res, C = InOrder> {
    shared: Arc<Shared<T, Req, Res, C>>,
    readiness: Readiness,
}

impl<T, Req, Res> Client<T, Req, Res>
where
    T: Transport<Req, In = Res>,
{
    /// A client whose answers come in the order of their requests.
    pub fn in_order(transport: T) -> Self {
        Self::new(transport, InOrder)
    }
}

impl<T, Req, Res> Client<T, Req, Res, ByTag>
where
    T: Transport<Tagged<Req>, In = Tagged<Res>>,
{
    /// A client whose requests and answers carry a tag, so that answers may come in any order.
    pub fn by_tag(transport: T) -> Self {
        Self::new(transport, ByTag)
    }
}

impl<T, Req, Res, C> Client<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    /// A client with a correlation of your own.
    pub fn new(transport: T, correlate: C) -> Self {
        Self::with_max_in_flight(transport, correlate, IN_FLIGHT)
    }

    /// A client with a correlation of your own, and at most `limit` calls in flight. Memory for them is taken as they come.
    pub fn with_max_in_flight(transport: T, correlate: C, limit: NonZeroUsize) -> Self {
        let state = State::new(transport, correlate, C::IN_ORDER, limit.get());
        Self { shared: Arc::new(Shared::new(state)), readiness: Readiness::Unready }
    }

    /// A future that reads for all calls, whether or not any are waiting. Spawn it, or leave it: calls work without.
    ///
    /// One wants it to see the end of the transport while nobody calls (it resolves then), to have pings answered and
    /// heartbeats sent all the time, and where futures of calls are kept without being polled. It costs a hop from task to task
    /// per batch of answers.
    ///
    /// It resolves with `Ok` when the peer has closed the transport, or when every handle and call is gone: then it has
    /// closed the transport itself. Without a driver, the transport is dropped with the last of them.
    ///
    /// # Errors
    ///
    /// The future resolves with the cause when the transport fails.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the reading to the calls again.
    pub fn drive(&self) -> Drive<T, Req, Res, C> {
        Drive::new(self.shared.clone())
    }
}

impl<T, Req, Res, C> Client<T, Req, Res, C> {
    /// How many answers came that no call was waiting for: late ones, with the tag of a call that was dropped, and those
    /// that nobody ever asked for.
    #[must_use]
    pub fn unknown_answers(&self) -> u64 {
        self.shared.lock().unknown
    }

    /// How many calls wait for their answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.lock().calls.waiting()
    }
}

impl<T, Req, Res, C> Service<Req> for Client<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    type Response = Res;
    type Error = Error;
    type Future = Call<T, Req, Res, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.poll_ready(&mut self.readiness, cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        match self.readiness {
            Readiness::Reserved => {
                self.readiness = Readiness::Unready;
                Call::new(self.shared.clone(), Stage::New(request))
            }
            Readiness::Unready | Readiness::Waiting(_) => Call::new(self.shared.clone(), Stage::Refused),
        }
    }
}

impl<T, Req, Res, C> Clone for Client<T, Req, Res, C> {
    /// Another handle, without a place in flight: readiness is not shared.
    fn clone(&self) -> Self {
        self.shared.add_handle();
        Self { shared: self.shared.clone(), readiness: Readiness::Unready }
    }
}

impl<T, Req, Res, C> Drop for Client<T, Req, Res, C> {
    fn drop(&mut self) {
        self.shared.drop_handle(self.readiness);
    }
}

impl<T, Req, Res, C> fmt::Debug for Client<T, Req, Res, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Client")
            .field("in_flight", &state.calls.waiting())
            .field("unknown_answers", &state.unknown)
            .field("ended", &state.ended.as_ref().map(|ended| &ended.cause))
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}
