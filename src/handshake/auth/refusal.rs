//! The responses to refused requests (RFC 6750, section 3). They reveal no more than the standard codes.

use http::{HeaderValue, Response, StatusCode, header};

use crate::{Error, layer::auth::Verdict};

/// The values of `WWW-Authenticate`, created once.
#[derive(Clone, Debug)]
pub(super) struct Challenges {
    missing: HeaderValue,
    malformed: HeaderValue,
    invalid: HeaderValue,
    forbidden: HeaderValue,
}

impl Challenges {
    pub(super) const fn new() -> Self {
        Self {
            missing: HeaderValue::from_static("Bearer"),
            malformed: HeaderValue::from_static("Bearer error=\"invalid_request\""),
            invalid: HeaderValue::from_static("Bearer error=\"invalid_token\""),
            forbidden: HeaderValue::from_static("Bearer error=\"insufficient_scope\""),
        }
    }

    pub(super) fn of_realm(realm: &str) -> Result<Self, Error> {
        let is_text = |c: char| c == ' ' || (c.is_ascii_graphic() && c != '"' && c != '\\');
        if !realm.chars().all(is_text) {
            return Err(Error::config("the realm must be visible ASCII without quotes and backslashes"));
        }
        let challenge = |rest: &str| {
            HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{rest}"))
                .map_err(|error| Error::config("the realm is not a valid header value").with_source(error))
        };
        Ok(Self {
            missing: challenge("")?,
            malformed: challenge(", error=\"invalid_request\"")?,
            invalid: challenge(", error=\"invalid_token\"")?,
            forbidden: challenge(", error=\"insufficient_scope\"")?,
        })
    }

    pub(super) fn missing<R: Default>(&self) -> Response<R> {
        refuse(StatusCode::UNAUTHORIZED, Some(&self.missing))
    }

    pub(super) fn malformed<R: Default>(&self) -> Response<R> {
        refuse(StatusCode::BAD_REQUEST, Some(&self.malformed))
    }

    /// Returns the response for an error of the verifier.
    pub(super) fn of<R: Default>(&self, error: &Error) -> Response<R> {
        match Verdict::of(error) {
            Verdict::Unauthorized => refuse(StatusCode::UNAUTHORIZED, Some(&self.invalid)),
            Verdict::Forbidden => refuse(StatusCode::FORBIDDEN, Some(&self.forbidden)),
            Verdict::Unavailable => {
                let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, None);
                // Whole seconds, rounded up.
                if let Some(time) = error.retry_after() {
                    let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
                    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                }
                response
            }
        }
    }
}

fn refuse<R: Default>(status: StatusCode, challenge: Option<&HeaderValue>) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = status;
    if let Some(challenge) = challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.clone());
    }
    response
}
