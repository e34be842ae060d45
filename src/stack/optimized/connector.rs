//! The connector below the reconnect layer: it connects, finds out what the peer can do, and puts on the layers that follow.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response, header};
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    status::Status,
    wire::{Wire, WireConfig},
};
use crate::{
    Error, Message, Transport,
    layer::{
        resume::{ResumeLayer, ResumedTransport},
        trace::{TraceLayer, Traced},
    },
    stack::{hello::SUBPROTOCOL, optional::Optional, unusable::Unusable},
    transport::LostConnection,
};

/// A connection of a client: what it sends is traced, then resumed, then on the wire.
pub(super) type Link<T> = Traced<Optional<ResumedTransport<Wire<T>>, Wire<T>>>;

/// Any connector: boxed, since a connection is made once in a while and a message goes through none of it.
pub(super) type Dial<T> = BoxCloneSyncService<Request<()>, Response<T>, Error>;

pub(super) struct Connector<T> {
    pub(super) dial: Dial<T>,
    pub(super) wire: Arc<WireConfig>,
    pub(super) trace: TraceLayer,
    pub(super) resume: ResumeLayer,
    pub(super) status: Status,
    pub(super) handshake: std::time::Duration,
}

impl<T> Connector<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    async fn connect(self, mut request: Request<()>) -> Result<Response<Link<T>>, Error> {
        /// As many ways to connect as a connector may have found to be of no use: the transports that there are.
        const WAYS: usize = 3;

        request.headers_mut().append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let mut ways = 1;
        loop {
            let response = self.dial.clone().oneshot(request.clone()).await?;
            let unusable = response.extensions().get::<Unusable>().cloned();
            match (self.open(response).await, unusable) {
                // The next attempt goes another way.
                (Err(error), Some(unusable)) if unusable.tell(&error) && ways < WAYS => {
                    ways += 1;
                    request.extensions_mut().remove::<LostConnection>();
                }
                (opened, _) => return opened,
            }
        }
    }

    /// Finds out what the peer can do, and opens the session, or goes on with it.
    async fn open(&self, response: Response<T>) -> Result<Response<Link<T>>, Error> {
        let (mut parts, mut transport) = response.into_parts();
        let agreement = self.wire.agree(&mut transport, is_chosen(&parts.headers), self.handshake).await?;
        let agreed = agreement.capabilities;
        let wire = self.wire.layer(transport, agreement);
        let link = if agreed.resume() {
            let opened = Response::from_parts(parts, wire);
            let mut resume = self.resume.layer(tower::service_fn(|opened| std::future::ready(Ok::<_, Error>(opened))));
            let (with_verdict, inner) = resume.call(opened).await?.into_parts();
            parts = with_verdict;
            Optional::On { inner }
        } else {
            Optional::Off { inner: wire }
        };
        self.status.agreed(agreed);
        let trace = self.trace.clone().propagate(agreed.trace_context());
        Ok(Response::from_parts(parts, trace.layer(link)))
    }
}

/// Whether the server speaks our subprotocol.
fn is_chosen(headers: &HeaderMap) -> bool {
    headers.get(header::SEC_WEBSOCKET_PROTOCOL).is_some_and(|chosen| chosen == SUBPROTOCOL)
}

// Derived, it would ask the same of `T`.
impl<T> Clone for Connector<T> {
    fn clone(&self) -> Self {
        Self {
            dial: self.dial.clone(),
            wire: self.wire.clone(),
            trace: self.trace.clone(),
            resume: self.resume.clone(),
            status: self.status.clone(),
            handshake: self.handshake,
        }
    }
}

impl<T> Service<Request<()>> for Connector<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    type Response = Response<Link<T>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Link<T>>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // The dial is made ready in the call, which has its own.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        Box::pin(self.clone().connect(request))
    }
}
