//! Validation of the response that opens a session.

use http::{HeaderValue, Response, StatusCode, Uri, header};
use hyper::body::Incoming;

use super::{check_headers, downlink::Downlink, event::SESSION, line::Line};
use crate::Error;

/// Checks that the response is an event stream.
pub(super) async fn check(response: Response<Incoming>, line: &mut Line) -> Result<Response<Incoming>, Error> {
    let status = response.status();
    if status == StatusCode::OK {
        check_headers(response.headers())?;
        return Ok(response);
    }
    if let (true, Some(location)) = (status.is_redirection(), response.headers().get(header::LOCATION)) {
        let place = place(location);
        let refusal = line.refusal(response).await;
        return Err(Error::config(format!(
            "the server redirects ({status}) to {place}, which is not followed: connect to that URL instead"
        ))
        .with_answer_of(&refusal));
    }
    Err(line.refusal(response).await)
}

/// Formats the destination of a redirect without the parts that may be secret: its path, its query, its user.
fn place(location: &HeaderValue) -> String {
    let uri = location.to_str().ok().and_then(|location| location.parse::<Uri>().ok());
    let place = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.host()?, uri.port_u16())));
    match place {
        // A host name is never longer (RFC 1035, section 2.3.4).
        Some((scheme, host, port)) if scheme.len() + host.len() <= 255 => match port {
            Some(port) => format!("`{scheme}://{host}:{port}`"),
            None => format!("`{scheme}://{host}`"),
        },
        _ => "another place".to_owned(),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_redirect_no_more_is_told_than_scheme_and_host() {
        for (location, told) in [
            ("https://a.example/login?token=secret#x", "`https://a.example`"),
            ("http://user:secret@a.example:8080/", "`http://a.example:8080`"),
            ("/login?token=secret", "another place"),
            ("//a.example/secret", "another place"),
            ("secret", "another place"),
            ("", "another place"),
        ] {
            assert_eq!(place(&HeaderValue::from_static(location)), told, "{location}");
        }
        let long = format!("https://{}/", "a".repeat(60_000));
        assert_eq!(place(&HeaderValue::from_str(&long).unwrap()), "another place");
    }
}
