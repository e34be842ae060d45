//! Attempts: when one is made, with what, how long the next one waits, and when there is no other.

use std::{
    error::Error as _,
    future::Ready,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::FutureExt;
use http::{Request, Response};
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceBuilder, timeout::TimeoutLayer};
use tower_transport::{
    Error, Message, ServiceBuilderExt, TransportExt, channel,
    codec::JsonCodec,
    layer::reconnect::{Backoff, Class, ReconnectLayer, State, Target},
};

use super::{Server, Step, closed, layer, stack};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn nobody_is_called_until_the_transport_is_polled() {
    let server = Server::default();
    let mut transport = stack(&server);
    tokio::time::sleep(SECOND).await;
    assert_eq!(server.attempts(), 0);
    assert!(transport.receive_message().now_or_never().is_none());
    assert_eq!(server.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_send_connects_too_and_messages_go_both_ways() {
    let server = Server::default();
    let mut transport = stack(&server);
    transport.send_message("hello".into()).await.unwrap();
    let mut peer = server.accept();
    assert_eq!(peer.take(), ["hello"]);
    peer.put("welcome");
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("welcome"));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_gets_the_whole_request() {
    let server = Server::refusing([Error::refused("1"), Error::refused("2")]);
    let request = Request::get("ws://example.com/feed").header("authorization", "secret").extension(7_u32).body(());
    let layer = ReconnectLayer::new(request.unwrap(), Backoff::exponential());
    layer.layer(server.clone()).send_message("hello".into()).await.unwrap();
    let requests = &server.lock().requests;
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request.uri(), "ws://example.com/feed");
        assert_eq!(request.headers()["authorization"], "secret");
        assert_eq!(request.extensions().get::<u32>(), Some(&7));
    }
}

#[tokio::test(start_paused = true)]
async fn a_url_that_is_none_fails_the_first_use_and_nobody_is_called() {
    let server = Server::default();
    let mut transport = ReconnectLayer::new("not a url", Backoff::exponential()).layer(server.clone());
    assert!(transport.receive_message().await.unwrap().unwrap_err().is_config());
    assert!(transport.receive_message().await.is_none());
    assert!(transport.send_message("x".into()).await.unwrap_err().is_closed());
    assert!(matches!(transport.handle().state(), State::Failed { cause, .. } if cause.is_config()));
    assert_eq!(server.attempts(), 0);
    assert!(Target::parse("not a url").unwrap_err().is_config());
    assert!(Target::parse("ws://example.com").is_ok());
}

#[tokio::test(start_paused = true)]
async fn secrets_of_the_request_are_not_in_what_debug_prints() {
    let request = Request::get("ws://u:hidden@example.com/?token=hidden").header("authorization", "hidden").body(());
    let layer = ReconnectLayer::<Message>::new(request.unwrap(), Backoff::none());
    let transport = layer.layer(tower::service_fn(|_: Request<()>| async {
        Err::<Response<tower_transport::Channel>, _>(Error::refused(""))
    }));
    for printed in [format!("{layer:?}"), format!("{:?}", Target::from("ws://u:hidden@example.com/?hidden"))] {
        assert!(!printed.contains("hidden"), "{printed}");
    }
    drop(transport);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_failed_is_followed_by_another_after_the_delay() {
    let server = Server::refusing([Error::refused("1"), Error::dns("2"), Error::timeout("3")]);
    let start = Instant::now();
    stack(&server).send_message("hello".into()).await.unwrap();
    assert_eq!((server.attempts(), start.elapsed().as_secs()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn what_no_attempt_mends_is_told_once_and_ends_both_directions() {
    let refused = [
        Error::from_refusal(http::StatusCode::UNAUTHORIZED, "who are you?".into()),
        Error::from_refusal(http::StatusCode::NOT_FOUND, "".into()),
        Error::protocol("no WebSocket"),
        Error::tls("an unknown issuer"),
        Error::config("no such scheme"),
    ];
    for error in refused {
        let server = Server::refusing([error.clone()]);
        let mut transport = stack(&server);
        let told = transport.receive_message().await.unwrap().unwrap_err();
        assert_eq!(told.to_string(), error.to_string());
        assert!(transport.receive_message().await.is_none());
        assert!(transport.receive_message().await.is_none());
        let of_sink = transport.send_message("x".into()).await.unwrap_err();
        assert!(of_sink.is_closed());
        assert_eq!(of_sink.source().unwrap().to_string(), error.to_string());
        assert_eq!(server.attempts(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_of_the_user_has_the_last_word() {
    let server = Server::refusing([Error::auth("an old token"), Error::refused("nobody")]);
    let layer = layer().classify(|error| if error.is_auth() { Class::Retry } else { Class::Final });
    let mut transport = layer.layer(server.clone());
    assert!(transport.receive_message().await.unwrap().unwrap_err().is_refused());
    assert_eq!(server.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_when_to_come_back_is_not_asked_sooner() {
    let busy = Error::from_refusal(http::StatusCode::SERVICE_UNAVAILABLE, "".into());
    let server = Server::refusing([busy.with_retry_after(Duration::from_secs(20))]);
    let start = Instant::now();
    stack(&server).send_message("hello".into()).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 21);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_says_so_and_why_it_failed() {
    let server = Server::refusing((0..9).map(|_| Error::refused("nobody listens")));
    let layer = ReconnectLayer::new("ws://example.com", Backoff::exponential().max_retries(3));
    let mut transport = layer.layer(server.clone());
    let error = transport.receive_message().await.unwrap().unwrap_err();
    assert!(error.is_refused());
    assert_eq!(error.to_string(), "no other attempt is made after 4, as the backoff says");
    assert_eq!(error.source().unwrap().to_string(), "nobody listens");
    assert!(transport.receive_message().await.is_none());
    assert_eq!(server.attempts(), 4);
}

#[tokio::test(start_paused = true)]
async fn without_a_second_attempt_a_loss_is_final_too() {
    let server = Server::default();
    let mut transport = ReconnectLayer::new("ws://example.com", Backoff::none()).layer(server.clone());
    transport.send_message("hello".into()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(server.accept());
    assert!(transport.receive_message().await.unwrap().unwrap_err().is_closed());
    assert!(transport.receive_message().await.is_none());
    assert_eq!(server.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_closes_is_asked_less_and_less_often() {
    for goodbye in [None, Some(closed(1012))] {
        let server = Server::default();
        let layer = ReconnectLayer::new("ws://example.com", Backoff::exponential());
        let mut transport = layer.layer(server.clone());
        let closing = async {
            loop {
                let mut peer = loop {
                    let accepted = server.lock().accepted.pop_front();
                    match accepted {
                        Some(peer) => break peer,
                        None => tokio::time::sleep(Duration::from_millis(50)).await,
                    }
                };
                if let Some(goodbye) = &goodbye {
                    peer.put(goodbye.clone());
                }
            }
        };
        let reading = async { futures_util::join!(transport.receive_message(), closing) };
        assert!(timeout(Duration::from_secs(600), reading).await.is_err(), "a loss was shown to the user");
        // 600 s with pauses of up to 30 s; a hot loop would be thousands.
        assert!((20..150).contains(&server.attempts()), "{}", server.attempts());
    }
}

async fn lose_after(transport: &mut super::Stack, server: &Server, time: Duration) -> (u32, Duration) {
    let connected = transport.handle();
    while !connected.state().is_connected() {
        let _ = timeout(Duration::from_millis(1), transport.receive_message()).await;
    }
    tokio::time::sleep(time).await;
    drop(server.accept());
    assert!(transport.receive_message().now_or_never().is_none());
    match connected.state() {
        State::Reconnecting { attempt, after, cause, .. } => {
            assert!(cause.is_closed());
            (attempt, after)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_healthy_connection_makes_the_attempts_count_anew() {
    let server = Server::default();
    let backoff = Backoff::exponential().jitter(false).base(SECOND);
    let layer = ReconnectLayer::new("ws://example.com", backoff).healthy_after(Duration::from_secs(5));
    let mut transport = layer.layer(server.clone());
    let short = Duration::from_millis(4_900);
    assert_eq!(lose_after(&mut transport, &server, short).await, (2, SECOND));
    assert_eq!(lose_after(&mut transport, &server, short).await, (3, 2 * SECOND));
    assert_eq!(lose_after(&mut transport, &server, short).await, (4, 4 * SECOND));
    assert_eq!(lose_after(&mut transport, &server, Duration::from_secs(5)).await, (1, SECOND));
    assert_eq!(lose_after(&mut transport, &server, short).await, (2, 2 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn towers_own_timeout_bounds_an_attempt() {
    let server = Server::new([Step::Hang, Step::Hang]);
    let stack = ServiceBuilder::new()
        .reconnect("ws://example.com", Backoff::fixed(SECOND))
        .layer(TimeoutLayer::new(Duration::from_secs(5)))
        .service(server.clone());
    let mut transport = Box::pin(stack);
    let start = Instant::now();
    transport.send_message(Message::text("hello")).await.unwrap();
    assert_eq!((server.attempts(), start.elapsed().as_secs()), (3, 12));
}

#[tokio::test(start_paused = true)]
async fn each_connection_gets_the_layers_within_anew_and_those_above_live_on() {
    let server = Server::default();
    let mut transport = ServiceBuilder::new()
        .reconnect("ws://example.com", Backoff::fixed(SECOND))
        .per_connection(ServiceBuilder::new().codec(JsonCodec::<String>::new()))
        .service(server.clone());
    for round in ["one", "two"] {
        transport.send_message(round.to_owned()).await.unwrap();
        let mut peer = server.accept();
        assert_eq!(peer.take(), [format!("{round:?}")]);
        peer.put("not JSON");
        peer.put(format!("{round:?}"));
        // A bad payload costs its message, not the connection.
        assert!(transport.receive_message().await.unwrap().unwrap_err().is_codec());
        assert_eq!(transport.receive_message().await.unwrap().unwrap(), round);
        // The codec ends its stream with the close message, whose code is found at its sink.
        peer.put(closed(1012));
        assert!(transport.receive_message().now_or_never().is_none());
        tokio::time::sleep(SECOND).await;
    }
    transport.send_message("three".to_owned()).await.unwrap();
    server.accept().put(closed(4401));
    let error = transport.receive_message().await.unwrap().unwrap_err();
    assert_eq!(error.close_frame().unwrap().code().get(), 4401);
    assert!(transport.receive_message().await.is_none());
}

/// Panics when it is called without having been ready, or twice for one readiness.
struct Strict {
    polls: usize,
    ready: bool,
}

impl Service<Request<()>> for Strict {
    type Response = Response<tower_transport::Channel>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.polls += 1;
        if !self.polls.is_multiple_of(3) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.ready = true;
        if self.polls == 3 { Poll::Ready(Err(Error::other("overloaded"))) } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called before it was ready");
        std::future::ready(Ok(Response::new(channel(1).0)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_connector_is_waited_for_until_it_is_ready_and_its_failure_to_be_is_a_failed_attempt() {
    let mut transport = layer().layer(Strict { polls: 0, ready: false });
    let states = transport.handle();
    assert!(timeout(Duration::from_millis(10), transport.receive_message()).await.is_err());
    assert!(matches!(states.state(), State::Reconnecting { attempt: 2, .. }));
    // Nobody holds the far ends: each connection is lost at once, and the next one made.
    assert!(timeout(Duration::from_secs(10), transport.receive_message()).await.is_err());
    assert!(states.connections() >= 5);
}
