//! Request and response heads that hold no more memory than they need.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Uri, request};

/// Copies the URI and the header values of a request into memory of their own size.
///
/// In hyper they are slices of the connection's 8 KiB read buffer. A handler that keeps the parts of its request for
/// the length of its session would hold all of it.
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
pub(crate) fn request(parts: &mut request::Parts) {
    headers(&mut parts.headers);
    match Uri::from_maybe_shared(Bytes::from(parts.uri.to_string())) {
        Ok(uri) if uri == parts.uri => parts.uri = uri,
        // A URI that does not round-trip through its text form stays as it is.
        _ => {}
    }
}

/// Copies header values into a single allocation.
pub(crate) fn headers(headers: &mut HeaderMap) {
    let mut copied = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    headers.values().for_each(|value| copied.extend_from_slice(value.as_bytes()));
    let mut copied = copied.freeze();
    for value in headers.values_mut() {
        let bytes = copied.split_to(value.len().min(copied.len()));
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(bytes) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_head_says_the_same_and_holds_none_of_the_buffer_that_it_was_read_into() {
        let buffer = Bytes::from(vec![b'a'; 8192]);
        let mut parts = Request::get(Uri::from_maybe_shared(Bytes::from_static(b"/feed?x=1")).unwrap())
            .body(())
            .unwrap()
            .into_parts()
            .0;
        for name in ["cookie", "x-one", "x-one"] {
            parts.headers.append(name, HeaderValue::from_maybe_shared(buffer.slice(..10)).unwrap());
        }
        parts.headers.append("x-two", HeaderValue::from_maybe_shared(buffer.slice(5..6)).unwrap());
        parts.headers.append("x-empty", HeaderValue::from_static(""));
        parts.headers.get_mut("cookie").unwrap().set_sensitive(true);
        let before = parts.clone();
        request(&mut parts);
        assert_eq!((&parts.uri, &parts.headers), (&before.uri, &before.headers));
        assert!(parts.headers["cookie"].is_sensitive() && !parts.headers["x-one"].is_sensitive());
        drop(before);
        assert!(buffer.is_unique(), "something still holds the buffer");
    }

    #[test]
    fn a_uri_of_every_form_stays_as_it_was() {
        for uri in ["/", "*", "/a?b=c", "http://host:80/a?b", "host:443", "/%C3%BC?"] {
            let uri = Uri::from_static(uri);
            let mut parts = Request::get(uri.clone()).body(()).unwrap().into_parts().0;
            request(&mut parts);
            assert_eq!(parts.uri, uri);
        }
    }
}
