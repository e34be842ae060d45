//! tower-http's compression around an event stream: it must not hold events back.

use std::convert::Infallible;

use axum::response::IntoResponse;
use futures_util::stream;
use http::{Request, Response, header};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::compression::{
    CompressionLayer, Predicate,
    predicate::{NotForContentType, SizeAbove},
};
use tower_transport::transport::sse::{Event, EventStream};

type Answer = Response<axum::body::Body>;

fn events() -> Answer {
    let events = stream::iter([Ok::<_, Infallible>(Event::new("x".repeat(1000)))]);
    IntoResponse::into_response(EventStream::new(events))
}

/// Returns an answer behind a layer, for a client that accepts gzip.
async fn encoding<P: Predicate>(layer: CompressionLayer<P>, answer: fn() -> Answer) -> Option<String> {
    let service = layer.layer(service_fn(move |_: Request<()>| std::future::ready(Ok::<_, Infallible>(answer()))));
    let request = Request::get("/").header(header::ACCEPT_ENCODING, "gzip").body(()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    Some(response.headers().get(header::CONTENT_ENCODING)?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn by_default_it_passes_over_event_streams() {
    assert_eq!(encoding(CompressionLayer::new(), || "x".repeat(1000).into_response()).await.unwrap(), "gzip");
    assert_eq!(encoding(CompressionLayer::new(), events).await, None);
}

#[tokio::test]
async fn a_predicate_of_ones_own_has_to_say_so() {
    let all = SizeAbove::new(0);
    assert_eq!(encoding(CompressionLayer::new().compress_when(all), events).await.unwrap(), "gzip");
    let but_events = all.and(NotForContentType::SSE);
    assert_eq!(encoding(CompressionLayer::new().compress_when(but_events), events).await, None);
}
