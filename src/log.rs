//! Events for operators, through [tracing](https://docs.rs/tracing). Without the feature `tracing`, every function here
//! does nothing. Targets and levels are public: `lib.rs` documents them for users.
//!
//! A rejected handshake logs the status, the reason (with the setting that would allow it), the peer's address if
//! known, the page's origin and the path. Queries, cookies and credentials are never logged. Nothing here is on the
//! message path.
#![allow(dead_code, unused_imports, unused_variables, reason = "which of them are used depends on the features")]

use std::{fmt, io, net};

use http::{Extensions, HeaderMap, Request, StatusCode, Uri, header, request};

use crate::{CloseCode, CloseFrame, Error};

// The targets of all events: public modules, which do not change when files move. A filter for one of them is stable.

pub(crate) const HANDSHAKE: &str = "tower_transport::handshake";
pub(crate) const TRANSPORT: &str = "tower_transport::transport";
pub(crate) const LAYER: &str = "tower_transport::layer";
pub(crate) const SERVICE: &str = "tower_transport::service";
pub(crate) const STACK: &str = "tower_transport::stack";

/// The maximum length of a peer-supplied string in one field.
const LONGEST: usize = 128;

/// Returns the client's address, if the server has put it into the request's extensions.
pub(crate) fn peer(extensions: &Extensions) -> Option<Peer> {
    let address = extensions.get::<net::SocketAddr>().copied().map(Peer::Socket);
    address.or_else(|| extensions.get::<net::IpAddr>().copied().map(Peer::Ip))
}

/// Copies the client's address to other extensions.
pub(crate) fn copy_peer(from: &Extensions, to: &mut Extensions) {
    match peer(from) {
        Some(Peer::Socket(address)) => drop(to.insert(address)),
        Some(Peer::Ip(address)) => drop(to.insert(address)),
        None => {}
    }
}

/// The address of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Socket(net::SocketAddr),
    Ip(net::IpAddr),
}

impl Peer {
    pub(crate) const fn address(self) -> net::IpAddr {
        match self {
            Self::Socket(address) => address.ip(),
            Self::Ip(address) => address,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// A string supplied by the peer, escaped and truncated.
pub(crate) struct Quoted<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.0.get(..LONGEST);
        write!(f, "{}", cut.unwrap_or(self.0).escape_ascii())?;
        if cut.is_some() { f.write_str("...") } else { Ok(()) }
    }
}

/// The head of a request, in whichever representation it is available.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> From<&'a request::Parts> for Head<'a> {
    fn from(parts: &'a request::Parts) -> Self {
        Self { uri: &parts.uri, headers: &parts.headers, extensions: &parts.extensions }
    }
}

impl<'a, B> From<&'a Request<B>> for Head<'a> {
    fn from(request: &'a Request<B>) -> Self {
        Self { uri: request.uri(), headers: request.headers(), extensions: request.extensions() }
    }
}

/// Logs that a handshake, or a request that should have been one, was rejected.
pub(crate) fn refused<'a>(transport: &'static str, status: StatusCode, reason: &str, head: impl Into<Head<'a>>) {
    #[cfg(feature = "tracing")]
    {
        let Head { uri, headers, extensions } = head.into();
        use tracing::field::display;

        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    target: HANDSHAKE,
                    transport,
                    status = status.as_u16(),
                    reason,
                    peer = peer(extensions).map(display),
                    origin = headers.get(header::ORIGIN).map(|origin| display(Quoted(origin.as_bytes()))),
                    path = %Quoted(uri.path().as_bytes()),
                    "refused a handshake"
                )
            };
        }
        match status {
            status if status.is_server_error() => event!(warn),
            // With a proxy that does not forward the upgrade, every client gets a 426.
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::UPGRADE_REQUIRED => event!(info),
            _ => event!(debug),
        }
    }
}

/// Logs that this end closes a connection because of something the peer sent.
pub(crate) fn closing(transport: &'static str, code: CloseCode, error: &Error, peer: Option<Peer>) {
    #[cfg(feature = "tracing")]
    {
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    target: TRANSPORT,
                    transport,
                    code = code.get(),
                    %error,
                    peer = peer.map(tracing::field::display),
                    "closed a connection because of what the peer sent"
                )
            };
        }
        if code == CloseCode::TOO_BIG { event!(info) } else { event!(debug) }
    }
}

/// Logs that a layer of this end closed a connection.
pub(crate) fn closed_by_layer(frame: &CloseFrame, error: &Error) {
    #[cfg(feature = "tracing")]
    {
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(target: LAYER, code = frame.code().get(), %error, "a layer closed a connection")
            };
        }
        match frame.code() {
            CloseCode::TOO_BIG | CloseCode::POLICY => event!(info),
            _ => event!(debug),
        }
    }
}

/// Logs that a guard admitted a request over no transport. Guards of this crate log the reason.
pub(crate) fn not_admitted(status: StatusCode) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: HANDSHAKE, status = status.as_u16(), "a guard refused a session");
}

/// Logs that a full server rejects a client before the client has sent a request.
pub(crate) fn full(transport: &'static str, reason: &str, peer: net::SocketAddr) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: HANDSHAKE, transport, reason, %peer, "refused a connection");
}

/// Logs that a server of calls could not send an answer, because the transport rejected it.
pub(crate) fn answer_rejected(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: SERVICE, %error, "an answer was rejected by the transport");
}

/// Logs that a driver, a server of calls or an event stream gave up a connection whose close took too long.
pub(crate) fn close_cut(error: &Error, lost: usize) {
    #[cfg(feature = "tracing")]
    tracing::warn!(target: TRANSPORT, %error, lost, "cut a connection that could not be closed");
}

/// Logs that a server of calls dropped a request that it could not read.
pub(crate) fn request_unreadable(error: &Error) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: SERVICE, %error, "a request could not be read");
}

/// Logs that one incoming connection failed before it was accepted.
pub(crate) fn connection_failed(error: &io::Error) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: TRANSPORT, %error, "a connection failed before it was accepted");
}

/// Logs that the listener failed.
pub(crate) fn accept_failed(error: &io::Error, again_in: std::time::Duration) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        target: TRANSPORT,
        %error,
        ?again_in,
        "cannot accept connections; is the limit of open files (ulimit -n) reached?"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_peer_are_escaped_and_cut() {
        assert_eq!(Quoted(b"https://a.example").to_string(), "https://a.example");
        assert_eq!(Quoted(b"a\r\nb\x1b[0m\"").to_string(), "a\\r\\nb\\x1b[0m\\\"");
        let long = Quoted(&[b'a'; 5000]).to_string();
        assert_eq!(long.len(), LONGEST + 3);
        assert!(long.ends_with("..."));
    }

    #[test]
    fn the_address_of_a_peer_is_that_of_the_extensions() {
        let mut extensions = Extensions::new();
        assert!(peer(&extensions).is_none());
        extensions.insert(net::IpAddr::from([192, 0, 2, 1]));
        assert_eq!(peer(&extensions).unwrap().to_string(), "192.0.2.1");
        extensions.insert(net::SocketAddr::from(([192, 0, 2, 1], 443)));
        assert_eq!(peer(&extensions).unwrap().to_string(), "192.0.2.1:443");
    }
}
