use std::{future::Future, pin::pin, sync::Arc};

use futures_util::future::{Either, select};
use http::{HeaderValue, StatusCode};

use super::{
    SessionServer,
    guard::Verdict,
    live::Seat,
    run::{Begun, run},
    session_server::{Inner, Pages},
};
use crate::{
    CloseCode, CloseFrame, log, rt,
    stack::OptimizedAcceptor,
    transport::webtransport::{Incoming, SessionLimits, WebTransportServer},
};

impl SessionServer {
    /// Serves WebTransport next to the [HTTP transports](Self::http), on `server`'s port. Returns a future to spawn, or
    /// to race with whatever else ends the program. A session consists of its first bidirectional stream.
    ///
    /// `server` gets the limits of this server, and the origins that are allowed here in addition to its own. Its
    /// sessions have room for that one stream ([`SessionLimits::one_stream`]), unless it has its own
    /// [`session_limits`](WebTransportServer::session_limits). They begin [at one path](Self::web_transport_at), unless
    /// it has its own [`path`](WebTransportServer::path). Another path is refused with 404 before the guard is called.
    ///
    /// The future completes when the server's socket is gone, or once [`close`](Self::close) was called and the last
    /// session has ended; then it closes `server`. Until then new clients are refused (503).
    ///
    /// # Cancel safety
    ///
    /// Dropping this future stops accepting clients; existing sessions continue.
    pub fn web_transport(&self, server: WebTransportServer) -> impl Future<Output = ()> + Send + use<> {
        let inner = self.inner.clone();
        async move {
            let mut server = server
                .limits(inner.acceptor.transport_limits())
                .path_by_default(&inner.web_transport_at)
                .session_limits_by_default(SessionLimits::one_stream())
                .with_subprotocol(HeaderValue::from_static(OptimizedAcceptor::SUBPROTOCOL));
            match &inner.origins {
                Pages::Any => server = server.allow_any_origin(),
                Pages::Of(origins) => {
                    server = origins.iter().fold(server, |server, origin| server.allow_origin(origin.clone()));
                }
            }
            let gone = async {
                inner.acceptor.closed().await;
                inner.live.emptied().await;
            };
            let mut gone = pin!(gone);
            // Shutdown is checked first, so that clients that keep coming cannot delay it.
            while let Either::Right((Some(incoming), _)) = select(gone.as_mut(), pin!(server.accept())).await {
                open(&inner, incoming);
            }
            server.close(CloseFrame::new(CloseCode::AWAY, "the server goes away")).await;
        }
    }
}

fn open(inner: &Arc<Inner>, incoming: Incoming) {
    match inner.enter(incoming.parts()) {
        Ok(seat) => {
            rt::spawn(seat.attend(|seat| run(inner.clone().admit(incoming, seat))));
        }
        Err(reason) => {
            log::refused("webtransport", StatusCode::SERVICE_UNAVAILABLE, reason, incoming.parts());
            rt::spawn(refuse(incoming, StatusCode::SERVICE_UNAVAILABLE));
        }
    }
}

async fn refuse(incoming: Incoming, status: StatusCode) {
    if let Err(error) = incoming.reject(status).await {
        tracing::debug!(target: log::STACK, %error, %status, "a client could not be told that it is refused");
    }
}

impl Inner {
    /// Calls the guard, as for a request over HTTP.
    async fn admit(self: Arc<Self>, mut incoming: Incoming, seat: Seat) -> Option<Begun> {
        let empty = http::Request::new(()).into_parts().0;
        let mut parts = std::mem::replace(incoming.parts_mut(), empty);
        if let Some(guard) = &self.guard {
            match Verdict::of(guard.check(parts).await) {
                Verdict::Admitted(admitted, _) => parts = *admitted,
                Verdict::Refused(status, _) => {
                    log::not_admitted(status);
                    // The seat is counted for all transports, and the client may take its time.
                    drop(seat);
                    refuse(incoming, status).await;
                    return None;
                }
            }
        }
        // A guard may have removed its credentials from the headers.
        incoming.parts_mut().headers.clone_from(&parts.headers);
        let session = incoming.accept().await.ok()?;
        match rt::timeout(self.acceptor.limits().handshake, session.accept()).await {
            Ok(Ok(stream)) => return self.begin(stream.into(), parts, seat).await,
            Ok(Err(error)) => tracing::debug!(target: log::STACK, %error, "a session ended before it opened a stream"),
            Err(_) => session.close(CloseFrame::new(CloseCode::PROTOCOL, "no stream was opened in time")),
        }
        None
    }
}
