use std::{
    hash::Hash,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::protocol::{Request, Requests, SubscribeRequest, TopicProtocol};
use crate::{
    BoxError, CloseCode, CloseFrame, Error, Transport, layer::own::LayerSink, topic::Subscription, transport::signal,
};

/// The number of messages taken from the subscription at a time. Messages that wait there are subject to its policy;
/// those that were taken are sent.
const BATCH: usize = 32;

/// The number of batches that one poll takes before other tasks run.
const ROUNDS: usize = 8;

pin_project! {
    /// A transport that sends published messages, created by [`TopicLayer`](super::TopicLayer).
    ///
    /// ```text
    ///           a request to subscribe              the decision
    ///   Reading ----------------------> Deciding -----------------> Reading
    /// ```
    ///
    /// While requests wait or one is being decided, nothing is read from the peer, so they are handled in order and
    /// none waits elsewhere. Published messages are sent meanwhile.
    pub struct TopicSession<T, P, A>
    where
        P: TopicProtocol,
        A: Service<SubscribeRequest<P::Topic>>,
    {
        #[pin]
        inner: T,
        sink: LayerSink<P::Out>,
        subscription: Subscription<P::Topic, P::Message>,
        protocol: P,
        authorize: A,
        requests: Requests<P::Topic, P::Out>,
        // The request that is being decided.
        asked: Option<SubscribeRequest<P::Topic>>,
        // Boxed, so that the transport can be moved whatever the service is. Requests are rare.
        decision: Option<Pin<Box<A::Future>>>,
        // The refusal of a topic to which the layer subscribes.
        refused: Option<Error>,
        // Whether the sink is closed or has failed: nothing more is sent.
        is_over: bool,
    }
}

impl<T, P, A> TopicSession<T, P, A>
where
    P: TopicProtocol,
    A: Service<SubscribeRequest<P::Topic>>,
{
    pub(super) fn new(
        inner: T,
        subscription: Subscription<P::Topic, P::Message>,
        protocol: P,
        authorize: A,
        max_requests: usize,
        refused: Option<Error>,
    ) -> Self {
        Self {
            inner,
            sink: LayerSink::new(),
            subscription,
            protocol,
            authorize,
            requests: Requests::new(max_requests),
            asked: None,
            decision: None,
            refused,
            is_over: false,
        }
    }

    /// Returns the subscription, with its counts.
    #[must_use]
    pub fn subscription(&self) -> &Subscription<P::Topic, P::Message> {
        &self.subscription
    }

    /// Returns the subscription, to subscribe to topics without a request of the peer.
    #[must_use]
    pub fn subscription_mut(&mut self) -> &mut Subscription<P::Topic, P::Message> {
        &mut self.subscription
    }

    accessors! {
        inner: T, "transport",
        get_mut: "A message sent there overtakes published messages.",
        into_inner: ". At most 32 published messages that it had no room for are dropped.",
    }
}

impl<T, P, A> TopicSession<T, P, A>
where
    T: Sink<P::Out, Error: Into<Error>>,
    P: TopicProtocol<Topic: Hash + Eq + Clone>,
    A: Service<SubscribeRequest<P::Topic>, Error: Into<BoxError>>,
{
    /// Handles requests in order, until one waits for its decision.
    fn poll_requests(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.project();
        loop {
            if let Some(decision) = this.decision {
                let Poll::Ready(decided) = decision.as_mut().poll(cx) else { return };
                *this.decision = None;
                let Some(SubscribeRequest { topic, start }) = this.asked.take() else { continue };
                let outcome = match decided {
                    Ok(_) => this.subscription.subscribe(&topic, start),
                    Err(error) => Err(Error::from(error.into())),
                };
                this.protocol.subscribed(&topic, outcome, |message| this.sink.push(message));
                continue;
            }
            if let Some(Request::Subscribe(_)) = this.requests.waiting.front() {
                let ready = match this.authorize.poll_ready(cx) {
                    Poll::Ready(ready) => ready,
                    Poll::Pending => return,
                };
                let Some(Request::Subscribe(request)) = this.requests.waiting.pop_front() else { return };
                match ready {
                    Ok(()) => {
                        *this.asked = Some(request.clone());
                        *this.decision = Some(Box::pin(this.authorize.call(request)));
                    }
                    Err(error) => {
                        let refused = Err(Error::from(error.into()));
                        this.protocol.subscribed(&request.topic, refused, |message| this.sink.push(message));
                    }
                }
                continue;
            }
            match this.requests.waiting.pop_front() {
                Some(Request::Unsubscribe(topic)) => {
                    let had = this.subscription.unsubscribe(&topic);
                    this.protocol.unsubscribed(&topic, had, |message| this.sink.push(message));
                }
                Some(Request::Send(message)) => this.sink.push(message),
                Some(Request::Subscribe(_)) | None => return,
            }
        }
    }

    /// On the reader's task: handles requests and sends what is published. Returns the rejection of a message, after
    /// which the next call goes on with the next one.
    fn poll_work(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Error> {
        for _ in 0..ROUNDS {
            let is_empty = {
                let this = self.as_mut().project();
                if *this.is_over || this.sink.has_ended() {
                    return None;
                }
                this.sink.is_empty()
            };
            if is_empty {
                self.as_mut().poll_requests(cx);
                if self.as_mut().take_events(cx) && self.as_mut().project().sink.is_idle() {
                    return None;
                }
            }
            let this = self.as_mut().project();
            match this.sink.poll_send(this.inner, cx) {
                Poll::Pending => return None,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if error.is_rejection() => return Some(error),
                // The user's own sends, or the end of the stream, report the reason.
                Poll::Ready(Err(_)) => *this.is_over = true,
            }
        }
        cx.waker().wake_by_ref();
        None
    }

    /// Takes a batch from the subscription. Returns whether it has no more, and wakes this task when it has.
    fn take_events(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let this = self.project();
        for _ in 0..BATCH {
            match Pin::new(&mut *this.subscription).poll_next(cx) {
                Poll::Ready(Some(Ok(event))) => this.protocol.event(event, |message| this.sink.push(message)),
                Poll::Ready(Some(Err(error))) => {
                    let closed = Error::closed("the peer was too slow for what is published");
                    let closed = closed.with_close_frame(error.close_frame().cloned());
                    this.sink.close_below(error, closed);
                    return true;
                }
                Poll::Ready(None) | Poll::Pending => return true,
            }
        }
        false
    }
}

impl<T, P, A> Stream for TopicSession<T, P, A>
where
    T: Transport<P::Out, In = P::In>,
    P: TopicProtocol<Topic: Hash + Eq + Clone>,
    A: Service<SubscribeRequest<P::Topic>, Error: Into<BoxError>>,
{
    type Item = Result<P::In, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(refused) = self.as_mut().project().refused.take() {
            return Poll::Ready(Some(Err(refused.into_rejection())));
        }
        for _ in 0..BATCH {
            // Before the peer is read: a peer that sends without end still gets what is published.
            if let Some(rejected) = self.as_mut().poll_work(cx) {
                return Poll::Ready(Some(Err(rejected)));
            }
            let this = self.as_mut().project();
            if this.sink.has_ended() {
                let frame = this.sink.close_frame().cloned();
                return signal::with_close_frame(frame.as_ref(), || this.sink.poll_end(this.inner, cx));
            }
            // Whatever the requests wait for wakes this task.
            let is_reading = this.requests.waiting.is_empty() && this.asked.is_none();
            if !is_reading && !*this.is_over {
                return Poll::Pending;
            }
            let message = match this.inner.poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            let direct = this.protocol.read(message, this.requests);
            if this.requests.is_over_limit {
                let error = Error::protocol("a message has more requests than `max_requests` allows");
                let frame = CloseFrame::new(CloseCode::POLICY, "too many requests in one message");
                let closed = Error::closed("a peer's message had too many requests").with_close_frame(Some(frame));
                this.requests.waiting.clear();
                this.sink.close_below(error, closed);
                continue;
            }
            if let Some(message) = direct {
                return Poll::Ready(Some(Ok(message)));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Any message may be a request, and any published one may add a rejection.
        (0, None)
    }
}

impl<T, P, A> Sink<P::Out> for TopicSession<T, P, A>
where
    T: Sink<P::Out, Error: Into<Error>>,
    P: TopicProtocol,
    A: Service<SubscribeRequest<P::Topic>>,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_ready(this.inner, cx)
    }

    fn start_send(self: Pin<&mut Self>, message: P::Out) -> Result<(), Error> {
        let this = self.project();
        this.sink.start_send(this.inner, message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.sink.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        // Nothing may follow the close, so later publications are not sent.
        *this.is_over = true;
        match this.sink.close_frame().cloned() {
            Some(frame) => signal::with_close_frame(Some(&frame), || this.sink.poll_close(this.inner, cx)),
            None => this.sink.poll_close(this.inner, cx),
        }
    }
}

impl<T, P, A> std::fmt::Debug for TopicSession<T, P, A>
where
    P: TopicProtocol,
    A: Service<SubscribeRequest<P::Topic>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicSession").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}
