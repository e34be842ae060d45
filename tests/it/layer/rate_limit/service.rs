use super::*;
use std::convert::Infallible;
use tower_transport::test_util::WakeCount;

use axum::{Router, routing::get};
use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_transport::layer::rate_limit::{RateLimitServiceLayer, too_many_requests};

fn shared(burst: u32) -> RateLimitLayer {
    RateLimitLayer::shared(ten(burst)).runtime_clock()
}

fn double(layer: &RateLimitServiceLayer) -> impl Service<u32, Response = u32, Error = Error> + Clone + use<> {
    layer.layer(service_fn(async |number: u32| Ok::<_, Infallible>(number * 2)))
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_for_a_cell_and_keeps_it_for_the_call() {
    let layer = shared(1).for_service();
    let counts = layer.counts();
    let mut service = double(&layer);
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    for _ in 0..3 {
        assert!(service.poll_ready(&mut cx).is_ready());
    }
    assert_eq!(service.call(2).await.unwrap(), 4);
    assert!(service.poll_ready(&mut cx).is_pending());
    advance(ms(100)).await;
    assert_eq!(wakes.get(), 1);
    assert!(service.poll_ready(&mut cx).is_ready());
    assert_eq!(service.call(3).await.unwrap(), 6);
    assert_eq!((counts.admitted(), counts.waited(), counts.rejected()), (2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_limit_and_not_a_cell_that_was_taken() {
    let mut service = double(&shared(2).for_service());
    assert!(service.poll_ready(&mut noop()).is_ready());
    let mut clone = service.clone();
    assert!(clone.poll_ready(&mut noop()).is_ready());
    assert!(service.clone().poll_ready(&mut noop()).is_pending());
    assert_eq!(service.call(1).await.unwrap() + clone.call(2).await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_call_fails_with_the_time_to_wait() {
    let service = double(&shared(1).reject().for_service());
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 2);
    let error = service.clone().oneshot(1).await.unwrap_err();
    assert!(error.is_rate_limited());
    assert_eq!(error.retry_after(), Some(ms(100)));
    advance(ms(100)).await;
    assert_eq!(service.oneshot(1).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_http_service_answers_429_with_retry_after_and_axum_takes_it() {
    let quota = Quota::with_period(ms(2500));
    let layer = RateLimitLayer::shared(quota).runtime_clock().for_service().for_http();
    let counts = layer.counts();
    let router: Router = Router::new().route("/", get(async || "hello")).layer(layer);
    let ask = || router.clone().oneshot(Request::new(axum::body::Body::empty()));
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
    let refused = ask().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()[RETRY_AFTER], "3", "2.5 s, rounded up");
    advance(ms(1500)).await;
    assert_eq!(ask().await.unwrap().headers()[RETRY_AFTER], "1");
    advance(ms(1000)).await;
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
    assert_eq!((counts.admitted(), counts.rejected()), (2, 2));
}

#[test]
fn an_error_without_a_time_makes_an_answer_without_retry_after() {
    let response: Response<String> = too_many_requests(&Error::rate_limited("not now"));
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().is_empty());
}
