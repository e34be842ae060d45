use http::{Request, Response};
use tower::ServiceExt;

use super::{
    AdaptiveTransport, TransportKind,
    race::{Dial, Dialling},
};
use crate::{
    Connect, Error,
    transport::{sse::SseDuplexConnector, websocket::WebSocketConnector, webtransport::WebTransportConnector},
};

/// The real connectors.
#[derive(Clone, Debug, Default)]
pub(super) struct Connectors {
    pub(super) web_transport: WebTransportConnector,
    pub(super) web_socket: WebSocketConnector,
    pub(super) sse: SseDuplexConnector,
}

impl Connectors {
    /// Returns the proxy or the Unix socket through which `kind` connects.
    pub(super) fn way(&self, kind: TransportKind) -> Option<String> {
        match kind {
            TransportKind::WebTransport => None,
            TransportKind::WebSocket => self.web_socket.way(),
            TransportKind::Sse => self.sse.way(),
        }
    }
}

impl Dial for Connectors {
    type Transport = AdaptiveTransport;

    fn dial(&self, kind: TransportKind, request: Request<()>) -> Dialling<AdaptiveTransport> {
        match kind {
            TransportKind::WebTransport => dial(self.web_transport.clone(), request),
            TransportKind::WebSocket => dial(self.web_socket.clone(), request),
            TransportKind::Sse => dial(self.sse.clone(), request),
        }
    }
}

fn dial<C>(connector: C, request: Request<()>) -> Dialling<AdaptiveTransport>
where
    C: Connect<ConnectError = Error, Transport: Into<AdaptiveTransport>, Future: Send> + Send + 'static,
{
    Box::pin(async move { Ok(Response::map(connector.oneshot(request).await?, Into::into)) })
}
