use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderValue, Request, StatusCode, Uri, Version, header, request};
use quinn::VarInt;
use web_transport_quinn::{self as wtq, proto::ConnectResponse};

use super::{Session, error, session::Registry};
use crate::{
    Error, Limits, log, rt,
    transport::{
        drain::{Drain, Seat},
        origin::Origins,
        permit::ConnectionPermit,
        refusal::Refusal,
        setters::in_time,
        subprotocol::{self, choose},
    },
};

/// `H3_NO_ERROR` (RFC 9114, section 8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);

/// The configuration of accepted sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct AcceptConfig {
    pub(super) limits: Limits,
    /// The only accepted path, or `None` for every path.
    pub(super) path: Option<Arc<str>>,
    pub(super) subprotocols: Vec<HeaderValue>,
    pub(super) origins: Origins,
    pub(super) drain: Option<Drain>,
}

/// A client's request for a session, waiting for an answer. Dropping it cuts the client off without an answer.
pub struct Incoming {
    request: wtq::Request,
    parts: request::Parts,
    accept: Arc<AcceptConfig>,
    sessions: Arc<Registry>,
    /// The place in the drain until the session has a stream, which has one of its own.
    seat: Option<Arc<Seat>>,
}

impl Incoming {
    /// Returns `None` for a path other than the server's, for a page of an origin that is not allowed, and once the
    /// server drains: those are rejected.
    pub(super) fn new(request: wtq::Request, accept: Arc<AcceptConfig>, sessions: Arc<Registry>) -> Option<Self> {
        let parts = parts(&request)?;
        let checked = match &accept.path {
            Some(path) if **path != *parts.uri.path() => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "the server accepts WebTransport sessions at another path (`WebTransportServer::path`)",
            )),
            _ => match accept.limits.check_headers(&parts.headers) {
                Ok(()) => accept.origins.check(&parts.uri, &parts.headers),
                Err(excess) => Err(Refusal::large_head(excess)),
            },
        };
        let seat = checked.and_then(|()| accept.drain.as_ref().map(Drain::admit).transpose());
        let mut incoming = Self { request, parts, accept, sessions, seat: None };
        let refusal = match seat {
            Ok(seat) => {
                incoming.seat = seat;
                return Some(incoming);
            }
            Err(refusal) => refusal,
        };
        let Refusal { status, .. } = refusal.logged("webtransport", &incoming.parts);
        rt::spawn(async move {
            let _ = incoming.reject(status).await;
        });
        None
    }

    /// Returns the request. The method is CONNECT, the URI is complete, and the headers are the client's. The
    /// subprotocols that it offers (`wt-available-protocols`) are in `Sec-WebSocket-Protocol`, as on every transport.
    /// The client's address ([`SocketAddr`](std::net::SocketAddr), [`IpAddr`](std::net::IpAddr)) is in the extensions.
    #[must_use]
    pub fn parts(&self) -> &request::Parts {
        &self.parts
    }

    /// Returns the request for modification. The handler of [`serve`](super::WebTransportServer::serve) is not involved
    /// here, but guards that keep a value in the extensions are.
    pub fn parts_mut(&mut self) -> &mut request::Parts {
        &mut self.parts
    }

    /// Accepts the session, with the server's subprotocol that the client offers.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true if the client is gone, and one for which
    /// [`is_timeout`](Error::is_timeout) is true if it does not take the answer within
    /// [`Limits::handshake`](crate::Limits::handshake).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the client off.
    pub async fn accept(self) -> Result<Session, Error> {
        self.accept_with_parts().await.map(|(session, ..)| session)
    }

    pub(super) async fn accept_with_parts(mut self) -> Result<(Session, request::Parts, Option<Arc<Seat>>), Error> {
        let chosen = choose(&self.accept.subprotocols, &self.parts.headers).and_then(|name| name.to_str().ok());
        let answer = match chosen {
            Some(name) => ConnectResponse::OK.with_protocol(name),
            None => ConnectResponse::OK,
        };
        let subprotocol = chosen.map(Box::from);
        let (limits, since) = (self.accept.limits, rt::Instant::now());
        let session = respond(self.request, answer, limits.handshake).await?;
        log::accepted("webtransport", StatusCode::OK, since.elapsed(), log::peer(&self.parts.extensions));
        let permit = ConnectionPermit::take(&mut self.parts.extensions);
        let drain = self.accept.drain.clone();
        Ok((Session::accepted(session, limits, subprotocol, self.sessions, permit, drain), self.parts, self.seat))
    }

    /// Rejects the session with this status, and waits until the client has received it, at most
    /// [`Limits::close`](crate::Limits::close). There is no body, and browsers do not tell the page the status.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true if the client is gone, and one for which
    /// [`is_config`](Error::is_config) is true if the status means success.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cuts the client off, possibly before it has seen the status.
    pub async fn reject(self, status: StatusCode) -> Result<(), Error> {
        if status.is_success() || status.is_informational() {
            return Err(Error::config(format!("{status} does not reject a session; use 4xx or 5xx")));
        }
        let limits = self.accept.limits;
        // Answered as a session, so that HTTP/3's own streams stay open: a client treats their end as a protocol error.
        let refused = respond(self.request, ConnectResponse::new(status), limits.handshake).await?;
        let _ = rt::timeout(limits.close, refused.closed()).await;
        quinn::Connection::close(&refused, NO_ERROR, b"");
        Ok(())
    }
}

async fn respond(request: wtq::Request, answer: ConnectResponse, limit: Duration) -> Result<wtq::Session, Error> {
    let answered = async { request.respond(answer).await.map_err(error::respond) };
    in_time(limit, "the client did not take the answer", answered).await
}

/// Returns the request as an HTTP request, or `None` if its URL is not valid.
fn parts(request: &wtq::Request) -> Option<request::Parts> {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = http::Method::CONNECT;
    parts.version = Version::HTTP_3;
    parts.uri = Uri::try_from(request.url.as_str()).ok()?;
    parts.headers = request.headers.clone();
    parts.headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<_> = request.protocols.iter().filter_map(|name| subprotocol::parse(name).ok()).collect();
    subprotocol::offer(&mut parts.headers, &offered).ok()?;
    for secret in [header::AUTHORIZATION, header::COOKIE] {
        parts.headers.get_mut(secret).into_iter().for_each(|value: &mut HeaderValue| value.set_sensitive(true));
    }
    let address = request.conn().remote_address();
    parts.extensions.insert(address);
    parts.extensions.insert(address.ip());
    Some(parts)
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query is omitted: a page, which cannot send headers, puts its token there.
        f.debug_struct("Incoming").field("path", &self.parts.uri.path()).finish_non_exhaustive()
    }
}
