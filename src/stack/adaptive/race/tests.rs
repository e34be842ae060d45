//! The start times of the transports and their outcomes.

use http::StatusCode;

use super::{
    bench::{Bench, ms, status, up},
    *,
};
use crate::{rt, stack::adaptive::Endpoints};
use TransportKind::{Sse, WebSocket, WebTransport};

#[tokio::test(start_paused = true)]
async fn a_first_choice_that_is_quick_is_the_only_one_asked() {
    let mut bench = Bench::new([up(100), up(10), up(10)]);
    assert_eq!(bench.connect().await.unwrap(), WebTransport);
    assert_eq!(bench.log(), ["webtransport https://example.com/wt"]);
    assert_eq!(bench.decided(), ["started webtransport 0", "connected webtransport 100"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_choice_delays_by_its_head_start_alone_and_is_dropped() {
    let mut bench = Bench::new([up(9_000), up(20), up(20)]);
    assert_eq!(bench.connect().await.unwrap(), WebSocket);
    assert_eq!(
        bench.log(),
        ["webtransport https://example.com/wt", "websocket wss://example.com/ws", "webtransport dropped"]
    );
    assert_eq!(bench.decided(), ["started webtransport 0", "started websocket 250", "connected websocket 270"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_choice_that_comes_after_its_head_start_still_wins_if_it_is_first() {
    let bench = Bench::new([up(300), up(200), up(20)]);
    assert_eq!(bench.connect().await.unwrap(), WebTransport);
    assert_eq!(bench.log()[2], "websocket dropped");
}

#[tokio::test(start_paused = true)]
async fn what_fails_makes_room_for_the_next_at_once() {
    let mut bench = Bench::new([(30, Err(Error::timeout("silence"))), (40, Err(status(426))), up(5)]);
    assert_eq!(bench.connect().await.unwrap(), Sse);
    assert_eq!(
        bench.decided(),
        [
            "started webtransport 0",
            "fell back webtransport udp_blocked 30",
            "started websocket 30",
            "fell back websocket upgrade_refused 70",
            "started sse 70",
            "connected sse 75",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn udp_that_is_blocked_costs_one_head_start_and_upgrades_that_are_refused_nothing_more() {
    let mut bench = Bench::new([(10_000, Err(Error::timeout("silence"))), (40, Err(status(200))), up(5)]);
    assert_eq!(bench.connect().await.unwrap(), Sse);
    assert_eq!(bench.decided().last().unwrap(), "connected sse 295");
}

#[tokio::test(start_paused = true)]
async fn an_endless_head_start_tries_one_after_the_other() {
    let mut bench = Bench::new([(9_000, Err(Error::timeout("silence"))), up(20), up(20)]);
    bench.head_start = Duration::MAX;
    assert_eq!(bench.connect().await.unwrap(), WebSocket);
    assert_eq!(bench.decided().last().unwrap(), "connected websocket 9020");
    bench.head_start = Duration::ZERO;
    bench.shared.memory().forget();
    bench.set(WebTransport, 30, Ok(()));
    assert_eq!(bench.connect().await.unwrap(), WebSocket, "all at once: the quickest");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_is_not_tried_over_another_transport() {
    let mut bench = Bench::new([up(500), (30, Err(status(401))), up(0)]);
    let error = bench.connect().await.unwrap_err();
    assert!(error.is_auth() && error.status() == Some(StatusCode::UNAUTHORIZED), "{error}");
    assert_eq!(
        bench.decided(),
        ["started webtransport 0", "started websocket 250", "stopped websocket auth 280", "failed 280"]
    );
    assert_eq!(bench.log().last().unwrap(), "webtransport dropped");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_asked_once_over_tcp() {
    let mut bench = Bench::new([(60_000, Err(Error::timeout(""))), (3, Err(Error::refused("nobody listens"))), up(0)]);
    let error = bench.connect().await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert_eq!(bench.decided().last().unwrap(), "failed 253");
    assert!(!bench.log().iter().any(|line| line.starts_with("sse")));
}

#[tokio::test(start_paused = true)]
async fn where_one_lives_elsewhere_it_is_tried_though_the_others_server_is_down() {
    let mut bench = Bench::new([(60_000, Err(Error::timeout(""))), (3, Err(Error::refused("nobody listens"))), up(4)]);
    bench.endpoints = bench.endpoints.sse("https://other.example.com/sse").unwrap();
    assert_eq!(bench.connect().await.unwrap(), Sse);
    let log = bench.log();
    assert_eq!(
        log[2..],
        ["webtransport dropped", "sse https://other.example.com/sse"],
        "what is on the same host went"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_gets_it() {
    let busy = status(503).with_retry_after(Duration::from_secs(20));
    let bench = Bench::new([(10, Err(Error::timeout(""))), (10, Err(busy)), up(0)]);
    let error = bench.connect().await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_error_names_each() {
    let bench =
        Bench::new([(10, Err(Error::timeout("no QUIC"))), (10, Err(status(404))), (10, Err(Error::closed("cut")))]);
    let error = bench.connect().await.unwrap_err();
    for part in ["WebTransport: no QUIC", "WebSocket: ", "404", "SSE + POST: cut"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_start_of_one_that_is_ruled_out_ends_nobody_elses_attempt() {
    let mut bench = Bench::new([(300, Err(Error::tls("not trusted"))), up(400), up(0)]);
    let endpoints = Endpoints::new("http://example.com").unwrap().web_transport("https://example.com/wt").unwrap();
    bench.endpoints = endpoints.web_socket("wss://example.com/ws").unwrap();
    assert_eq!(bench.connect().await.unwrap(), WebSocket);
    assert_eq!(bench.decided().last().unwrap(), "connected websocket 650");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_attempt_drops_what_is_under_way() {
    let bench = Bench::new([up(10_000), up(10_000), up(10_000)]);
    assert!(rt::timeout(ms(300), bench.connect()).await.is_err());
    assert_eq!(bench.log()[2..], ["webtransport dropped", "websocket dropped"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_candidate_the_attempt_fails_at_once() {
    let mut bench = Bench::new([up(1), up(1), up(1)]);
    for kind in TransportKind::ALL {
        bench.endpoints = bench.endpoints.clone().without(kind);
    }
    assert!(bench.connect().await.unwrap_err().is_config());
}
