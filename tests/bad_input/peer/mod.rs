//! Hostile ends of a connection of calls. Each test is alone on its thread, which is what is measured.

mod calls;
mod json_rpc;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, SinkExt, StreamExt, future::BoxFuture, stream::BoxStream};
use tower::Service;
use tower_transport::{
    Channel, Error, channel,
    service::peer::{Caller, IncomingCall, PeerBuilder, Protocol, Reply},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

type Answers<P> = BoxStream<'static, Result<<P as Protocol>::InResponse, <P as Protocol>::Failure>>;
type Answer<P> = Result<Reply<<P as Protocol>::InResponse, Answers<P>>, <P as Protocol>::Failure>;

/// A handler that is a function, and is never ready if the victim is busy.
struct Handler<P: Protocol> {
    handle: fn(IncomingCall<P::InRequest>) -> BoxFuture<'static, Answer<P>>,
    is_busy: bool,
}

impl<P: Protocol> Service<IncomingCall<P::InRequest>> for Handler<P> {
    type Response = Reply<P::InResponse, Answers<P>>;
    type Error = P::Failure;
    type Future = BoxFuture<'static, Answer<P>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), P::Failure>> {
        if self.is_busy { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, call: IncomingCall<P::InRequest>) -> Self::Future {
        (self.handle)(call)
    }
}

/// Our end, polled by the test, and the attacker's end of its channel, which takes 64 messages each way.
struct Victim<P: Protocol> {
    caller: Caller<P>,
    peer: Pin<Box<dyn Future<Output = Result<(), Error>>>>,
    ended: Option<Result<(), Error>>,
    attacker: Channel<P::In, P::Out>,
}

impl<P> Victim<P>
where
    P: Protocol<Out: 'static, In: 'static, InRequest: 'static, InResponse: 'static, Failure: 'static> + 'static,
{
    fn new(settings: PeerBuilder<P>, handle: fn(IncomingCall<P::InRequest>) -> BoxFuture<'static, Answer<P>>) -> Self {
        Self::with(settings, Handler { handle, is_busy: false })
    }

    /// A victim whose service is never ready.
    fn busy(settings: PeerBuilder<P>) -> Self {
        Self::with(settings, Handler { handle: |_| std::future::pending().boxed(), is_busy: true })
    }

    fn with(settings: PeerBuilder<P>, handler: Handler<P>) -> Self {
        let (attacker, victim) = channel(64);
        let (caller, peer) = settings.build(victim, handler);
        Self { caller, peer: Box::pin(peer), ended: None, attacker }
    }

    /// Lets the victim run until it waits for the attacker.
    fn run(&mut self) {
        // A poll that used up its budget wakes itself.
        for _ in 0..4 {
            if self.ended.is_none() {
                self.ended = self.peer.as_mut().now_or_never();
            }
        }
    }

    /// Sends a message. Returns `false` if the victim does not read.
    fn send(&mut self, message: P::In) -> bool {
        for _ in 0..2 {
            if self.attacker.is_ready() {
                return self.attacker.start_send_unpin(message).is_ok();
            }
            self.run();
        }
        false
    }

    fn receive(&mut self) -> Option<P::Out> {
        for _ in 0..2 {
            if let Some(Some(message)) = self.attacker.next().now_or_never() {
                return message.ok();
            }
            self.run();
        }
        None
    }

    /// The messages that wait for the attacker.
    fn received(&mut self) -> Vec<P::Out> {
        std::iter::from_fn(|| self.receive()).collect()
    }
}

trait IsReady<T> {
    fn is_ready(&mut self) -> bool;
}

impl<S: futures_util::Sink<T> + Unpin, T> IsReady<T> for S {
    fn is_ready(&mut self) -> bool {
        let ready = self.poll_ready_unpin(&mut Context::from_waker(futures_util::task::noop_waker_ref()));
        matches!(ready, Poll::Ready(Ok(())))
    }
}
