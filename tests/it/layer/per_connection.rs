use std::{
    convert::Infallible,
    future::Ready,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, timeout::TimeoutLayer};
use tower_transport::{Error, ServiceBuilderExt, layer::per_connection::PerConnectionLayer};

/// A layer that shows in the result: it pairs what it wraps with its name.
#[derive(Clone)]
struct Named(&'static str);

impl<T> Layer<T> for Named {
    type Service = (&'static str, T);

    fn layer(&self, inner: T) -> Self::Service {
        (self.0, inner)
    }
}

type Answer = Result<http::Response<&'static str>, Infallible>;

fn connect(_: http::Request<()>) -> Ready<Answer> {
    let response = http::Response::builder()
        .status(101)
        .header("sec-websocket-protocol", "chat")
        .extension(17u8)
        .body("transport")
        .unwrap();
    std::future::ready(Ok(response))
}

#[test]
fn the_body_is_layered_and_the_rest_of_the_response_is_kept() {
    let connector = ServiceBuilder::new().per_connection(Named("codec")).service(service_fn(connect));
    let response = connector.oneshot(http::Request::new(())).now_or_never().unwrap().unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    assert_eq!(response.extensions().get(), Some(&17u8));
    assert_eq!(response.into_body(), ("codec", "transport"));
}

#[test]
fn the_first_layer_is_outermost_within_a_stack_and_between_two() {
    let inner = ServiceBuilder::new().layer(Named("second")).layer(Named("third"));
    let connector =
        ServiceBuilder::new().per_connection(Named("first")).per_connection(inner).service(service_fn(connect));
    let response = connector.oneshot(http::Request::new(())).now_or_never().unwrap().unwrap();
    assert_eq!(response.into_body(), ("first", ("second", ("third", "transport"))));
}

#[test]
fn every_connection_gets_the_layer() {
    let mut connector = PerConnectionLayer::new(Named("each")).layer(service_fn(connect));
    for _ in 0..3 {
        let response = connector.call(http::Request::new(())).now_or_never().unwrap().unwrap();
        assert_eq!(response.into_body().0, "each");
    }
}

/// A connector that is never ready, or refuses.
struct Refuses(bool);

impl Service<http::Request<()>> for Refuses {
    type Response = http::Response<()>;
    type Error = Error;
    type Future = Ready<Result<http::Response<()>, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, _: http::Request<()>) -> Self::Future {
        std::future::ready(Err(Error::refused("nobody is there")))
    }
}

#[test]
fn readiness_and_errors_are_the_connectors_own() {
    let mut busy = PerConnectionLayer::new(Named("")).layer(Refuses(false));
    assert!(ServiceExt::<http::Request<()>>::ready(&mut busy).now_or_never().is_none());
    let refuses = PerConnectionLayer::new(Named("")).layer(Refuses(true));
    assert!(refuses.oneshot(http::Request::new(())).now_or_never().unwrap().unwrap_err().is_refused());
}

#[tokio::test(start_paused = true)]
async fn towers_timeout_below_it_limits_the_connect() {
    let connector = ServiceBuilder::new()
        .per_connection(Named("codec"))
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .service_fn(|_: http::Request<()>| std::future::pending::<Answer>());
    let started = tokio::time::Instant::now();
    let error = connector.oneshot(http::Request::new(())).await.unwrap_err();
    assert!(Error::from(error).is_timeout());
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}
