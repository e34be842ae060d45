//! WebSocket (RFC 6455), client and server.

#[cfg(feature = "axum")]
mod axum;
mod connector;
mod dial;
#[cfg(test)]
mod differential;
mod engine;
mod exchange;
mod frames;
mod handshake;
mod incoming;
mod mask;
mod native;
mod origin;
mod read_buffer;
mod socket;
mod target;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;
mod write_buffer;

use http::HeaderValue;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use self::axum::WebSocketHandshake;
pub use self::{
    connector::{Connecting, WebSocketConnector},
    native::WebSocket,
    socket::Socket,
    upgrade::WebSocketUpgrade,
};
use crate::Error;

/// A subprotocol's name as a header value (RFC 6455, section 4.1: a token of RFC 9110, section 5.6.2).
fn subprotocol(name: &str) -> Result<HeaderValue, Error> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match HeaderValue::from_str(name) {
        Ok(value) if !name.is_empty() && name.chars().all(is_token) => Ok(value),
        _ => {
            Err(Error::config(format!("`{}` is not a subprotocol: use letters, digits and `.-_`", name.escape_debug())))
        }
    }
}
