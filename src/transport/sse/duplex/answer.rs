//! A client's look at the answer that is to open a session.

use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;

use super::{check_headers, downlink::Downlink, event::SESSION, line::Line};
use crate::Error;

/// Whether the answer is an event stream.
pub(super) async fn check(response: Response<Incoming>, line: &mut Line) -> Result<Response<Incoming>, Error> {
    let status = response.status();
    if status == StatusCode::OK {
        check_headers(response.headers())?;
        return Ok(response);
    }
    if let (true, Some(location)) = (status.is_redirection(), response.headers().get(header::LOCATION)) {
        let location = String::from_utf8_lossy(location.as_bytes()).escape_debug().to_string();
        return Err(Error::config(format!("the server redirects ({status}) to `{location}`: connect to that")));
    }
    Err(line.refusal(response).await)
}

/// Reads the event that opens the session.
pub(super) async fn token(down: &mut Downlink) -> Result<HeaderValue, Error> {
    const NOT_OPENED: &str = "the event stream does not begin with the event `session` and a token";

    match std::future::poll_fn(|cx| down.poll_event(cx)).await? {
        Some(event) if event.event_type() == SESSION => {
            let token = event.data();
            // The server's own business, but for what a header can hold.
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
