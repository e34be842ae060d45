use http::Request;
use proptest::prelude::*;

use super::*;

const ALL: fn() -> Places = || Places { cookie: Some("session".into()), query: Some("access_token".into()) };

fn parts(uri: &str, headers: &[(&'static str, &str)]) -> request::Parts {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// Returns the extracted token, for a request that contains no other.
fn token(places: &Places, uri: &str, headers: &[(&'static str, &str)]) -> Result<Option<String>, Malformed> {
    let found = places.take(&mut parts(uri, headers))?;
    Ok(found.map(|found| found.bearer().expect("a token").expose().to_owned()))
}

#[test]
fn a_token_is_found_in_each_place() {
    let found = Ok(Some("t0k".to_owned()));
    assert_eq!(token(&ALL(), "/", &[("authorization", "Bearer t0k")]), found);
    assert_eq!(token(&ALL(), "/", &[("authorization", "bEARER   t0k")]), found);
    assert_eq!(token(&ALL(), "/", &[("cookie", "a=b; session=t0k"), ("cookie", "c=d")]), found);
    assert_eq!(token(&ALL(), "/", &[("cookie", "session=\"t0k\"")]), found);
    assert_eq!(token(&ALL(), "/", &[("sec-websocket-protocol", "v1, bearer.dDBr")]), found);
    assert_eq!(token(&ALL(), "/?a=b&access_token=t%30k", &[]), found);
}

#[test]
fn cookie_and_query_are_looked_at_only_where_that_was_asked_for() {
    assert_eq!(token(&Places::default(), "/?access_token=t0k", &[("cookie", "session=t0k")]), Ok(None));
}

#[test]
fn basic_is_a_name_and_a_password() {
    for header in ["Basic YWRhOmE6Yg==", "basic YWRhOmE6Yg"] {
        let Ok(Some(Credentials::Basic { user, password })) =
            Places::default().take(&mut parts("/", &[("authorization", header)]))
        else {
            panic!("{header}");
        };
        assert_eq!((user.as_str(), password.expose()), ("ada", "a:b"));
    }
}

#[test]
fn what_is_doubled_or_cannot_be_read_is_refused() {
    for headers in [
        &[("authorization", "Bearer a"), ("authorization", "Bearer b")][..],
        &[("authorization", "Bearer a"), ("sec-websocket-protocol", "bearer.dDBr")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer a b")],
        &[("authorization", "Basic ???")],
        &[("authorization", "Basic YWRh")],
        &[("sec-websocket-protocol", "bearer.dDBr, bearer.dDBr")],
        &[("sec-websocket-protocol", "bearer.")],
        &[("sec-websocket-protocol", "bearer.!")],
        &[("cookie", "session=a; session=b")],
        &[("cookie", "session=")],
    ] {
        assert_eq!(token(&ALL(), "/", headers), Err(Malformed), "{headers:?}");
    }
    for uri in ["/?access_token=a&access_token=b", "/?access_token=", "/?access_token=%f", "/?access_token=%ff"] {
        assert_eq!(token(&ALL(), uri, &[]), Err(Malformed), "{uri}");
    }
    let long = "x".repeat(MAX_TOKEN + 1);
    assert_eq!(token(&ALL(), "/", &[("authorization", &format!("Bearer {long}"))]), Err(Malformed));
}

#[test]
fn schemes_of_others_are_left_alone() {
    assert_eq!(token(&ALL(), "/", &[("authorization", "Negotiate abc")]), Ok(None));
}

#[test]
fn what_comes_after_meets_no_token() {
    let mut parts =
        parts("/feed?a=b&access_token=t0k&c", &[("cookie", "other=1"), ("sec-websocket-protocol", "v2,v1")]);
    ALL().take(&mut parts).unwrap().unwrap();
    assert_eq!(parts.uri, "/feed?a=b&c");
    assert_eq!(parts.headers["sec-websocket-protocol"], "v2,v1");
    assert!(!format!("{parts:?}").contains("other=1"), "a cookie is shown");

    let mut parts =
        super::tests::parts("/", &[("sec-websocket-protocol", "v2, bearer.dDBr"), ("sec-websocket-protocol", "v1")]);
    ALL().take(&mut parts).unwrap().unwrap();
    assert_eq!(parts.headers["sec-websocket-protocol"], "v2, v1");

    let mut parts = super::tests::parts("/?access_token=t0k", &[]);
    ALL().take(&mut parts).unwrap().unwrap();
    assert_eq!(parts.uri, "/");
}

proptest! {
    #[test]
    fn a_token_survives_the_subprotocol(token in "[!-~]{1,60}") {
        let name = subprotocol::encode(&token.as_str().into());
        prop_assert_eq!(super::tests::token(&ALL(), "/", &[("sec-websocket-protocol", &name)]), Ok(Some(token)));
    }

    #[test]
    fn no_header_makes_it_panic(name in 0..3usize, value in "[ -~]{0,60}", query in "[!-~&&[^#]]{0,40}") {
        let name = ["authorization", "cookie", "sec-websocket-protocol"][name];
        let Ok(uri) = format!("/?{query}").parse::<Uri>() else { return Ok(()) };
        let mut parts = parts("/", &[(name, &value)]);
        parts.uri = uri;
        let _ = ALL().take(&mut parts);
    }
}
