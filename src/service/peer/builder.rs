use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use futures_core::Stream;
use tower_service::Service;

use super::{
    caller::{Caller, Shared},
    future::{Guard, Peer},
    handler::{IncomingCall, Reply},
    incoming::{IncomingLimits, WhenNotificationsFull},
    make::MakePeer,
    protocol::Protocol,
};
use crate::{Transport, transport::close_deadline::CLOSE_WITHIN};

/// The settings of a [`Peer`].
#[derive(Clone, Debug)]
pub struct PeerBuilder<P> {
    protocol: P,
    max_calls: NonZeroUsize,
    outgoing_notifications: usize,
    incoming: IncomingLimits,
    close_within: Duration,
}

impl<P: Protocol> PeerBuilder<P> {
    /// Creates the settings of a peer with this wire.
    pub fn new(protocol: P) -> Self {
        Self {
            protocol,
            max_calls: NonZeroUsize::MIN.saturating_add(1023),
            outgoing_notifications: 1024,
            incoming: IncomingLimits {
                calls: 1024,
                notifications: 1024,
                when_full: WhenNotificationsFull::default(),
                window: 16,
            },
            close_within: CLOSE_WITHIN,
        }
    }

    /// Sets how many calls of this end may be in flight. Defaults to 1024. Set it to at most the other end's
    /// [`max_incoming_calls`](Self::max_incoming_calls), which rejects what is over.
    #[must_use]
    pub fn max_calls(mut self, limit: NonZeroUsize) -> Self {
        self.max_calls = limit;
        self
    }

    /// Sets how many calls of the other end may be in flight. Defaults to 1024. A call over the limit is rejected as
    /// [overloaded](super::Rejection::Overloaded): it cannot wait, since the answers to this end's calls come behind it.
    #[must_use]
    pub fn max_incoming_calls(mut self, limit: NonZeroUsize) -> Self {
        self.incoming.calls = limit.get();
        self
    }

    /// Sets how many notifications of this end may wait for the transport. Defaults to 1024.
    #[must_use]
    pub fn outgoing_notifications(mut self, limit: usize) -> Self {
        self.outgoing_notifications = limit;
        self
    }

    /// Sets how many notifications of the other end may wait for the service, and what happens to those over the
    /// limit. Defaults to 1024 and [`Close`](WhenNotificationsFull::Close).
    ///
    /// Notifications are handled one after another, and begun in their order among the calls. A call that comes later
    /// does not wait for a notification whose handler waits, nor for those behind it: this handler may wait for a call.
    /// A handler that is ready at its first poll is done before such a call begins.
    #[must_use]
    pub fn notifications(mut self, limit: usize, when_full: WhenNotificationsFull) -> Self {
        self.incoming.notifications = limit;
        self.incoming.when_full = when_full;
        self
    }

    /// Sets how many items of one stream the other end may send ahead: answers to a call of this end, requests of a
    /// call of the other end. Defaults to 16. They are kept in memory until they are read, each of at most the
    /// transport's message size.
    #[must_use]
    pub fn window(mut self, items: NonZeroU32) -> Self {
        self.incoming.window = items.get();
        self
    }

    /// Sets the maximum time that the peer waits for its transport once it shuts down, without progress. Defaults to
    /// 10 seconds; [`Duration::MAX`] disables the limit. See [`Server::close_within`](crate::service::Server).
    #[must_use]
    pub fn close_within(mut self, time: Duration) -> Self {
        self.close_within = time;
        self
    }

    /// Creates the peer of a transport, and the handle that makes calls to the other end. `service` handles the calls
    /// of the other end.
    pub fn build<T, S, St>(self, transport: T, service: S) -> (Caller<P>, Peer<T, P, S, St>)
    where
        T: Transport<P::Out, In = P::In>,
        S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
        St: Stream<Item = Result<P::InResponse, P::Failure>>,
    {
        let (caller, calls) = self.caller();
        (caller, self.peer(transport, service, calls))
    }

    /// Creates the peer of a session whose service is made for it by `make`, and the handle that makes calls to the other
    /// end. `target` makes the argument of `make` of this handle and any value that distinguishes sessions: an address,
    /// the parts of the handshake request, or nothing. So a service can call its own caller back.
    ///
    /// The peer waits for `make` to be ready and for the service, and reads nothing meanwhile. Calls of this end wait.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tower::{ServiceExt, service_fn};
    /// use tower_transport::{Error, channel, service::peer::{Caller, Frames, PeerBuilder, unary}};
    ///
    /// type Wire = Frames<String, String, String>;
    /// // Greets by a name that the session has, after it has asked the other end for the salutation.
    /// let make = service_fn(async |(caller, name): (Caller<Wire>, &'static str)| {
    ///     Ok::<_, Error>(unary(service_fn(move |_: String| {
    ///         let caller = caller.clone();
    ///         async move {
    ///             let salutation = caller.oneshot(String::new()).await.map_err(|error| error.to_string())?;
    ///             Ok(format!("{salutation}, {name}"))
    ///         }
    ///     })))
    /// });
    /// let (here, there) = channel(8);
    /// let (_, peer) = PeerBuilder::new(Wire::new()).build_with(there, make, |caller| (caller, "Ada"));
    /// tokio::spawn(peer);
    /// let salutation = service_fn(async |_: String| Ok::<_, String>("Good morning".to_owned()));
    /// let (caller, peer) = PeerBuilder::new(Wire::new()).build(here, unary(salutation));
    /// tokio::spawn(peer);
    /// assert_eq!(caller.oneshot(String::new()).await.unwrap(), "Good morning, Ada");
    /// # });
    /// ```
    ///
    /// # Errors
    ///
    /// The future completes with the error of `make`, which also ends the calls of this end, or as a [`Peer`] does.
    #[allow(clippy::type_complexity, reason = "a pair, as `build` returns it")]
    pub fn build_with<T, M, Target, S, St>(
        self,
        transport: T,
        make: M,
        target: impl FnOnce(Caller<P>) -> Target,
    ) -> (Caller<P>, MakePeer<T, P, M, Target, S, St>)
    where
        T: Transport<P::Out, In = P::In>,
        M: Service<Target, Response = S>,
        S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
        St: Stream<Item = Result<P::InResponse, P::Failure>>,
    {
        let (caller, calls) = self.caller();
        let target = target(caller.clone());
        (caller, MakePeer::new(make, target, transport, self, calls))
    }

    pub(super) fn caller(&self) -> (Caller<P>, Guard<P>) {
        let shared = Shared::new(self.max_calls.get(), self.outgoing_notifications, self.incoming.window);
        (Caller::new(shared.clone()), Guard(shared))
    }

    pub(super) fn peer<T, S, St>(self, transport: T, service: S, calls: Guard<P>) -> Peer<T, P, S, St>
    where
        T: Transport<P::Out, In = P::In>,
        S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
        St: Stream<Item = Result<P::InResponse, P::Failure>>,
    {
        Peer::new(transport, service, self.protocol, self.incoming, self.close_within, calls)
    }
}
