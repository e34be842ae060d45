use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    builder::PeerBuilder,
    future::{Guard, Peer},
    handler::{IncomingCall, Reply},
    protocol::Protocol,
};
use crate::{Error, Transport};

pin_project! {
    /// Makes a service for a session, then is the [`Peer`] of the session.
    /// [`PeerBuilder::build_with`] creates it.
    #[must_use = "futures do nothing unless awaited"]
    // The bounds are needed to name the futures.
    pub struct MakePeer<T, P, M, Target, S, St>
    where
        P: Protocol,
        M: Service<Target>,
        S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
        St: Stream<Item = Result<P::InResponse, P::Failure>>,
    {
        make: M,
        target: Option<Target>,
        start: Option<(T, PeerBuilder<P>, Guard<P>)>,
        #[pin]
        making: Option<M::Future>,
        #[pin]
        peer: Option<Peer<T, P, S, St>>,
    }
}

impl<T, P, M, Target, S, St> MakePeer<T, P, M, Target, S, St>
where
    P: Protocol,
    M: Service<Target>,
    S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
    St: Stream<Item = Result<P::InResponse, P::Failure>>,
{
    pub(super) fn new(make: M, target: Target, transport: T, settings: PeerBuilder<P>, calls: Guard<P>) -> Self {
        Self { make, target: Some(target), start: Some((transport, settings, calls)), making: None, peer: None }
    }
}

impl<T, P, M, Target, S, St> Future for MakePeer<T, P, M, Target, S, St>
where
    P: Protocol,
    T: Transport<P::Out, In = P::In>,
    M: Service<Target, Response = S>,
    M::Error: Into<Error>,
    S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
    St: Stream<Item = Result<P::InResponse, P::Failure>>,
{
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            if let Some(peer) = this.peer.as_mut().as_pin_mut() {
                return peer.poll(cx);
            }
            let failed = if let Some(making) = this.making.as_mut().as_pin_mut() {
                match ready!(making.poll(cx)) {
                    Ok(service) => {
                        this.making.set(None);
                        if let Some((transport, settings, calls)) = this.start.take() {
                            this.peer.set(Some(settings.peer(transport, service, calls)));
                        }
                        continue;
                    }
                    Err(error) => error,
                }
            } else {
                match ready!(this.make.poll_ready(cx)) {
                    Ok(()) => {
                        let Some(target) = this.target.take() else { return Poll::Pending };
                        this.making.set(Some(this.make.call(target)));
                        continue;
                    }
                    Err(error) => error,
                }
            };
            let error = failed.into();
            this.making.set(None);
            if let Some((_transport, _settings, calls)) = this.start.take() {
                calls.0.end(&error);
            }
            return Poll::Ready(Err(error));
        }
    }
}

impl<T, P, M, Target, S, St> fmt::Debug for MakePeer<T, P, M, Target, S, St>
where
    P: Protocol,
    M: Service<Target>,
    S: Service<IncomingCall<P::InRequest>, Response = Reply<P::InResponse, St>, Error = P::Failure>,
    St: Stream<Item = Result<P::InResponse, P::Failure>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakePeer").field("made", &self.peer.is_some()).finish_non_exhaustive()
    }
}
