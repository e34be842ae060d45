//! Validation of a response as an event stream.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::{Error, transport::sse::line::Line};

/// Checks a response that is not a redirect.
pub(super) async fn check(answer: Response<Incoming>, line: &mut Line) -> Result<Response<Incoming>, Error> {
    if answer.status() == StatusCode::OK {
        check_headers(answer.headers())?;
        return Ok(answer);
    }
    Err(line.refusal(answer).await)
}

/// Checks that the headers are those of an event stream.
pub(in super::super) fn check_headers(headers: &HeaderMap) -> Result<(), Error> {
    let text =
        |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).escape_debug().take(100).collect::<String>();
    let content_type = headers.get(header::CONTENT_TYPE).map(text).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("text/event-stream") {
        return Err(Error::protocol(format!(
            "the server answered with the content type `{content_type}`, but text/event-stream was requested"
        )));
    }
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    match encodings.find(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        None => Ok(()),
        Some(encoding) => Err(Error::protocol(format!(
            "the server answered with the content encoding `{}`, which was not requested",
            text(encoding)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(header::HeaderName, &'static str)]) -> Result<(), String> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect();
        check_headers(&headers).map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_stream_may_have_parameters_and_any_case() {
        for good in ["text/event-stream", "Text/Event-Stream; charset=utf-8", "text/event-stream;x"] {
            assert_eq!(
                check(&[(header::CONTENT_TYPE, good), (header::CONTENT_ENCODING, "identity")]),
                Ok(()),
                "{good}"
            );
        }
    }

    #[test]
    fn another_type_or_an_encoding_is_refused_by_its_name() {
        assert!(check(&[(header::CONTENT_TYPE, "text/html")]).unwrap_err().contains("`text/html`"));
        assert!(check(&[(header::CONTENT_TYPE, "text/event-stream-x")]).is_err());
        assert!(check(&[]).is_err());
        let encoded = [(header::CONTENT_TYPE, "text/event-stream"), (header::CONTENT_ENCODING, "gzip")];
        assert!(check(&encoded).unwrap_err().contains("`gzip`"));
    }
}
