//! The connector below the reconnect layer. It connects, detects what the peer supports, and adds the layers
//! accordingly.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    greeting::{self, Met, Patience, Stranger},
    peers::{Kind, Peers},
    status::Status,
    wire::{Agreement, Wire, WireConfig},
};
use crate::{
    Error, Message, Transport,
    layer::{
        resume::{ResumeLayer, ResumedTransport},
        trace::{TraceLayer, Traced},
    },
    stack::{hello::SUBPROTOCOL, optional::Optional, unusable::Unusable},
    transport::{LostConnection, detach},
};

/// A client's connection: outgoing messages are traced, then resumed, then put on the wire.
pub(super) type Link<T> = Traced<Optional<ResumedTransport<Wire<T>>, Wire<T>>>;

/// Any connector. It is boxed because connections are rare and no message passes through it.
pub(super) type Dial<T> = BoxCloneSyncService<Request<()>, Response<T>, Error>;

pub(super) struct Connector<T> {
    pub(super) dial: Dial<T>,
    pub(super) wire: Arc<WireConfig>,
    pub(super) trace: TraceLayer,
    pub(super) resume: ResumeLayer,
    pub(super) status: Status,
    pub(super) handshake: std::time::Duration,
    pub(super) peers: Peers,
}

impl<T> Connector<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    async fn connect(self, mut request: Request<()>) -> Result<Response<Link<T>>, Error> {
        /// The number of ways to connect that one connector may report as unusable: the number of transports.
        const WAYS: usize = 3;

        let mut ways = 1;
        let mut offers = self.peers.get(request.uri()) != Some(Kind::Stranger);
        loop {
            let mut attempt = request.clone();
            if offers {
                attempt.headers_mut().append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
            }
            let mut response = self.dial.clone().oneshot(attempt).await?;
            let unusable = response.extensions().get::<Unusable>().cloned();
            let error = match self.greet(&mut response, request.uri(), unusable.is_some()).await {
                Ok(Greeting::Agreed(agreement)) => match self.open(response, agreement).await {
                    Ok(link) => return Ok(link),
                    Err(error) => error,
                },
                Ok(Greeting::AskAgain) if offers => {
                    offers = false;
                    greeting::leave(response.into_body()).await;
                    request.extensions_mut().remove::<LostConnection>();
                    continue;
                }
                // Offered by the caller's own connector.
                Ok(Greeting::AskAgain) => Error::protocol(
                    "the server chooses the subprotocol `tower-transport.v1` and does not speak it: do not offer it to this server",
                ),
                Err(error) => error,
            };
            match unusable {
                // The next attempt uses another way.
                Some(unusable) if unusable.tell(&error) && ways < WAYS => {
                    ways += 1;
                    request.extensions_mut().remove::<LostConnection>();
                }
                _ => return Err(error),
            }
        }
    }

    /// Detects whether the server knows the stack, and which capabilities are on.
    async fn greet(&self, response: &mut Response<T>, uri: &Uri, has_other_way: bool) -> Result<Greeting, Error> {
        if !is_chosen(response.headers()) {
            return Ok(Greeting::Agreed(Agreement::plain(None)));
        }
        let is_trusted = self.peers.get(uri) == Some(Kind::Known);
        let patience = Patience::new(self.handshake, is_trusted, has_other_way);
        let why = match greeting::meet(response.body_mut(), self.wire.hello(), patience).await? {
            Met::Known(theirs) => {
                self.peers.learn(uri, Kind::Known);
                return Ok(Greeting::Agreed(self.wire.agree(theirs)));
            }
            Met::Plain(first) => {
                self.peers.learn(uri, Kind::Stranger);
                if let Some(unusable) = response.extensions().get::<Unusable>() {
                    unusable.disown();
                }
                tracing::info!(
                    host = uri.host(),
                    "the server chose the subprotocol `tower-transport.v1` without knowing it: messages are plain"
                );
                return Ok(Greeting::Agreed(Agreement::plain(Some(first))));
            }
            Met::Changed(error) => {
                self.peers.distrust(uri);
                return Err(error);
            }
            Met::Stranger(why) => why,
        };
        // The network may have caused the silence, so the next connection does not assume that the server is a
        // stranger.
        if why != Stranger::Silent {
            self.peers.learn(uri, Kind::Stranger);
        }
        tracing::info!(
            host = uri.host(),
            ?why,
            "the server chose the subprotocol `tower-transport.v1` and sent no hello: connecting again without it, for plain messages"
        );
        Ok(Greeting::AskAgain)
    }

    /// Opens the session or resumes it.
    async fn open(&self, response: Response<T>, agreement: Agreement) -> Result<Response<Link<T>>, Error> {
        let (mut parts, transport) = response.into_parts();
        // The headers are kept for as long as the connection lives.
        detach::headers(&mut parts.headers);
        let (agreed, max_message) = (agreement.capabilities, agreement.max_message());
        let wire = self.wire.layer(transport, agreement);
        let link = if agreed.resume() {
            let (inner, verdict) = self.resume.open(wire).await?;
            verdict.insert_into(&mut parts.extensions);
            Optional::On { inner }
        } else {
            Optional::Off { inner: wire }
        };
        self.status.agreed(agreed, max_message);
        let trace = self.trace.clone().propagate(agreed.trace_context());
        Ok(Response::from_parts(parts, trace.layer(link)))
    }
}

/// The next step for a connection.
enum Greeting {
    Agreed(Agreement),
    /// Connect to the server again, without the subprotocol.
    AskAgain,
}

/// Returns whether the server chose the stack's subprotocol.
fn is_chosen(headers: &HeaderMap) -> bool {
    headers.get(header::SEC_WEBSOCKET_PROTOCOL).is_some_and(|chosen| chosen == SUBPROTOCOL)
}

// A derived impl would require the same of `T`.
impl<T> Clone for Connector<T> {
    fn clone(&self) -> Self {
        Self {
            dial: self.dial.clone(),
            wire: self.wire.clone(),
            trace: self.trace.clone(),
            resume: self.resume.clone(),
            status: self.status.clone(),
            handshake: self.handshake,
            peers: self.peers.clone(),
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
        // The dial is made ready within the call, which has its own clone.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        Box::pin(self.clone().connect(request))
    }
}
