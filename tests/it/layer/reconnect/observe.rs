//! The states, the handle, and who is woken.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::time::{Instant, timeout};
use tower::Layer;
use tower_transport::{
    Error, Message, QueueConfig, Receiver, Sender, TransportExt,
    layer::reconnect::{Keep, ReconnectHandle, State, States, WhenLost},
    test_util::WakeCount,
};

use super::{Server, Step, layer, stack, word};

const SECOND: Duration = Duration::from_secs(1);

fn next(states: &mut States) -> Option<String> {
    states.next().now_or_never().map(|state| state.map_or("end".into(), |state| word(&state)))
}

#[tokio::test(start_paused = true)]
async fn the_states_are_seen_one_by_one_by_who_keeps_up() {
    let server = Server::refusing([Error::refused("not yet")]);
    let layer = layer();
    let handle = layer.handle();
    let mut states = handle.states();
    assert_eq!(next(&mut states).unwrap(), "disconnected");
    assert_eq!(next(&mut states), None);

    let observer = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(state) = states.next().await {
            seen.push(word(&state));
        }
        seen
    });
    let mut transport = layer.layer(server.clone());
    server.will(Step::Accept(http::Response::new(())));
    server.will(Step::Hang);
    assert!(timeout(SECOND / 2, transport.receive_message()).await.is_err());
    assert_eq!(word(&handle.state()), "reconnecting 2 after 1s");
    transport.send_message("hello".into()).await.unwrap();
    tokio::task::yield_now().await;
    drop(server.accept());
    assert!(timeout(SECOND / 2, transport.receive_message()).await.is_err());
    assert!(timeout(SECOND, transport.receive_message()).await.is_err());
    tokio::task::yield_now().await;
    drop(transport);
    let seen = observer.await.unwrap();
    let due = ["reconnecting 2 after 1s", "connected", "reconnecting 3 after 1s", "connecting 3", "disconnected"];
    assert_eq!(seen, due);
}

#[tokio::test(start_paused = true)]
async fn a_slow_observer_sees_the_latest_state_and_then_waits() {
    let server = Server::default();
    let mut transport = stack(&server);
    let mut states = transport.handle().states();
    transport.send_message("hello".into()).await.unwrap();
    assert_eq!(next(&mut states).unwrap(), "connected");
    let (wakes, waker) = WakeCount::new();
    assert!(states.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    drop(server.accept());
    assert!(transport.receive_message().now_or_never().is_none());
    assert_eq!(wakes.take(), 1);
    assert_eq!(next(&mut states).unwrap(), "reconnecting 2 after 1s");
    assert!(matches!(states.current(), State::Reconnecting { .. }));
    let mut clone = states.clone();
    assert_eq!(next(&mut states), None);
    assert_eq!(next(&mut clone).unwrap(), "reconnecting 2 after 1s");
}

#[tokio::test(start_paused = true)]
async fn the_states_end_after_a_failure_and_with_the_transport() {
    let mut failing = stack(&Server::refusing([Error::auth("who are you?")]));
    let mut states = failing.handle().states();
    assert!(failing.receive_message().await.unwrap().is_err());
    assert_eq!(next(&mut states).unwrap(), "failed: who are you?");
    assert_eq!(next(&mut states).unwrap(), "end");

    let transport = stack(&Server::default());
    let mut states = transport.handle().states();
    drop(transport);
    assert_eq!(next(&mut states).unwrap(), "disconnected");
    assert_eq!(next(&mut states).unwrap(), "end");
}

#[tokio::test(start_paused = true)]
async fn the_first_transport_of_a_layer_has_the_layers_handle_and_the_second_one_its_own() {
    let (layer, server) = (layer(), Server::default());
    let (mut first, second) = (layer.layer(server.clone()), layer.clone().layer(server.clone()));
    first.send_message("hello".into()).await.unwrap();
    assert!(layer.handle().state().is_connected());
    assert!(!second.handle().state().is_connected());
    layer.handle().close();
    assert!(first.receive_message().await.is_none());
    let mut second = second;
    second.send_message("hello".into()).await.unwrap();
}

/// A transport whose connection was refused, and which a driver owns.
fn driven(server: &Server) -> (ReconnectHandle, Sender<Message>, Receiver<Message>) {
    let transport = layer().when_lost(WhenLost::Keep(Keep::messages())).layer(server.clone());
    let handle = transport.handle();
    let (sender, receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
    tokio::spawn(driver);
    (handle, sender, receiver)
}

#[tokio::test(start_paused = true)]
async fn reconnect_now_ends_the_wait() {
    let server = Server::refusing([Error::refused("not yet").with_retry_after(Duration::from_secs(500))]);
    let (handle, _sender, _receiver) = driven(&server);
    tokio::time::sleep(SECOND).await;
    assert_eq!(word(&handle.state()), "reconnecting 2 after 501s");
    let start = Instant::now();
    handle.reconnect_now();
    let connected = handle.states().any(async |state| state.is_connected()).await;
    assert!(connected && start.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn reconnect_now_replaces_the_connection_at_once() {
    let server = Server::default();
    let (handle, mut sender, mut receiver) = driven(&server);
    sender.send("one".into()).await.unwrap();
    sender.flush().await.unwrap();
    let mut old = server.accept();
    handle.reconnect_now();
    let start = Instant::now();
    tokio::task::yield_now().await;
    sender.send("two".into()).await.unwrap();
    sender.flush().await.unwrap();
    let mut new = server.accept();
    assert_eq!((old.take(), new.take()), (vec!["one".to_owned()], vec!["two".to_owned()]));
    assert!(old.channel.receive_message().await.is_none(), "the old one was closed");
    new.put("from the new one");
    assert_eq!(receiver.receive().await.unwrap().unwrap(), Message::text("from the new one"));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(handle.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn close_ends_a_driven_transport_for_good() {
    for script in [vec![], vec![Step::Hang], vec![Step::Refuse(Error::refused("not yet"))]] {
        let server = Server::new(script);
        let (handle, sender, mut receiver) = driven(&server);
        tokio::time::sleep(SECOND / 2).await;
        handle.close();
        assert!(receiver.receive().await.is_none());
        assert!(sender.send("late".into()).await.unwrap_err().is_closed());
        assert_eq!((word(&handle.state()), server.attempts()), ("disconnected".into(), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_is_not_overruled_by_a_later_reconnect() {
    let server = Server::default();
    let mut transport = stack(&server);
    transport.send_message("hello".into()).await.unwrap();
    transport.handle().close();
    transport.handle().reconnect_now();
    assert!(transport.receive_message().await.is_none());
    assert_eq!(server.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn both_halves_are_woken_by_a_connection_and_by_its_loss() {
    let server = Server::refusing([Error::refused("not yet")]);
    let mut transport = stack(&server);
    let ((reads, reader), (writes, writer)) = (WakeCount::new(), WakeCount::new());
    let (mut reader, mut writer) = (Context::from_waker(&reader), Context::from_waker(&writer));
    // Both wait for the second attempt, and the clock wakes both, whichever polled last.
    assert!(transport.poll_next_unpin(&mut reader).is_pending());
    assert!(transport.poll_ready_unpin(&mut writer).is_pending());
    tokio::time::sleep(2 * SECOND).await;
    assert!(reads.take() > 0 && writes.take() > 0);
    assert!(transport.poll_next_unpin(&mut reader).is_pending());
    assert!(transport.poll_ready_unpin(&mut writer).is_ready());

    // The writer waits for room in a connection that is then lost: the reader finds out.
    let server = Server::default().capacity(1);
    let mut transport = stack(&server);
    assert!(transport.poll_next_unpin(&mut reader).is_pending());
    transport.feed("fills it".into()).now_or_never().unwrap().unwrap();
    assert!(transport.poll_ready_unpin(&mut writer).is_pending());
    server.accept().faults.cut();
    let _ = (reads.take(), writes.take());
    assert!(transport.poll_next_unpin(&mut reader).is_pending());
    assert!(writes.take() > 0, "the writer waits for a connection that is gone");
    assert!(matches!(transport.poll_ready_unpin(&mut writer), Poll::Ready(Err(error)) if error.is_closed()));
}

#[tokio::test(start_paused = true)]
async fn both_halves_are_woken_by_the_end() {
    let server = Server::refusing([Error::refused("not yet"), Error::auth("no")]);
    let (mut sink, mut stream) = TransportExt::<Message>::into_split(stack(&server));
    let writer = tokio::spawn(async move { sink.send("x".into()).await });
    let reader = tokio::spawn(async move { stream.next().await.unwrap().unwrap_err() });
    assert!(writer.await.unwrap().unwrap_err().is_closed());
    assert!(reader.await.unwrap().is_auth());
}

#[tokio::test(start_paused = true)]
async fn a_command_wakes_a_transport_that_waits_for_messages() {
    let server = Server::default();
    let mut transport = stack(&server);
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    assert!(transport.poll_next_unpin(&mut cx).is_pending());
    wakes.take();
    transport.handle().close();
    assert!(wakes.take() > 0);
    assert!(matches!(transport.poll_next_unpin(&mut cx), Poll::Ready(None)));
}

#[tokio::test(start_paused = true)]
async fn a_receive_or_send_that_is_dropped_at_any_time_loses_nothing() {
    let server = Server::refusing([Error::refused("not yet")]);
    let mut transport = stack(&server);
    for _ in 0..5 {
        assert!(transport.receive_message().now_or_never().is_none());
        assert!(transport.send_message("never".into()).now_or_never().is_none());
        tokio::time::sleep(SECOND / 10).await;
    }
    tokio::time::sleep(SECOND).await;
    assert!(transport.receive_message().now_or_never().is_none());
    let mut peer = server.accept();
    peer.put("one");
    assert!(timeout(SECOND, transport.receive_message()).await.unwrap().is_some());
    transport.send_message("sent".into()).await.unwrap();
    assert_eq!(peer.take(), ["sent"]);
    assert_eq!(server.attempts(), 2);
}
