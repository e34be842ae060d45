//! The part of opening a session that does not depend on the HTTP client.

use http::HeaderValue;

use super::event::SESSION;
use crate::{Error, transport::sse::downlink::Downlink};

/// 64 KiB less than the default limit of nginx (`client_max_body_size 1m`), the lowest among the usual proxies.
pub(super) const MAX_POST: usize = (1 << 20) - (64 << 10);

/// The minimum of [`SseDuplexConnector::max_post`], in bytes.
pub(super) const MIN_POST: usize = 1024;

/// Reads the event that opens the session.
pub(super) async fn token(down: &mut Downlink) -> Result<HeaderValue, Error> {
    const NOT_OPENED: &str = "the event stream does not begin with the event `session` and a token";

    match std::future::poll_fn(|cx| down.poll_event(cx)).await? {
        Some(event) if event.event_type() == SESSION => {
            let token = event.data();
            // The server chooses the token; it only has to be valid in a header.
            let is_token = (16..=256).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
            let token = HeaderValue::from_str(token).ok().filter(|_| is_token);
            let mut token = token.ok_or_else(|| Error::protocol(NOT_OPENED))?;
            token.set_sensitive(true);
            Ok(token)
        }
        Some(_) => Err(Error::protocol(NOT_OPENED)),
        None => Err(Error::closed("the server ended the event stream before it opened the session")),
    }
}
