use std::ops::Deref;

use http::HeaderMap;

/// The maximum length of an id, in bytes.
const LIMIT: usize = 1024;

/// The id of the last event that a reconnecting client has received: its `Last-Event-ID` header (WHATWG HTML, section
/// 9.2.3).
///
/// The client chooses the value: it may be made up, from the future, or another user's. Look it up among the events
/// that this user may see, and treat an unknown id as absent.
///
/// It dereferences to `str`. With the feature `axum`, a handler takes `Option<LastEventId>` as an argument.
///
/// ```
/// use http::HeaderMap;
/// use tower_transport::transport::sse::LastEventId;
///
/// let mut headers = HeaderMap::new();
/// assert!(LastEventId::of(&headers).is_none()); // comes for the first time
///
/// headers.insert("last-event-id", "42".parse()?);
/// let seen = LastEventId::of(&headers).and_then(|id| id.parse::<u64>().ok());
/// assert_eq!(seen, Some(42));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LastEventId(Box<str>);

impl LastEventId {
    /// Returns the id in these request headers. Returns `None` without the header, and if the value is not an id that a
    /// server could have given: empty, not UTF-8, or over 1 KiB. Such a client starts from the beginning. If there are
    /// several headers, the first one counts.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get("last-event-id")?.as_bytes();
        if value.is_empty() || value.len() > LIMIT {
            return None;
        }
        Some(Self(std::str::from_utf8(value).ok()?.into()))
    }

    /// Returns the id as a `str`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for LastEventId {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Extracts the id as [`LastEventId::of`] does.
#[cfg(feature = "axum")]
impl<S: Sync> axum_core::extract::OptionalFromRequestParts<S> for LastEventId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        _: &S,
    ) -> Result<Option<Self>, std::convert::Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(value: &[u8]) -> Option<LastEventId> {
        let mut headers = HeaderMap::new();
        headers.insert("last-event-id", HeaderValue::from_bytes(value).unwrap());
        LastEventId::of(&headers)
    }

    #[test]
    fn an_id_is_any_utf_8_up_to_1_kib() {
        assert_eq!(of("h\u{e9}llo \u{2713}".as_bytes()).unwrap().as_str(), "h\u{e9}llo \u{2713}");
        assert_eq!(of(&[b'a'; LIMIT]).unwrap().len(), LIMIT);
    }

    #[test]
    fn what_no_server_could_have_given_is_none() {
        assert_eq!(of(b""), None);
        assert_eq!(of(b"a\xffb"), None);
        assert_eq!(of(&[b'a'; LIMIT + 1]), None);
        assert_eq!(LastEventId::of(&HeaderMap::new()), None);
    }
}
