//! Request and response heads of both ends. Pure.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request};

use super::{
    body::SseDuplexBody,
    names::{MESSAGES, PARTS, PARTS_VERSION, PROTOCOL, SEQUENCE, SESSION, number},
    session::{Session, Sessions},
    token::Token,
};
use crate::{
    Limits,
    transport::{
        origin::{Origins, check_host},
        refusal::Refusal,
        subprotocol::one,
    },
};

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The purpose of a request.
#[derive(Debug)]
pub(super) enum Ask {
    Open,
    /// Messages of this session, the first of which has this number.
    Send(Arc<Session>, u64),
    /// A browser's preflight for a page of another origin.
    Preflight,
}

const fn refuse<T>(status: StatusCode, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal::new(status, reason))
}

/// Shows the subprotocols that a page offers where other clients offer them.
pub(super) fn offer_of_a_page(headers: &mut HeaderMap) {
    if let Some(offered) = headers.remove(PROTOCOL)
        && !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL)
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
}

/// Returns whether a request cannot open a session: a POST brings messages of one, and a preflight asks for permission
/// to send it. For guards, which run before the server knows the session.
#[cfg(feature = "limit")]
pub(crate) fn opens_nothing(parts: &request::Parts) -> bool {
    match parts.method {
        Method::POST => is(&parts.headers, &header::CONTENT_TYPE, &MESSAGES),
        Method::OPTIONS => true,
        _ => false,
    }
}

/// Classifies a request on the server.
pub(super) fn ask(
    parts: &request::Parts,
    limits: &Limits,
    origins: &Origins,
    sessions: &Sessions,
) -> Result<Ask, Refusal> {
    limits.check_headers(&parts.headers).map_err(Refusal::large_head)?;
    check_host(parts)?;
    // Before all else, so that a page of another origin learns nothing about the sessions.
    origins.check(&parts.uri, &parts.headers)?;
    let headers = &parts.headers;
    match parts.method {
        Method::GET if accepts_events(headers) => Ok(Ask::Open),
        Method::GET => refuse(
            StatusCode::NOT_ACCEPTABLE,
            "this is an endpoint of server-sent events: ask for `Accept: text/event-stream`",
        ),
        Method::OPTIONS => Ok(Ask::Preflight),
        Method::POST => {
            if !is(headers, &header::CONTENT_TYPE, &MESSAGES) {
                return refuse(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "messages are sent as `application/vnd.tower-transport.messages`",
                );
            }
            let Some(number) = number(headers) else {
                return refuse(StatusCode::BAD_REQUEST, "one Tower-Transport-Sequence, a number, is needed");
            };
            // A token that is not well formed, one that is unknown and one that is over look the same to a stranger.
            let token = one(headers, &SESSION).and_then(Token::parse);
            match token.and_then(|token| sessions.find(token)) {
                Some(session) => Ok(Ask::Send(session, number)),
                None => refuse(StatusCode::NOT_FOUND, "there is no such session"),
            }
        }
        _ => refuse(StatusCode::METHOD_NOT_ALLOWED, "GET opens a session here, POST sends in it"),
    }
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = values.flat_map(|value| value.split(','));
    types.any(|accepted| is_type(accepted, &EVENT_STREAM))
}

/// Returns whether a header names a media type, with any parameters.
pub(super) fn is(headers: &HeaderMap, name: &HeaderName, media_type: &HeaderValue) -> bool {
    one(headers, name).and_then(|value| value.to_str().ok()).is_some_and(|value| is_type(value, media_type))
}

fn is_type(value: &str, media_type: &HeaderValue) -> bool {
    let essence = value.split_once(';').map_or(value, |(essence, _)| essence);
    essence.trim().as_bytes().eq_ignore_ascii_case(media_type.as_bytes())
}

/// The CORS headers that allow a page of an allowed origin to read the response (Fetch, section 3.2).
#[derive(Debug)]
pub(super) struct Cors(Option<HeaderValue>);

impl Cors {
    /// Returns the headers for a page that may not read the response.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// Returns the headers for a request whose origin was checked.
    pub(super) fn of(headers: &HeaderMap, origins: &Origins) -> Self {
        Self(origins.cors(headers.get(header::ORIGIN)))
    }

    pub(super) fn put(&self, headers: &mut HeaderMap) {
        let Some(origin) = &self.0 else { return };
        if origin != "*" {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        let exposed =
            HeaderValue::from_static("sec-websocket-protocol, tower-transport-parts, tower-transport-sequence");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }

    /// Returns the response to a preflight.
    pub(super) fn preflight(&self) -> Response<SseDuplexBody> {
        let mut response = status(StatusCode::NO_CONTENT);
        if self.0.is_some() {
            let headers = response.headers_mut();
            self.put(headers);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static(
                    "authorization, content-type, tower-transport-protocol, tower-transport-sequence, \
                     tower-transport-session",
                ),
            );
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        response
    }
}

/// Returns a response without a body.
pub(super) fn status(status: StatusCode) -> Response<SseDuplexBody> {
    let mut response = Response::new(SseDuplexBody::default());
    *response.status_mut() = status;
    response
}

/// Returns a rejection as a response.
pub(super) fn refusal(refusal: Refusal) -> Response<SseDuplexBody> {
    refusal.into_response("GET, OPTIONS, POST").map(SseDuplexBody::text)
}

/// Returns the response to a POST, with the session's progress.
pub(super) fn progress(code: StatusCode, due: u64) -> Response<SseDuplexBody> {
    let mut response = status(code);
    response.headers_mut().insert(SEQUENCE, due.into());
    response
}

/// Returns the head of an event stream.
pub(super) fn stream(subprotocol: Option<&HeaderValue>, body: SseDuplexBody) -> Response<SseDuplexBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, EVENT_STREAM);
    // The stream contains a secret, and no proxy may buffer it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    headers.insert(PARTS, PARTS_VERSION);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(subprotocol) = subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol.clone());
    }
    response
}
