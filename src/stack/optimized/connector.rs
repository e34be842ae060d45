//! The connector below the reconnect layer. It connects, detects what the peer supports, and adds the layers
//! accordingly.

use std::{
    any::TypeId,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    greeting::{self, Doubt, Greeting, Patience},
    handle::Status,
    layers::{Agreement, Proof, Wire, WireConfig},
    metrics::StackMetrics,
    peers::Peers,
};
use crate::{
    Connect, Error, MaybeSend, MaybeSync, Message, Transport,
    layer::{
        optional::Optional,
        resume::{ResumeLayer, ResumedTransport},
        trace::{TraceLayer, Traced},
    },
    log,
    rt::Instant,
    stack::{
        hello::{Hello, Nonce, SUBPROTOCOL},
        unusable::Unusable,
    },
    threads::{dyn_send, dyn_shared},
    transport::{LostConnection, shrink, websocket::WebSocket},
};

/// A client's connection: outgoing messages are traced, then resumed, then put on the wire.
pub(super) type Link<T> = Traced<Optional<ResumedTransport<Wire<T>>, Wire<T>>>;

/// Any connector. It is boxed because connections are rare and no message passes through it.
pub(super) type Dial<T> = Arc<dyn_shared!(Fn(Request<()>) -> Dialing<T>)>;

pub(super) type Dialing<T> = Pin<Box<dyn_send!(Future<Output = Result<Response<T>, Error>>)>>;

/// Makes a connector callable by a shared reference. Each call has a clone of its own, and makes it ready.
pub(super) fn dial<C>(connector: C) -> Dial<C::Transport>
where
    C: Connect<Future: MaybeSend + 'static> + Clone + MaybeSend + MaybeSync + 'static,
{
    Arc::new(move |request| {
        let connector = connector.clone();
        Box::pin(async move { connector.oneshot(request).await.map_err(Into::into) })
    })
}

pub(super) struct Connector<T> {
    pub(super) dial: Dial<T>,
    pub(super) wire: Arc<WireConfig>,
    pub(super) trace: TraceLayer,
    pub(super) resume: ResumeLayer,
    pub(super) status: Status,
    pub(super) handshake: std::time::Duration,
    pub(super) peers: Peers,
    pub(super) metrics: Arc<StackMetrics>,
}

impl<T> Connector<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
{
    async fn connect(self, mut request: Request<()>) -> Result<Response<Link<T>>, Error> {
        /// The number of routes that one connector may report as unusable: the number of transports.
        const ROUTES: usize = 3;

        self.metrics.start();
        let (uri, since) = (request.uri().clone(), Instant::now());
        let mut routes = 1;
        let mut offers = self.peers.offers(&uri);
        let mut doubt = None;
        loop {
            let failure = match self.attempt(&request, offers).await {
                Ok(link) => {
                    // A page cannot tell a refusal from a connection that was lost, so only a second one counts.
                    #[cfg(target_arch = "wasm32")]
                    let link = match doubt {
                        Some(Doubt::Refused) if !offers => match self.attempt(&request, true).await {
                            Ok(known) => {
                                doubt = None;
                                known
                            }
                            Err(Failure { doubt: Some(Doubt::Refused), .. }) => link,
                            Err(failure) => return Err(failure.error),
                        },
                        _ => link,
                    };
                    // A connector with other routes counts its connections itself, by the route.
                    if link.extensions().get::<Unusable>().is_none() {
                        self.metrics.connected(transport_name::<T>(), since.elapsed());
                    }
                    // Only this success proves that the name was the cause of the refusal: the same server may refuse
                    // for reasons of its own.
                    if doubt == Some(Doubt::Refused) && !offers {
                        self.peers.is_stranger(&uri);
                    }
                    return Ok(link);
                }
                Err(failure) => failure,
            };
            let Failure { error, doubt: newest, transport, unusable } = failure;
            // A failure without the name raises no doubt about the name.
            if offers {
                doubt = newest.or(doubt);
            }
            if unusable.is_some_and(|unusable| unusable.report(&error)) && routes < ROUTES {
                // The next attempt uses another route.
                routes += 1;
            } else if let Some(why) = doubt
                && offers
                && self.may_ask_again(&uri, why)
            {
                offers = false;
                tracing::info!(
                    target: log::OPTIMIZED,
                    host = uri.host(),
                    ?why,
                    %error,
                    "the server may not know the subprotocol `tower-transport.v1`: connecting again without it"
                );
                if let Some(transport) = transport {
                    greeting::close(transport).await;
                }
            } else {
                // For a page, a server that is down refuses both.
                let is_refusal = !cfg!(target_arch = "wasm32") && Doubt::about_refusal(&error).is_some();
                if doubt.is_some() && !offers && is_refusal {
                    self.peers.refuses_both(&uri);
                }
                return Err(error);
            }
            // The loss was reported to the first attempt; a second report would count it twice.
            request.extensions_mut().remove::<LostConnection>();
        }
    }

    /// Returns whether to connect once more without the subprotocol, and records what the failure says about the
    /// server.
    fn may_ask_again(&self, uri: &Uri, doubt: Doubt) -> bool {
        match doubt {
            // A page cannot tell a refusal from a server that is down, and this server knows the name.
            Doubt::Refused if cfg!(target_arch = "wasm32") && self.peers.is_trusted(uri) => false,
            // Conclusive only once the server has accepted the handshake without the subprotocol.
            Doubt::Refused => self.peers.may_refuse_the_name(uri),
            Doubt::Closed | Doubt::Silent | Doubt::Malformed if self.peers.is_trusted(uri) => {
                self.peers.distrust(uri);
                false
            }
            Doubt::Talks | Doubt::Closed | Doubt::Malformed => {
                self.peers.is_stranger(uri);
                true
            }
            Doubt::Silent | Doubt::Cut => self.peers.was_cut(uri),
        }
    }

    /// Connects once.
    async fn attempt(&self, request: &Request<()>, offers: bool) -> Result<Response<Link<T>>, Failure<T>> {
        let mut attempt = request.clone();
        // Appended, not inserted: the application may offer subprotocols of its own.
        if offers {
            attempt.headers_mut().append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        let mut response = match (self.dial)(attempt).await {
            Ok(response) => response,
            Err(error) => {
                let doubt = Doubt::about_refusal(&error);
                return Err(Failure { error, doubt, transport: None, unusable: None });
            }
        };
        let unusable = response.extensions().get::<Unusable>().cloned();
        let failed = |error, unusable| Failure { error, doubt: None, transport: None, unusable };
        match self.greet(&mut response, request.uri(), unusable.as_ref()).await {
            Ok(Ok((agreement, proof))) => match self.open(response, agreement).await {
                Ok(link) => {
                    if proof.is_some() {
                        self.peers.said_hello(request.uri());
                    }
                    Ok(link)
                }
                Err(error) => {
                    let doubt = proof.filter(|proof| !proof.is_given()).and_then(|_| Doubt::about_hello(&error));
                    // A server that proved an earlier hello of this URL is the likely author of this one too, and the
                    // path stalls. Its client comes back with the name, because the server may still have the session.
                    let doubt = doubt.filter(|doubt| *doubt != Doubt::Silent || !self.peers.is_trusted(request.uri()));
                    Err(Failure { doubt, ..failed(error, unusable) })
                }
            },
            Ok(Err((doubt, error))) => {
                Err(Failure { error, doubt: Some(doubt), transport: Some(response.into_body()), unusable })
            }
            Err(error) => Err(failed(error, unusable)),
        }
    }

    /// Detects whether the server knows the stack, and which capabilities are on. Returns the reason for the doubt if
    /// no hello came.
    async fn greet(
        &self,
        response: &mut Response<T>,
        uri: &Uri,
        unusable: Option<&Unusable>,
    ) -> Result<Result<(Agreement, Option<Proof>), (Doubt, Error)>, Error> {
        // A server that did not choose the name gets no hello. It might take those bytes for a message of the
        // application.
        if !is_chosen(response.headers()) {
            return Ok(Ok((Agreement::plain(None), None)));
        }
        let patience = Patience::new(self.handshake, self.peers.is_trusted(uri), unusable.is_some());
        let nonce = nonce();
        let ours = Hello { nonce: Some(nonce), ..self.wire.hello() };
        Ok(match greeting::meet(response.body_mut(), ours, patience).await? {
            Greeting::Hello(theirs) => {
                let mut agreement = self.wire.agree(theirs);
                let proof = agreement.prove(nonce);
                Ok((agreement, Some(proof)))
            }
            Greeting::Plain(first) => {
                self.peers.is_stranger(uri);
                if let Some(unusable) = unusable {
                    unusable.disown();
                }
                tracing::info!(
                    target: log::OPTIMIZED,
                    host = uri.host(),
                    "the server chose the subprotocol `tower-transport.v1` without knowing it: messages are plain"
                );
                Ok((Agreement::plain(Some(first)), None))
            }
            Greeting::Missing(doubt, error) => Err((doubt, error)),
        })
    }

    /// Opens the session or resumes it. Returns once the server has proved that its hello is its own, if it said one.
    async fn open(&self, response: Response<T>, agreement: Agreement) -> Result<Response<Link<T>>, Error> {
        let (mut parts, transport) = response.into_parts();
        // The headers are kept for as long as the connection lives.
        shrink::headers(&mut parts.headers);
        let agreed = agreement.agreed();
        let mut wire = self.wire.layer(transport, agreement);
        let link = if agreed.capabilities.resume() {
            let transport = self.resume.open(wire).await?;
            transport.insert_into(&mut parts.extensions);
            self.metrics.judged(transport.verdict());
            Optional::On { transport }
        } else {
            // The answer of a session would come behind the proof. Here nothing else has to come.
            if let Optional::On { transport } = &mut wire {
                greeting::proved(self.handshake, |cx| Pin::new(&mut *transport).poll_proof(cx)).await?;
            }
            Optional::Off { transport: wire }
        };
        // Only once the session is open: a reader of the status must not see an agreement of a connection that fails.
        self.status.connected(agreed);
        let trace = self.trace.clone().propagate(agreed.capabilities.trace_context());
        Ok(Response::from_parts(parts, trace.layer(link)))
    }
}

/// A connection that was not made, or on which no session begins.
struct Failure<T> {
    error: Error,
    /// The reason to suspect that the subprotocol is the cause.
    doubt: Option<Doubt>,
    /// The connection, if it may still be alive.
    transport: Option<T>,
    /// Takes the report that the connection is unusable, if the connector has other routes.
    unusable: Option<Unusable>,
}

#[cfg(not(target_arch = "wasm32"))]
fn nonce() -> Nonce {
    rand::random()
}

/// The number must not repeat; it is not a secret.
#[cfg(target_arch = "wasm32")]
fn nonce() -> Nonce {
    let mut nonce = Nonce::default();
    for half in nonce.chunks_mut(8) {
        half.copy_from_slice(&crate::rt::random().to_le_bytes());
    }
    nonce
}

/// Returns the value of OpenTelemetry's `network.protocol.name` for a transport.
fn transport_name<T: 'static>() -> &'static str {
    if TypeId::of::<T>() == TypeId::of::<WebSocket>() { "websocket" } else { "_OTHER" }
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
            metrics: self.metrics.clone(),
        }
    }
}

impl<T> Service<Request<()>> for Connector<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
{
    type Response = Response<Link<T>>;
    type Error = Error;
    type Future = Dialing<Link<T>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // The dial is made ready within the call, which has its own clone.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        Box::pin(self.clone().connect(request))
    }
}
