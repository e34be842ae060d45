//! Where a redirect leads. Pure.

use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::{Error, transport::dial::Target};

/// Whether a request without a body is made again elsewhere on this status (Fetch, section 2.2.6).
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where the answer to a request of `from` leads.
pub(super) fn follow(from: &Uri, location: Option<&HeaderValue>) -> Result<Uri, Error> {
    let location = location.ok_or_else(|| Error::protocol("the server redirects, but does not say where to"))?;
    // What it says is not repeated: it may carry a token.
    let unusable = || Error::protocol("the server redirects to what is no URL of http:// or https://");
    let to = location.to_str().ok().and_then(|location| resolve(from, location)).ok_or_else(unusable)?;
    let target = Target::parse(&to).map_err(|error| unusable().with_source(error))?;
    if Target::parse(from)?.secure && !target.secure {
        return Err(Error::protocol("the server redirects from https:// to http://, which is not followed"));
    }
    Ok(to)
}

/// Takes off what is one origin's business (RFC 6454), where a redirect leads to another.
pub(super) fn forget_credentials(headers: &mut HeaderMap, from: &Target, to: &Target) {
    let same = from.secure == to.secure && from.port == to.port && from.host.eq_ignore_ascii_case(&to.host);
    if !same {
        for name in [header::AUTHORIZATION, header::COOKIE, header::HOST, header::PROXY_AUTHORIZATION] {
            headers.remove(name);
        }
    }
}

/// A reference, resolved (RFC 3986, section 5.2).
fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next()?;
    let scheme = base.scheme_str()?;
    if let Some((before, _)) = reference.split_once(':')
        && !before.contains(['/', '?'])
    {
        return reference.parse().ok();
    }
    if reference.starts_with("//") {
        return format!("{scheme}:{reference}").parse().ok();
    }
    let authority = base.authority()?;
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let (path, query) = match path {
        "" => (base.path().to_owned(), query.or(base.query())),
        path if path.starts_with('/') => (without_dots(path), query),
        path => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            (without_dots(&format!("{folder}/{path}")), query)
        }
    };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{authority}{path}{query}").parse().ok()
}

/// A path that begins with a slash, without its `.` and `..` (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(location: &str) -> Result<Uri, Error> {
        follow(&Uri::from_static("https://h:8443/b/c/d?q"), Some(&HeaderValue::from_str(location).unwrap()))
    }

    #[test]
    fn a_location_is_resolved_against_the_url_that_was_asked() {
        for (location, url) in [
            ("https://other/x", "https://other/x"),
            ("//other/x?y", "https://other/x?y"),
            ("/x/./y/../z#f", "https://h:8443/x/z"),
            ("?r", "https://h:8443/b/c/d?r"),
            ("", "https://h:8443/b/c/d?q"),
            ("e", "https://h:8443/b/c/e"),
            ("../e?r", "https://h:8443/b/e?r"),
            ("../../../e", "https://h:8443/e"),
            ("..", "https://h:8443/b/"),
            ("e?to=http://x", "https://h:8443/b/c/e?to=http://x"),
        ] {
            assert_eq!(to(location).unwrap(), url, "{location}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_and_not_repeated() {
        for location in ["ftp://h/", "http://h/secret", "https://", "javascript:alert(1)"] {
            let error = to(location).unwrap_err();
            assert!(error.is_protocol() && !error.to_string().contains("secret"), "{location}: {error:?}");
        }
        assert!(follow(&Uri::from_static("http://h/"), None).unwrap_err().is_protocol());
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        let target = |url: &'static str| Target::parse(&Uri::from_static(url)).unwrap();
        let kept = |from, to| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
            forget_credentials(&mut headers, &target(from), &target(to));
            !headers.is_empty()
        };
        assert!(kept("http://h/a", "http://H:80/b"));
        assert!(
            !kept("http://h/", "http://h:81/") && !kept("http://h/", "https://h/") && !kept("http://h/", "http://i/")
        );
    }
}
