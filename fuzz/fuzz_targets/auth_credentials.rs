//! Lines of `name: value`, the headers of a handshake, and one that begins with `?`, its query: whatever they say, the
//! guard answers, and what it lets through has no token left where it would be seen.
#![no_main]

use std::{convert::Infallible, future::ready};

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Request, Response, header};
use libfuzzer_sys::fuzz_target;
use tower_layer::Layer;
use tower_service::Service;
use tower_transport::{
    Error,
    handshake::auth::AuthGuardLayer,
    layer::auth::{Claims, Credentials, JwtKey, JwtRules, JwtVerifier},
};

/// Takes all credentials, after a look at them as a JWT.
#[derive(Clone)]
struct All(JwtVerifier);

impl Service<Credentials> for All {
    type Response = Option<Claims>;
    type Error = Error;
    type Future = std::future::Ready<Result<Option<Claims>, Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, credentials: Credentials) -> Self::Future {
        if let Some(token) = credentials.bearer() {
            assert!(!token.expose().is_empty() && token.expose().len() <= 8192);
        }
        ready(Ok(self.0.verify(&credentials).ok()))
    }
}

#[derive(Clone)]
struct Inner;

impl<B> Service<Request<B>> for Inner {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let query = request.uri().query().unwrap_or_default();
        assert!(!query.split('&').any(|pair| pair.starts_with("access_token=")));
        for offered in request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL) {
            let offered = offered.to_str().unwrap_or_default();
            assert!(!offered.split(',').any(|name| name.trim().starts_with("bearer.")));
        }
        ready(Ok(Response::new("in".to_owned())))
    }
}

fuzz_target!(|input: &[u8]| {
    let mut request = Request::new(());
    for line in input.split(|&byte| byte == b'\n') {
        if line.starts_with(b"?") {
            let uri = [b"/", line].concat();
            if let Ok(uri) = http::Uri::try_from(&uri[..]) {
                *request.uri_mut() = uri;
            }
            continue;
        }
        let mut parts = line.splitn(2, |&byte| byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii())) else {
            continue;
        };
        request.headers_mut().append(name, value);
    }
    let key = JwtKey::hs256(b"a secret of more than 32 bytes, for tests only").expect("long enough");
    let guard = AuthGuardLayer::new(All(JwtVerifier::new(key, JwtRules::new()))).cookie("session").query("access_token");
    let response = guard.optional().layer(Inner).call(request).now_or_never().expect("it answers at once");
    let response = response.expect("infallible");
    assert!(response.status().is_success() || response.status() == 400, "{response:?}");
});
