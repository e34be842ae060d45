use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use tower::{Layer, ServiceExt};
use tower_transport::layer::auth::{AuthLayer, Tokens};

use super::*;

type Seen = Arc<Mutex<Vec<Request<()>>>>;

/// A connector that takes this token alone, and keeps what it was asked.
fn server(
    good: &'static str,
    seen: &Seen,
) -> impl tower_transport::Connect<Transport = (), Future: Send> + Clone + use<> {
    let seen = seen.clone();
    service_fn(move |request: Request<()>| {
        let is_good = request.headers().get("authorization").is_some_and(|value| value == good);
        seen.lock().unwrap().push(request);
        async move {
            tokio::task::yield_now().await;
            match is_good {
                true => Ok(Response::new(())),
                false => Err(Error::from_refusal(StatusCode::UNAUTHORIZED, Bytes::new())),
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn each_handshake_carries_the_token_as_a_sensitive_header() {
    let (count, seen) = (Count::default(), Seen::default());
    let connector = AuthLayer::new(Tokens::new(numbered(&count, None))).layer(server("Bearer token-1", &seen));
    let request = Request::get("ws://example.com/").header("x-kept", "1").body(()).unwrap();
    connector.clone().oneshot(request).await.unwrap();
    connector.oneshot(Request::new(())).await.unwrap();
    assert_eq!(count.get(), 1);
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].headers()["x-kept"], "1");
    assert!(seen.iter().all(|request| request.headers()["authorization"].is_sensitive()));
    assert!(!format!("{seen:?}").contains("token-1"));
}

#[tokio::test(start_paused = true)]
async fn a_401_fetches_one_new_token_and_tries_once_more() {
    let (count, seen) = (Count::default(), Seen::default());
    let connector = AuthLayer::new(Tokens::new(numbered(&count, None))).layer(server("Bearer token-2", &seen));
    connector.oneshot(Request::new(())).await.unwrap();
    assert_eq!((count.get(), seen.lock().unwrap().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_second_401_is_the_answer() {
    let (count, seen) = (Count::default(), Seen::default());
    let connector = AuthLayer::new(Tokens::new(numbered(&count, None))).layer(server("Bearer nobody", &seen));
    let error = connector.oneshot(Request::new(())).await.unwrap_err();
    assert!(error.is_auth());
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
    assert_eq!((count.get(), seen.lock().unwrap().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_401_is_not_tried_again() {
    let count = Count::default();
    let connects = Count::default();
    let calls = connects.clone();
    let connector = service_fn(move |_: Request<()>| {
        calls.up();
        fail::<Response<()>>(Error::from_refusal(StatusCode::FORBIDDEN, Bytes::new()))
    });
    let error = AuthLayer::new(Tokens::new(numbered(&count, None))).layer(connector).oneshot(Request::new(())).await;
    assert_eq!(error.unwrap_err().status(), Some(StatusCode::FORBIDDEN));
    assert_eq!((count.get(), connects.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_connects_that_are_refused_at_once_share_one_new_token() {
    let (count, seen) = (Count::default(), Seen::default());
    let connector = AuthLayer::new(Tokens::new(numbered(&count, None))).layer(server("Bearer token-2", &seen));
    let all = join_all((0..100).map(|_| connector.clone().oneshot(Request::new(())))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!((count.get(), seen.lock().unwrap().len()), (2, 200));
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_replaced_before_the_next_connect() {
    let (count, seen) = (Count::default(), Seen::default());
    let tokens = Tokens::new(numbered(&count, Some(Duration::from_secs(60))));
    let connector = AuthLayer::new(tokens).layer(server("Bearer token-2", &seen));
    connector.clone().oneshot(Request::new(())).await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    connector.oneshot(Request::new(())).await.unwrap_err();
    assert_eq!(seen.lock().unwrap().len(), 4, "token-3 and token-4 were shown");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_fails_the_connect_with_its_own_kind() {
    let seen = Seen::default();
    let source = service_fn(|_: TokenRequest| fail::<Token>(Error::timeout("the endpoint is slow")));
    let error = AuthLayer::new(Tokens::new(source)).layer(server("", &seen)).oneshot(Request::new(())).await;
    assert!(error.unwrap_err().is_timeout());
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_token_that_fits_no_header_is_an_error_that_does_not_show_it() {
    let seen = Seen::default();
    let layer = AuthLayer::new(Tokens::fixed("taint\nrest"));
    let error = layer.layer(server("", &seen)).oneshot(Request::new(())).await.unwrap_err();
    assert!(error.is_config() && !format!("{error} {error:?}").contains("taint"));
}

#[tokio::test(start_paused = true)]
async fn as_a_subprotocol_it_stands_beside_the_real_ones() {
    let seen = Seen::default();
    let layer = AuthLayer::new(Tokens::fixed("t0k")).as_subprotocol();
    let request = Request::get("/").header("sec-websocket-protocol", "v1").body(()).unwrap();
    layer.layer(server("", &seen)).oneshot(request).await.unwrap_err();
    let seen = seen.lock().unwrap();
    let offered: Vec<_> = seen[0].headers().get_all("sec-websocket-protocol").iter().collect();
    assert_eq!(offered, ["v1, bearer.dDBr"], "one value, as browsers send it");
    assert!(offered[0].is_sensitive() && !seen[0].headers().contains_key("authorization"));
}
