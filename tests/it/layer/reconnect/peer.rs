//! The peer's messages at the beginning and at the end of a connection.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt};
use http::Response;
use tokio::time::timeout;
use tower::Layer;
use tower_transport::{
    CloseCode, CloseFrame, Error, Message, TransportExt,
    layer::reconnect::{Backoff, Keep, ReconnectLayer, State, WhenLost},
    test_util::fault::Direction,
};

use super::{Server, Step, closed, layer, stack};

#[tokio::test(start_paused = true)]
async fn a_normal_close_is_given_to_the_user_and_ends_the_stream_where_that_is_wanted() {
    let server = Server::default();
    let mut transport = layer().end_on_normal_close(true).layer(server.clone());
    transport.send_message("hello".into()).await.unwrap();
    let mut peer = server.accept();
    peer.put(closed(1000));
    drop(peer);
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), closed(1000));
    assert!(transport.receive_message().await.is_none());
    assert!(matches!(transport.handle().state(), State::Disconnected));
    let error = transport.send_message("x".into()).await.unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.close_frame().unwrap().code().get(), 1000);
    assert_eq!(server.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_with_1000_at_once_is_asked_less_and_less_often() {
    let server = Server::default();
    let backoff = Backoff::exponential().base(Duration::from_secs(1)).jitter(false);
    let mut transport = ReconnectLayer::new("ws://example.com/feed", backoff).layer(server.clone());
    let closing = tokio::spawn({
        let server = server.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let accepted = server.lock().accepted.pop_front();
                if let Some(mut peer) = accepted {
                    peer.put(closed(1000));
                }
            }
        }
    });
    let _ = timeout(Duration::from_secs(3600), transport.receive_message()).await;
    // 1 + 2 + 4 + 8 + 16 seconds, then one each 30.
    let attempts = server.attempts();
    assert!((120..=126).contains(&attempts), "{attempts} connects in an hour");
    closing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_normal_close_after_which_no_attempt_is_left_is_a_good_end() {
    let server = Server::default();
    let mut transport = ReconnectLayer::new("ws://example.com/feed", Backoff::none()).layer(server.clone());
    transport.send_message("hello".into()).await.unwrap();
    server.accept().put(closed(1000));
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), closed(1000));
    assert!(transport.receive_message().await.is_none());
    assert!(matches!(transport.handle().state(), State::Disconnected));
}

#[tokio::test(start_paused = true)]
async fn a_client_returns_at_the_time_that_a_draining_server_tells_it_within_its_own_bound() {
    let hint = |code, time| {
        let frame = CloseFrame::new(CloseCode::new(code).unwrap(), "new version").with_return_after(time);
        Message::Close(Some(frame))
    };
    let second = Duration::from_secs(1);
    for (message, due) in [
        (hint(1012, 7 * second), 7 * second),
        (hint(1001, 7 * second), 7 * second),
        // Its own delay is longer: a server that closes at once is not called in a loop.
        (hint(1012, Duration::ZERO), 2 * second),
        (hint(1012, Duration::MAX), 60 * second),
        // Not a code that invites to come back at a time.
        (hint(4000, 7 * second), 2 * second),
    ] {
        let server = Server::default();
        let backoff = Backoff::fixed(2 * second).max_retry_after(60 * second);
        let mut transport = ReconnectLayer::new("ws://example.com/feed", backoff).layer(server.clone());
        transport.send_message("hello".into()).await.unwrap();
        server.accept().put(message.clone());
        let start = tokio::time::Instant::now();
        assert!(transport.receive_message().now_or_never().is_none());
        transport.send_message("again".into()).await.unwrap();
        assert_eq!(start.elapsed(), due, "{message:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_invites_to_come_back_is_not_shown() {
    for message in [closed(1000), closed(1001), closed(1012), closed(1013), closed(4000), Message::Close(None)] {
        let server = Server::default();
        let mut transport = stack(&server);
        transport.send_message("hello".into()).await.unwrap();
        let mut peer = server.accept();
        peer.put("before");
        peer.put(message);
        assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("before"));
        assert!(transport.receive_message().now_or_never().is_none());
        transport.send_message("again".into()).await.unwrap();
        let mut peer = server.accept();
        peer.put("after");
        assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("after"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_forbids_to_come_back_is_the_last_message_and_a_failure() {
    for code in [1002, 1008, 1009, 4401, 4403] {
        let server = Server::default();
        let mut transport = stack(&server);
        transport.send_message("hello".into()).await.unwrap();
        let mut peer = server.accept();
        peer.put(closed(code));
        drop(peer);
        assert_eq!(transport.receive_message().await.unwrap().unwrap(), closed(code));
        assert!(transport.receive_message().await.is_none());
        let State::Failed { cause, .. } = transport.handle().state() else { panic!("{code} is a failure") };
        assert_eq!(cause.close_frame().unwrap().code().get(), code);
        assert_eq!(server.attempts(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_message_of_the_user_is_for_good() {
    let server = Server::default();
    let mut transport = stack(&server);
    transport.send_message(closed(1001)).await.unwrap();
    let mut peer = server.accept();
    assert!(peer.channel.receive_message().await.unwrap().unwrap().is_close());
    peer.put(closed(1001));
    drop(peer);
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), closed(1001));
    assert!(transport.receive_message().await.is_none());
    assert_eq!(server.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_one_message_leaves_the_connection_alone() {
    let server = Server::default();
    let mut transport = stack(&server);
    transport.send_message("hello".into()).await.unwrap();
    assert_eq!(transport.handle().connections(), 1);
    assert!(transport.connection().is_some());
}

/// An extension that a resume layer below might leave.
#[derive(Clone)]
struct Verdict(&'static str);

fn answer(verdict: &'static str) -> Step {
    Step::Accept(Response::builder().header("x-verdict", verdict).extension(Verdict(verdict)).body(()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_hook_speaks_first_on_each_connection_and_sees_the_answer() {
    let server = Server::new([answer("fresh"), answer("resumed")]);
    let layer = layer().when_lost(WhenLost::Keep(Keep::messages())).on_connect(|parts| {
        let verdict = parts.extensions.get::<Verdict>().unwrap().0;
        vec![format!("subscribe {verdict}").into(), "second".into()]
    });
    let mut transport = layer.layer(server.clone());
    transport.feed("mine".into()).await.unwrap();
    transport.flush().await.unwrap();
    let handle = transport.handle();
    assert_eq!(handle.response().unwrap().headers["x-verdict"], "fresh");
    let mut peer = server.accept();
    assert_eq!(peer.take(), ["subscribe fresh", "second", "mine"]);
    transport.feed("not flushed".into()).await.unwrap();
    peer.faults.cut();
    assert!(transport.receive_message().now_or_never().is_none());
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Nobody writes: the reader brings out what is due.
    assert!(transport.receive_message().now_or_never().is_none());
    assert_eq!(server.accept().take(), ["subscribe resumed", "second", "not flushed"]);
    assert_eq!(handle.response().unwrap().extensions.get::<Verdict>().unwrap().0, "resumed");
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_gets_what_the_hook_says_bit_by_bit_while_messages_come_in() {
    let server = Server::default().capacity(1);
    let layer = layer().on_connect(|_| (0..5).map(|number| Message::text(number.to_string())).collect());
    let mut transport = layer.layer(server.clone());
    assert!(transport.receive_message().now_or_never().is_none());
    let mut peer = server.accept();
    let mut said = Vec::new();
    for round in 0..5 {
        peer.put(round.to_string());
        assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text(round.to_string()));
        assert!(round >= 4 || transport.send_message("too early".into()).now_or_never().is_none());
        said.extend(peer.take());
    }
    assert_eq!(said, ["0", "1", "2", "3", "4"]);
    transport.send_message("mine".into()).await.unwrap();
    assert_eq!(peer.take(), ["mine"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_is_cut_short_begins_anew_on_the_next_connection() {
    let server = Server::default().capacity(2);
    let layer = layer().on_connect(|_| ["a", "b", "c"].map(Message::text).to_vec());
    let mut transport = layer.layer(server.clone());
    assert!(transport.receive_message().now_or_never().is_none());
    let mut peer = server.accept();
    assert_eq!(peer.take(), ["a", "b"]);
    peer.faults.stall(Direction::Outgoing);
    assert!(transport.receive_message().now_or_never().is_none());
    peer.faults.cut();
    assert!(transport.receive_message().now_or_never().is_none());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(transport.receive_message().now_or_never().is_none());
    let mut peer = server.accept();
    assert_eq!(peer.take(), ["a", "b"]);
    assert!(transport.receive_message().now_or_never().is_none());
    assert_eq!(peer.take(), ["c"]);
    assert_eq!(transport.handle().lost(), 0, "what the hook says is not the user's to lose");
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_connection_is_shown_only_when_it_is_final() {
    let server = Server::default();
    let layer = layer().classify(|error| {
        if error.to_string().contains("cut") {
            tower_transport::layer::reconnect::Class::Retry
        } else {
            tower_transport::layer::reconnect::Class::Final
        }
    });
    let mut transport = layer.layer(server.clone());
    transport.send_message("hello".into()).await.unwrap();
    server.accept().faults.cut();
    assert!(transport.receive_message().now_or_never().is_none());
    server.will(Step::Refuse(Error::refused("nobody")));
    assert!(transport.receive_message().await.unwrap().unwrap_err().is_refused());
    assert!(transport.receive_message().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_connector_is_told_what_became_of_the_connection_before_and_how_it_had_answered() {
    use tower_transport::transport::LostConnection;

    let server = Server::new([answer("first"), answer("second")]);
    let mut transport = layer().layer(server.clone());
    transport.send_message("hello".into()).await.unwrap();
    server.accept().put(closed(1012));
    assert!(transport.receive_message().now_or_never().is_none());
    server.will(Step::Refuse(Error::refused("not yet")));
    transport.send_message("again".into()).await.unwrap();
    {
        let inner = server.lock();
        let told: Vec<_> = inner.requests.iter().map(|request| request.extensions().get::<LostConnection>()).collect();
        assert!(told[0].is_none());
        let lost = told[1].unwrap();
        assert_eq!(lost.error.close_frame().unwrap().code().get(), 1012);
        assert_eq!(lost.response.extensions.get::<Verdict>().unwrap().0, "first");
    }
    transport.handle().reconnect_now();
    transport.send_message("once more".into()).await.unwrap();
    assert!(
        server.lock().requests.iter().skip(2).all(|request| request.extensions().get::<LostConnection>().is_none())
    );
}
