use std::{
    fmt,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::correlate::{ByTag, InOrder, Respond, Tagged};
use crate::{Error, Transport, in_flight::InFlight};

/// How many requests are answered at a time, if nothing else is said.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

/// How many requests one poll takes before it flushes and lets other tasks run.
const BUDGET: usize = 128;

pin_project! {
    /// A future that answers the requests of a transport with a service, until the transport ends.
    ///
    /// # Where it waits, and what it holds
    ///
    /// Each request waits for the service's `poll_ready`, then it is called. While the service is not ready, or as many
    /// requests are in flight as [`concurrency`](Self::concurrency) allows (64 by default; those count whose answers the
    /// transport has not taken), nothing is read: that is the back-pressure on the peer. The one request that
    /// found the service not ready is held; an idle connection holds no readiness of a service that it may share with others.
    ///
    /// Answers are flushed when there is nothing else to do, or after 128 requests: a burst of requests costs one flush.
    ///
    /// Nothing is allocated per request: a future takes the memory of one that is done.
    ///
    /// # The end, and errors
    ///
    /// - When the peer closes, what is in flight is finished, its answers are sent as far as the peer still takes them, the
    ///   transport is closed, and the future resolves with `Ok`.
    /// - [`graceful_shutdown`](Handle::graceful_shutdown) does the same without waiting for the peer.
    /// - An error of the transport resolves the future at once; what is in flight is dropped.
    /// - An error of the service ends the connection: what else is in flight is dropped, answers that were already sent are
    ///   flushed, the transport is closed, and the future resolves with the error. To answer with a response in place of that, turn
    ///   errors into one with tower's `ServiceBuilder::map_result`; only an error of `poll_ready` is always the end.
    /// - A panic of the service goes through this future to whoever polls it, as a rule the task of this connection; other
    ///   connections are not touched.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it drops the transport and all that is in flight.
    ///
    /// # Example
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    /// use tower_transport::{BoxError, channel, service::{Client, Server}};
    ///
    /// let (here, there) = channel(8);
    /// let divide = ServiceBuilder::new()
    ///     .map_result(|answer: Result<u32, BoxError>| Ok::<_, BoxError>(answer.map_err(|error| error.to_string())))
    ///     .service_fn(async |(a, b): (u32, u32)| a.checked_div(b).ok_or_else(|| "no division by zero".into()));
    /// tokio::spawn(Server::as_they_finish(there, divide));
    ///
    /// let client = Client::by_tag(here);
    /// assert_eq!(client.clone().oneshot((6, 2)).await?, Ok(3));
    /// assert_eq!(client.oneshot((6, 0)).await?, Err("no division by zero".to_owned()));
    /// # Ok::<(), tower_transport::Error>(()) }).unwrap();
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    // The bounds are needed to name the service's future.
    pub struct Server<T, S, Req, R = InOrder>
    where
        S: Service<Req>,
        R: Respond<Req, S::Response>,
    {
        #[pin]
        transport: T,
        service: S,
        respond: R,
        concurrency: NonZeroUsize,
        in_flight: InFlight<S::Future, R::Tag, S::Response>,
        // A request that waits for the service to be ready.
        held: Option<(R::Tag, Req)>,
        stage: Stage,
        dirty: bool,
        signal: Arc<Signal>,
    }
}

enum Stage {
    /// Requests are read.
    Serving,
    /// No more are read; what is in flight is finished. Whether the peer has closed.
    Draining { gone: bool },
    /// Nothing more is answered; then this is the result.
    Closing(Option<Error>),
}

#[derive(Default)]
struct Signal {
    raised: AtomicBool,
    task: AtomicWaker,
}

/// Ends a [`Server`] from elsewhere. Made by [`Server::handle`].
#[derive(Clone)]
pub struct Handle(Arc<Signal>);

impl Handle {
    /// Asks the server to read no more, finish what is in flight, flush, close and resolve. Asking twice changes nothing.
    pub fn graceful_shutdown(&self) {
        self.0.raised.store(true, Ordering::SeqCst);
        self.0.task.wake();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("raised", &self.0.raised).finish()
    }
}

impl<T, S, Req> Server<T, S, Req>
where
    S: Service<Req>,
    T: Transport<S::Response, In = Req>,
{
    /// Answers in the order of the requests: a slow one holds up those behind it, not their work.
    pub fn in_order(transport: T, service: S) -> Self {
        Self::new(transport, service, InOrder)
    }
}

impl<T, S, Req> Server<T, S, Req, ByTag>
where
    S: Service<Req>,
    T: Transport<Tagged<S::Response>, In = Tagged<Req>>,
{
    /// Answers each request when it is done, with the tag of the request.
    pub fn as_they_finish(transport: T, service: S) -> Self {
        Self::new(transport, service, ByTag)
    }
}

impl<T, S, Req, R> Server<T, S, Req, R>
where
    S: Service<Req>,
    R: Respond<Req, S::Response>,
{
    /// Answers as `respond` says.
    pub fn new(transport: T, service: S, respond: R) -> Self
    where
        T: Transport<R::Out, In = R::In>,
    {
        Self {
            transport,
            service,
            respond,
            concurrency: CONCURRENCY,
            in_flight: InFlight::new(R::IN_ORDER),
            held: None,
            stage: Stage::Serving,
            dirty: false,
            signal: Arc::new(Signal::default()),
        }
    }

    /// Sets how many requests are in flight at most; 64 by default.
    pub fn concurrency(mut self, limit: NonZeroUsize) -> Self {
        self.concurrency = limit;
        self
    }

    /// What ends this server from elsewhere.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(self.signal.clone())
    }
}

impl<T, S, Req, R> Future for Server<T, S, Req, R>
where
    S: Service<Req>,
    S::Error: Into<Error>,
    R: Respond<Req, S::Response>,
    T: Transport<R::Out, In = R::In>,
{
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.signal.task.register(cx.waker());
        if self.signal.raised.load(Ordering::SeqCst) && matches!(self.stage, Stage::Serving) {
            *self.as_mut().project().stage = Stage::Draining { gone: false };
        }
        let mut budget = BUDGET;
        loop {
            if let Stage::Closing(_) = self.stage {
                return self.poll_close(cx);
            }
            let polled = match self.as_mut().project().in_flight.poll(cx) {
                Ok(polled) => polled,
                Err(error) => {
                    self.as_mut().abort(error.into());
                    continue;
                }
            };
            let wrote = match self.as_mut().write(cx) {
                Ok(wrote) => wrote,
                Err(error) => return Poll::Ready(self.write_failed(cx, error)),
            };
            let took = self.as_mut().take_requests(cx, &mut budget)?;
            if !polled && !wrote && !took {
                break;
            }
            // A round costs one as well: there are futures that wake themselves each time.
            budget = budget.saturating_sub(1);
            if budget == 0 {
                cx.waker().wake_by_ref();
                break;
            }
        }
        if self.dirty {
            let this = self.as_mut().project();
            match this.transport.poll_flush(cx) {
                Poll::Ready(Ok(())) => *this.dirty = false,
                Poll::Ready(Err(error)) => return Poll::Ready(self.write_failed(cx, error.into())),
                Poll::Pending => {}
            }
        }
        if matches!(self.stage, Stage::Draining { .. }) && self.in_flight.len() == 0 && self.held.is_none() {
            *self.as_mut().project().stage = Stage::Closing(None);
            return self.poll_close(cx);
        }
        Poll::Pending
    }
}

impl<T, S, Req, R> Server<T, S, Req, R>
where
    S: Service<Req>,
    S::Error: Into<Error>,
    R: Respond<Req, S::Response>,
    T: Transport<R::Out, In = R::In>,
{
    /// Hands answers to the transport as long as it takes them. Returns whether it took any.
    fn write(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut this = self.project();
        let mut wrote = false;
        while this.in_flight.front().is_some() {
            match this.transport.as_mut().poll_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready.map_err(Into::into)?,
            }
            if let Some((tag, answer)) = this.in_flight.pop() {
                this.transport.as_mut().start_send(this.respond.answer(tag, answer)).map_err(Into::into)?;
                *this.dirty = true;
                wrote = true;
            }
        }
        Ok(wrote)
    }

    /// Calls the service with what the transport receives, as long as there is room and the service is ready. Returns
    /// whether it was called, or the stage has changed.
    fn take_requests(self: Pin<&mut Self>, cx: &mut Context<'_>, budget: &mut usize) -> Result<bool, Error> {
        let mut this = self.project();
        let mut took = false;
        while *budget > 0 && this.in_flight.len() < this.concurrency.get() {
            if this.held.is_none() {
                if !matches!(this.stage, Stage::Serving) {
                    break;
                }
                match this.transport.as_mut().poll_next(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(message)) => {
                        *this.held = Some(this.respond.request(message.map_err(Into::into)?));
                    }
                    Poll::Ready(None) => {
                        *this.stage = Stage::Draining { gone: true };
                        return Ok(true);
                    }
                }
            }
            let called = match this.service.poll_ready(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => Err(error),
                Poll::Ready(Ok(())) => match this.held.take() {
                    Some((tag, request)) => this.in_flight.push(tag, this.service.call(request)),
                    None => Ok(()),
                },
            };
            took = true;
            *budget -= 1;
            if let Err(error) = called {
                *this.held = None;
                this.in_flight.clear();
                *this.stage = Stage::Closing(Some(error.into()));
                break;
            }
        }
        Ok(took)
    }

    /// The service has failed: nothing more is answered.
    fn abort(self: Pin<&mut Self>, error: Error) {
        let this = self.project();
        this.in_flight.clear();
        *this.held = None;
        *this.stage = Stage::Closing(Some(error));
    }

    /// The peer takes no more answers. That is a good end if it has closed, and an error if it has not.
    fn write_failed(self: Pin<&mut Self>, cx: &mut Context<'_>, error: Error) -> Result<(), Error> {
        let mut this = self.project();
        if !error.is_closed() {
            return Err(error);
        }
        if let Stage::Draining { gone: true } = this.stage {
            return Ok(());
        }
        // A peer that has gone altogether may have left requests behind, whose answers nobody awaits.
        for _ in 0..BUDGET {
            match this.transport.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => return Ok(()),
                Poll::Ready(Some(Err(_))) | Poll::Pending => break,
            }
        }
        Err(error)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let closed = ready!(this.transport.poll_close(cx)).map_err(Into::into);
        Poll::Ready(match (this.stage, closed) {
            (Stage::Closing(Some(error)), _) => Err(error.clone()),
            // The peer has closed first.
            (_, Err(error)) if !error.is_closed() => Err(error),
            _ => Ok(()),
        })
    }
}

impl<T, S, Req, R> fmt::Debug for Server<T, S, Req, R>
where
    S: Service<Req>,
    R: Respond<Req, S::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("concurrency", &self.concurrency).finish_non_exhaustive()
    }
}
