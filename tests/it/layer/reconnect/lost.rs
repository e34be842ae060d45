//! The outcome of messages that were in flight on a lost connection.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt};
use http::{Request, Response};
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceBuilder};
use tower_transport::{
    Channel, Error, Message, TransportExt,
    layer::reconnect::{Keep, State, WhenLost},
    test_util::fault::{Direction, Fault},
    transport::{OutlivesConnection, Resumed, SessionLoss, Unacknowledged},
};

use super::{Server, Stack, Step, closed, layer};

const SECOND: Duration = Duration::from_secs(1);

fn with(server: &Server, when_lost: WhenLost<Message>) -> Stack {
    layer().when_lost(when_lost).layer(server.clone())
}

fn keep() -> WhenLost<Message> {
    WhenLost::Keep(Keep::messages())
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Takes notice of a loss.
fn look(transport: &mut Stack) {
    assert!(transport.receive_message().now_or_never().is_none());
}

/// A connection that took `flushed` with a flush and "a" and "b" without one, and is cut.
async fn cut(server: &Server, when_lost: WhenLost<Message>) -> Stack {
    let mut transport = with(server, when_lost);
    transport.send_message("flushed".into()).await.unwrap();
    for text in ["a", "b"] {
        transport.feed(text.into()).await.unwrap();
    }
    server.accept().faults.cut();
    transport
}

#[tokio::test(start_paused = true)]
async fn under_fail_the_writer_is_told_once_how_many_were_lost_and_goes_on() {
    let server = Server::default();
    let mut transport = cut(&server, WhenLost::Fail).await;
    look(&mut transport);
    let error = transport.send_message("refused".into()).await.unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("2 messages"), "{error}");
    transport.send_message("next".into()).await.unwrap();
    assert_eq!(server.accept().take(), ["next"]);
    assert_eq!(transport.handle().lost(), 2);
}

#[tokio::test(start_paused = true)]
async fn under_fail_a_flush_never_says_that_what_was_lost_is_out() {
    let server = Server::default();
    let mut transport = cut(&server, WhenLost::Fail).await;
    assert!(transport.flush().await.unwrap_err().is_closed());
    transport.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn under_fail_a_loss_with_nothing_on_its_way_is_not_the_writers_business() {
    let server = Server::default();
    let mut transport = with(&server, WhenLost::Fail);
    transport.send_message("flushed".into()).await.unwrap();
    drop(server.accept());
    look(&mut transport);
    transport.send_message("next".into()).await.unwrap();
    assert_eq!(server.accept().take(), ["next"]);
    assert_eq!(transport.handle().lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn under_drop_the_loss_is_counted_and_the_writer_waits_for_the_next_connection() {
    let server = Server::default();
    let mut transport = cut(&server, WhenLost::Drop).await;
    look(&mut transport);
    let start = Instant::now();
    transport.send_message("next".into()).await.unwrap();
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!(server.accept().take(), ["next"]);
    assert_eq!(transport.handle().lost(), 2);
}

#[tokio::test(start_paused = true)]
async fn under_keep_what_was_not_flushed_is_sent_again_first_and_what_was_is_not() {
    let server = Server::default();
    let mut transport = cut(&server, keep()).await;
    look(&mut transport);
    transport.send_message("next".into()).await.unwrap();
    assert_eq!(server.accept().take(), ["a", "b", "next"]);
    assert_eq!(transport.handle().lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn under_keep_messages_are_taken_without_a_connection_until_the_buffer_is_full() {
    for keep in
        [Keep::messages().max_messages(3.try_into().unwrap()), Keep::messages().max_bytes(3.try_into().unwrap())]
    {
        let server = Server::refusing([tower_transport::Error::refused("not yet")]);
        let mut transport = with(&server, WhenLost::Keep(keep));
        for text in ["a", "b", "c"] {
            transport.feed(text.into()).now_or_never().unwrap().unwrap();
        }
        assert!(transport.feed("d".into()).now_or_never().is_none());
        assert!(transport.flush().now_or_never().is_none(), "nothing is out yet");
        transport.feed("d".into()).await.unwrap();
        transport.flush().await.unwrap();
        assert_eq!(server.accept().take(), ["a", "b", "c", "d"]);
    }
}

#[tokio::test(start_paused = true)]
async fn under_keep_a_full_buffer_is_flushed_before_it_takes_more() {
    let server = Server::default();
    let keep = Keep::messages().max_messages(2.try_into().unwrap());
    let mut transport = with(&server, WhenLost::Keep(keep));
    look(&mut transport);
    let mut peer = server.accept();
    for number in 0..10 {
        transport.feed(number.to_string().into()).now_or_never().unwrap().unwrap();
    }
    assert_eq!(peer.take().len(), 10);
    // Eight are known to be flushed.
    peer.faults.cut();
    look(&mut transport);
    transport.flush().await.unwrap();
    assert_eq!(server.accept().take(), ["8", "9"]);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_promised_is_kept_across_a_loss() {
    for when_lost in [WhenLost::Fail, WhenLost::Drop, keep()] {
        let server = Server::default();
        let mut transport = with(&server, when_lost);
        look(&mut transport);
        assert!(transport.poll_ready_unpin(&mut noop()).is_ready());
        drop(server.accept());
        look(&mut transport);
        assert!(transport.poll_ready_unpin(&mut noop()).is_ready());
        transport.start_send_unpin("a".into()).unwrap();
        assert!(transport.poll_flush_unpin(&mut noop()).is_pending());
        transport.flush().await.unwrap();
        transport.send_message("b".into()).await.unwrap();
        assert_eq!(server.accept().take(), ["a", "b"]);
        assert_eq!(transport.handle().lost(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_in_the_buffer_is_good_when_the_connection_comes_up_in_between() {
    let server = Server::refusing([tower_transport::Error::refused("not yet")]);
    let mut transport = with(&server, keep());
    assert!(transport.poll_ready_unpin(&mut noop()).is_ready());
    assert!(timeout(2 * SECOND, transport.receive_message()).await.is_err());
    let mut peer = server.accept();
    transport.start_send_unpin("a".into()).unwrap();
    transport.send_message("b".into()).await.unwrap();
    assert_eq!(peer.take(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_without_a_place_is_refused() {
    let mut transport = with(&Server::default(), keep());
    assert!(transport.start_send_unpin("a".into()).unwrap_err().is_full());
}

#[tokio::test(start_paused = true)]
async fn a_close_waits_for_what_was_kept_and_without_any_for_nothing() {
    let server = Server::refusing([tower_transport::Error::refused("not yet")]);
    let mut transport = with(&server, keep());
    transport.feed("a".into()).await.unwrap();
    transport.close().await.unwrap();
    let mut peer = server.accept();
    assert_eq!(peer.take(), ["a"]);
    assert!(peer.channel.receive_message().await.is_none());
    assert!(transport.send_message("b".into()).await.unwrap_err().is_closed());

    let server = Server::default();
    with(&server, keep()).close().now_or_never().unwrap().unwrap();
    assert_eq!(server.attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_that_cannot_send_what_was_kept_fails() {
    let server = Server::refusing([tower_transport::Error::refused("not yet"), tower_transport::Error::auth("no")]);
    let mut transport = with(&server, keep());
    transport.feed("a".into()).await.unwrap();
    let error = transport.close().await.unwrap_err();
    assert!(error.to_string().contains("lost: 1 message"), "{error}");
    assert_eq!(transport.handle().lost(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_stream_tells_why_when_the_sink_failed_first() {
    let server = Server::default();
    let mut transport = with(&server, WhenLost::Fail);
    transport.send_message("hello".into()).await.unwrap();
    let mut peer = server.accept();
    peer.put("last words");
    peer.put(closed(4401));
    drop(peer);
    // The sink fails, and does not know why: it waits.
    assert!(transport.send_message("x".into()).now_or_never().is_none());
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("last words"));
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), closed(4401));
    assert!(transport.receive_message().await.is_none());
    assert!(matches!(transport.handle().state(), State::Failed { .. }));
    assert_eq!(server.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_writer_alone_reconnects_after_a_second_of_grace() {
    let server = Server::default();
    let mut transport = with(&server, WhenLost::Fail);
    transport.send_message("hello".into()).await.unwrap();
    drop(server.accept());
    let start = Instant::now();
    transport.send_message("again".into()).await.unwrap();
    assert_eq!(start.elapsed(), 2 * SECOND);
    assert_eq!(server.accept().take(), ["again"]);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_flush_is_not_taken_for_one() {
    let server = Server::default();
    let mut transport = with(&server, keep());
    look(&mut transport);
    let mut peer = server.accept();
    transport.feed("a".into()).await.unwrap();
    peer.faults.stall(Direction::Outgoing);
    assert!(transport.flush().now_or_never().is_none());
    assert_eq!(peer.take(), ["a"], "the peer has it, but this end does not know");
    peer.faults.cut();
    transport.flush().await.unwrap();
    assert_eq!(server.accept().take(), ["a"], "at least once");
}

/// Sends ten messages, with a flush after every third, and cuts the first connection at the given step. Tells what the
/// peers received on each connection, how many messages were lost, and how many errors the writer had.
async fn conversation(when_lost: WhenLost<Message>, cut_at: usize) -> (Vec<Vec<String>>, u64, usize) {
    let server = Server::default();
    let mut transport = with(&server, when_lost);
    look(&mut transport);
    let first = server.accept();
    let (mut errors, mut step) = (0, 0);
    let cut = |step: &mut usize| {
        if *step == cut_at {
            first.faults.cut();
        }
        *step += 1;
    };
    for number in 0..10 {
        cut(&mut step);
        let message = Message::text(number.to_string());
        while let Err(error) = transport.feed(message.clone()).await {
            assert!(error.is_closed());
            errors += 1;
        }
        cut(&mut step);
        if number % 3 == 2 {
            errors += usize::from(transport.flush().await.is_err());
        }
        cut(&mut step);
        let _ = transport.receive_message().now_or_never();
    }
    while transport.flush().await.is_err() {
        errors += 1;
    }
    let mut peers = vec![first];
    peers.extend(server.lock().accepted.drain(..));
    (peers.iter_mut().map(|peer| peer.take()).collect(), transport.handle().lost(), errors)
}

#[tokio::test(start_paused = true)]
async fn wherever_the_cut_nothing_is_lost_unseen() {
    for cut_at in 0..30 {
        for (name, when_lost) in [("fail", WhenLost::Fail), ("drop", WhenLost::Drop), ("keep", keep())] {
            let (received, lost, errors) = conversation(when_lost, cut_at).await;
            let all: Vec<&String> = received.iter().flatten().collect();
            let distinct: BTreeSet<&String> = all.iter().copied().collect();
            let what = format!("{name}, cut at {cut_at}: {received:?}, {lost} lost, {errors} errors");
            for connection in &received {
                assert!(connection.is_sorted(), "out of order: {what}");
            }
            assert!(received.len() <= 2, "{what}");
            match name {
                "keep" => assert!(distinct.len() == 10 && lost == 0 && errors == 0, "{what}"),
                "fail" => assert!(errors == usize::from(lost > 0), "{what}"),
                _ => assert_eq!(errors, 0, "{what}"),
            }
            if name != "keep" {
                assert!(distinct.len() as u64 + lost >= 10, "lost unseen: {what}");
                assert_eq!(all.len(), distinct.len(), "twice: {what}");
                assert!(lost <= 3, "no more than was not flushed: {what}");
            }
        }
    }
}

#[test]
fn the_queue_of_a_dropped_transport_is_counted_as_lost() {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
        let server = Server::new([super::Step::Hang]);
        let mut transport = with(&server, keep());
        transport.feed("a".into()).await.unwrap();
        let handle = transport.handle();
        assert!(matches!(transport.poll_flush_unpin(&mut noop()), Poll::Pending));
        drop(transport);
        assert_eq!(handle.lost(), 1);
    });
}

#[tokio::test(start_paused = true)]
async fn what_outlives_its_connection_is_neither_lost_nor_sent_again_here() {
    for when_lost in [WhenLost::Fail, WhenLost::Drop, keep()] {
        let server = Server::default();
        let mut transport = layer().when_lost(when_lost).layer(holds(&server));
        transport.send_message("first".into()).await.unwrap();
        transport.feed("held below".into()).await.unwrap();
        server.accept().faults.cut();
        assert!(transport.receive_message().now_or_never().is_none());
        transport.send_message("next".into()).await.unwrap();
        assert_eq!(server.accept().take(), ["next"]);
        assert_eq!(transport.handle().lost(), 0);
    }
}

/// A connector whose connections say that a layer below holds what they take.
fn holds(
    server: &Server,
) -> impl Service<Request<()>, Response = Response<Fault<Channel>>, Error = Error, Future: Unpin> + Unpin + use<> {
    let response = |mut response: Response<_>| {
        response.extensions_mut().insert(OutlivesConnection);
        response
    };
    ServiceBuilder::new().map_response(response).service(server.clone())
}

#[tokio::test(start_paused = true)]
async fn under_keep_a_message_that_the_layer_below_holds_is_neither_measured_nor_kept() {
    static MEASURED: AtomicUsize = AtomicUsize::new(0);
    fn measure(message: &Message) -> usize {
        MEASURED.fetch_add(1, Relaxed);
        message.len()
    }

    let server = Server::default();
    let keep = WhenLost::Keep(Keep::messages().size_by(measure));
    let mut transport = layer().when_lost(keep).layer(holds(&server));
    transport.send_message("first".into()).await.unwrap();
    MEASURED.store(0, Relaxed);
    for text in ["second", "third"] {
        transport.send_message(text.into()).await.unwrap();
    }
    assert_eq!(MEASURED.load(Relaxed), 0);
    assert_eq!(server.accept().take(), ["first", "second", "third"]);
}

#[tokio::test(start_paused = true)]
async fn messages_lost_with_a_session_are_counted_and_reported_once_by_the_half_that_finds_the_new_session() {
    let accept = |loss: Option<u64>| {
        let mut response = Response::new(());
        response.extensions_mut().insert(OutlivesConnection);
        if let Some(lost) = loss {
            response.extensions_mut().insert(SessionLoss(lost));
        }
        Step::Accept(response)
    };
    for (when_lost, is_told) in [(WhenLost::Fail, true), (keep(), true), (WhenLost::Drop, false)] {
        for is_reader in [true, false] {
            let server = Server::new([accept(None), accept(Some(2)), accept(None)]);
            let mut transport = with(&server, when_lost.clone());
            transport.send_message("taken".into()).await.unwrap();
            drop(server.accept());
            let error = if is_reader {
                timeout(60 * SECOND, transport.receive_message()).await.ok().map(|item| item.unwrap().unwrap_err())
            } else {
                look(&mut transport);
                transport.send_message("next".into()).await.err()
            };
            assert_eq!(error.is_some(), is_told, "{when_lost:?}: {error:?}");
            if let Some(error) = error {
                assert!(error.is_rejection() && error.is_closed(), "{error:?}");
                assert!(error.to_string().contains("2 messages"), "{error}");
            }
            transport.flush().await.unwrap();
            look(&mut transport);
            transport.send_message("more".into()).await.unwrap();
            assert_eq!(server.accept().take().last().unwrap(), "more");
            assert_eq!(transport.handle().lost(), 2);

            // A new session with which nothing was lost.
            look(&mut transport);
            transport.send_message("last".into()).await.unwrap();
            assert_eq!(server.accept().take(), ["last"]);
            assert_eq!(transport.handle().lost(), 2);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_session_are_lost_once_a_connection_without_a_session_takes_its_place() {
    for (when_lost, is_told) in [(WhenLost::Fail, true), (keep(), true), (WhenLost::Drop, false)] {
        let mut response = Response::new(());
        response.extensions_mut().insert(OutlivesConnection);
        response.extensions_mut().insert(Unacknowledged::new(|| 2));
        let server = Server::new([Step::Accept(response), Step::Accept(Response::new(()))]);
        let mut transport = with(&server, when_lost);
        transport.send_message("taken".into()).await.unwrap();
        drop(server.accept());
        let item = timeout(60 * SECOND, transport.receive_message()).await;
        assert_eq!(item.is_ok(), is_told);
        if let Ok(item) = item {
            let error = item.unwrap().unwrap_err();
            assert!(error.is_rejection() && error.to_string().contains("2 messages"), "{error:?}");
        }
        assert_eq!(transport.handle().lost(), 2);
        transport.send_message("next".into()).await.unwrap();
        assert_eq!(server.accept().take(), ["next"]);
        let handle = transport.handle();
        drop(transport);
        assert_eq!(handle.lost(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_session_are_lost_once_a_connection_of_another_layers_session_takes_its_place() {
    let accept = |view: &Unacknowledged, is_resumed: bool| {
        let mut response = Response::new(());
        response.extensions_mut().insert(OutlivesConnection);
        response.extensions_mut().insert(view.clone());
        if is_resumed {
            response.extensions_mut().insert(Resumed);
        }
        Step::Accept(response)
    };
    let (first, second) = (Unacknowledged::new(|| 2), Unacknowledged::new(|| 0));
    for (view, is_resumed, lost) in [(&second, false, 2), (&first, false, 0), (&first, true, 0), (&second, true, 0)] {
        let server = Server::new([accept(&first, false), accept(view, is_resumed), accept(view, true)]);
        let mut transport = with(&server, WhenLost::Fail);
        transport.send_message("taken".into()).await.unwrap();
        drop(server.accept());
        let item = timeout(60 * SECOND, transport.receive_message()).await;
        assert_eq!(item.is_ok(), lost > 0);
        if let Ok(item) = item {
            let error = item.unwrap().unwrap_err();
            assert!(error.is_rejection() && error.to_string().contains("2 messages"), "{error:?}");
        }
        drop(server.accept());
        assert!(timeout(60 * SECOND, transport.receive_message()).await.is_err());
        assert_eq!(transport.handle().lost(), lost);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_layer_below_did_not_take_is_given_back_and_the_next_connection_goes_on() {
    for when_lost in [WhenLost::Fail, WhenLost::Drop, keep()] {
        let server = Server::default();
        let mut transport = layer().when_lost(when_lost).layer(holds(&server));
        transport.send_message("first".into()).await.unwrap();
        poll_fn(|cx| transport.poll_ready_unpin(cx)).await.unwrap();
        server.accept().faults.cut();
        let error = transport.start_send_unpin("refused".into()).unwrap_err();
        assert!(error.is_rejection(), "{error:?}");
        assert!(transport.receive_message().now_or_never().is_none());
        transport.send_message("next".into()).await.unwrap();
        assert_eq!(server.accept().take(), ["next"]);
        assert_eq!(transport.handle().lost(), 0);
    }
}
