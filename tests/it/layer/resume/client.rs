//! The client's end: verdicts, replay, fencing, deadlines.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Context,
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    CloseCode, CloseFrame, Error, Limits, Message, QueueConfig, TransportExt, channel,
    layer::{
        batch::{BatchLayer, BatchPolicy},
        reconnect::{Backoff, Keep, ReconnectHandle, ReconnectLayer, WhenLost},
        resume::{Accepted, ResumeHandle, ResumeLayer, ResumedTransport, SessionStore, Verdict},
    },
    test_util::fault::Faults,
    transport::websocket::WebSocket,
};

use super::support::{Near, connect, dial, message, put, quiet, take, world};

#[tokio::test(start_paused = true)]
async fn what_a_cut_took_is_sent_again_in_both_directions_and_nothing_else() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    put(&mut near, 0..2);
    take(&mut session, 0..2).await;
    put(&mut session, 0..3);
    take(&mut near, 0..1).await;
    world.faults.half_open();
    put(&mut near, 2..3);
    drop(near);
    put(&mut session, 3..5);

    let (mut near, verdict) = world.reopen(&mut session).await;
    // Nothing of the first two was acknowledged in time, but the server says that it has them.
    assert_eq!(verdict, Verdict::Resumed { replayed: 1 });
    assert_eq!(session.resumptions(), 1);
    put(&mut near, 3..4);
    take(&mut session, 2..4).await;
    take(&mut near, 1..5).await;
    quiet(&mut session);
    quiet(&mut near);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_ends_like_a_mark_comes_out_as_it_went_in_and_also_when_it_is_sent_again() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    let tricky = Message::binary([&b"12345678abcdefgh"[..], &[3, 3, 0xf8, b't', b't', b'x', 1, 0xff]].concat());
    near.send_message(tricky.clone()).await.unwrap();
    assert_eq!(session.next().await.unwrap().unwrap(), tricky);
    world.faults.half_open();
    near.send_message(tricky.clone()).await.unwrap();
    drop(near);
    let (mut near, verdict) = world.reopen(&mut session).await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 1 });
    near.flush().await.unwrap();
    assert_eq!(session.next().await.unwrap().unwrap(), tricky);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_come_late_when_nothing_else_does_and_free_the_buffer() {
    let handle = ResumeHandle::new();
    let mut world = world(ResumeLayer::new().handle(handle.clone()), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    put(&mut near, 0..10);
    assert_eq!((handle.unacknowledged(), handle.unacknowledged_bytes()), (10, 20));
    take(&mut session, 0..10).await;
    quiet(&mut near);
    assert_eq!(handle.unacknowledged(), 10);
    let serve = async {
        let _ = session.next().await;
    };
    let wait = tokio::time::timeout(Duration::from_millis(101), near.next());
    tokio::select! { () = serve => panic!("the session ended"), late = wait => assert!(late.is_err()) }
    assert_eq!((handle.unacknowledged(), handle.unacknowledged_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_writes_goes_on_as_long_as_the_server_reads() {
    let layer = ResumeLayer::new().replay_messages(4);
    let mut world = world(layer, SessionStore::new());
    let (mut near, mut session) = world.open().await;
    let write = async {
        for number in 0..100 {
            near.send_message(super::support::message(number)).await.unwrap();
        }
    };
    let ((), ()) = tokio::join!(write, take(&mut session, 0..100));
}

#[tokio::test(start_paused = true)]
async fn a_full_replay_buffer_waits_and_what_is_read_meanwhile_is_not_lost() {
    let layer = ResumeLayer::new().replay_messages(3).replay_bytes(1000);
    let mut world = world(layer, SessionStore::new());
    let (mut near, mut session) = world.open().await;
    put(&mut near, 0..3);
    put(&mut session, 0..5);
    assert!(near.poll_ready_unpin(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
    take(&mut session, 0..1).await;
    std::future::poll_fn(|cx| near.poll_ready_unpin(cx)).await.unwrap();
    take(&mut near, 0..5).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_connection_takes_the_session_from_an_older_transport() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut older, mut session) = world.open().await;
    put(&mut older, 0..1);
    take(&mut session, 0..1).await;
    let reopening = world.reopen(&mut session);
    let ((mut newer, verdict), last) = tokio::join!(reopening, async {
        let last = older.next().await.unwrap().unwrap_err();
        assert!(older.next().await.is_none());
        (last, older)
    });
    let (error, mut older) = last;
    assert!(error.is_closed() && error.to_string().contains("newer"), "{error}");
    assert!(older.send(Message::text("late")).await.unwrap_err().is_closed());
    assert_eq!(verdict, Verdict::Resumed { replayed: 0 });
    put(&mut newer, 1..2);
    take(&mut session, 1..2).await;
}

#[tokio::test(start_paused = true)]
async fn an_older_transport_that_nobody_polls_costs_its_session_and_that_is_told() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut older, session) = world.open().await;
    put(&mut older, 0..2);
    let error = connect(&mut world.client).await.err().unwrap();
    assert!(error.is_timeout(), "{error}");
    let (_newer, verdict) = world.connect().await;
    assert_eq!(verdict, Verdict::Fresh { lost: 2 });
    drop((older, session));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_the_session_gives_a_fresh_one_and_the_losses_are_counted() {
    let handle = ResumeHandle::new();
    let mut world = world(ResumeLayer::new().handle(handle.clone()), SessionStore::new());
    let mut verdicts = handle.verdicts();
    let (mut near, mut session) = world.open().await;
    let first = handle.id().unwrap();
    assert_eq!(session.id(), first);
    put(&mut session, 0..1);
    put(&mut near, 0..4);
    take(&mut session, 0..1).await;
    // The server restarts.
    drop(session);
    take(&mut near, 0..1).await;
    assert!(near.next().await.is_none());
    assert!(near.send(Message::text("more")).await.unwrap_err().is_closed());

    let (mut near, verdict) = world.connect().await;
    assert_eq!(verdict, Verdict::Fresh { lost: 4 });
    assert_eq!(verdicts.changed().await, verdict);
    assert_eq!(handle.verdict(), Some(verdict));
    assert_ne!(handle.id(), Some(first));
    let mut session = world.server.sessions.recv().await.unwrap();
    put(&mut near, 0..1);
    take(&mut session, 0..1).await;
}

#[tokio::test(start_paused = true)]
async fn under_a_reconnect_layer_and_a_driver_the_losses_of_a_session_are_reported_once() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let transport = ReconnectLayer::new("ws://x/", Backoff::fixed(Duration::from_secs(1))).layer(world.client);
    let handle = transport.handle();
    let (mut sender, mut receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
    tokio::spawn(driver);
    for number in 0..3 {
        sender.send(message(number)).await.unwrap();
    }
    sender.flush().await.unwrap();
    // The server restarts.
    drop(world.server.sessions.recv().await.unwrap());

    let told = tokio::time::timeout(Duration::from_secs(60), receiver.receive()).await.expect("nobody is told");
    let error = told.unwrap().unwrap_err();
    assert!(error.is_closed() && error.is_rejection(), "{error:?}");
    assert!(error.to_string().contains("3 messages"), "{error}");
    assert_eq!(handle.lost(), 3);
    assert!(sender.flush().await.unwrap_err().is_rejection());
    sender.flush().await.unwrap();

    let mut session = world.server.sessions.recv().await.unwrap();
    sender.send(message(3)).await.unwrap();
    take(&mut session, 3..4).await;
    put(&mut session, 0..1);
    assert_eq!(receiver.receive().await.unwrap().unwrap(), message(0));
    assert_eq!((handle.lost(), handle.connections()), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn messages_lost_with_a_session_are_reported_though_a_layer_above_refuses_the_first_connection_of_the_next() {
    for is_polled in [false, true] {
        let mut world = world(ResumeLayer::new(), SessionStore::new());
        let attempts = Arc::new(AtomicUsize::new(0));
        let refuse = move |connected: Result<http::Response<ResumedTransport<Near>>, Error>| {
            let mut response = connected?;
            if attempts.fetch_add(1, Relaxed) != 1 {
                return Ok(response);
            }
            if is_polled {
                quiet(response.body_mut());
            }
            Err(Error::timeout("the layer above waits for something else"))
        };
        let connector = ServiceBuilder::new().map_result(refuse).service(world.client);
        let mut transport = ReconnectLayer::new("ws://x/", Backoff::fixed(Duration::from_secs(1))).layer(connector);
        let handle = transport.handle();
        for number in 0..3 {
            transport.send(message(number)).await.unwrap();
        }
        // The server restarts.
        drop(world.server.sessions.recv().await.unwrap());
        let (to_test, mut sessions) = tokio::sync::mpsc::unbounded_channel();
        let mut incoming = world.server.sessions;
        tokio::spawn(async move {
            let mut session = incoming.recv().await.unwrap();
            while let Some(Ok(message)) = session.next().await {
                to_test.send(message).unwrap();
            }
        });

        let told = tokio::time::timeout(Duration::from_secs(60), transport.next()).await.expect("nobody is told");
        let error = told.unwrap().unwrap_err();
        assert!(error.is_rejection() && error.to_string().contains("3 messages"), "{error}");
        assert_eq!((handle.lost(), handle.connections()), (3, 2));
        let response = handle.response().unwrap();
        assert_eq!(response.extensions.get::<Verdict>(), Some(&Verdict::Fresh { lost: 3 }));
        transport.send(message(3)).await.unwrap();
        assert_eq!(sessions.recv().await.unwrap(), message(3));

        // The session goes on from here, and nothing is reported twice.
        world.faults.cut();
        transport.send(message(4)).await.unwrap();
        assert_eq!(sessions.recv().await.unwrap(), message(4));
        let response = handle.response().unwrap();
        assert!(matches!(response.extensions.get::<Verdict>(), Some(Verdict::Resumed { .. })));
        assert_eq!(handle.lost(), 3);
    }
}

/// A client whose server takes nothing and goes away for good, over a reconnect layer that gives up.
async fn gives_up(when_lost: WhenLost<Message>) -> (ReconnectHandle, Option<Error>, Error) {
    let (near, far) = channel::<Message, Message>(8);
    let mut near = Some(near);
    let connector = ResumeLayer::new().layer(tower::service_fn(move |_: http::Request<()>| {
        std::future::ready(near.take().map(http::Response::new).ok_or_else(|| Error::refused("it went away for good")))
    }));
    let accepting = tokio::spawn(async move { SessionStore::new().accept(far).await });
    let backoff = Backoff::fixed(Duration::from_secs(1)).max_retries(2);
    let mut transport = ReconnectLayer::new("ws://x/", backoff).when_lost(when_lost).layer(connector);
    let handle = transport.handle();
    for number in 0..3 {
        transport.send(message(number)).await.unwrap();
    }
    drop(accepting.await.unwrap().unwrap());
    let mut last = None;
    while let Some(item) = transport.next().await {
        last = item.err();
    }
    let refused = transport.send(message(3)).await.unwrap_err();
    (handle, last, refused)
}

#[tokio::test(start_paused = true)]
async fn messages_that_a_session_holds_when_reconnecting_gives_up_are_counted_and_reported() {
    for when_lost in [WhenLost::Fail, WhenLost::Drop, WhenLost::Keep(Keep::messages())] {
        let (handle, last, refused) = gives_up(when_lost).await;
        assert!(last.is_some(), "the stream ends with the cause");
        assert!(refused.is_closed() && refused.to_string().contains("lost: 3 messages"), "{refused}");
        assert_eq!(handle.lost(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_a_session_holds_when_its_transport_is_dropped_are_counted_and_acknowledged_ones_are_not() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let mut transport = ReconnectLayer::new("ws://x/", Backoff::fixed(Duration::from_secs(1))).layer(world.client);
    let handle = transport.handle();
    for number in 0..3 {
        transport.send(message(number)).await.unwrap();
    }
    let mut session = world.server.sessions.recv().await.unwrap();
    take(&mut session, 0..2).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), session.next()).await.is_ok());
    assert!(tokio::time::timeout(Duration::from_secs(1), session.next()).await.is_err());
    quiet(&mut transport);
    transport.send(message(3)).await.unwrap();
    drop(transport);
    assert_eq!(handle.lost(), 1);
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_session_that_is_closed_in_order_are_not_counted_as_lost() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let mut transport = ReconnectLayer::new("ws://x/", Backoff::fixed(Duration::from_secs(1))).layer(world.client);
    let handle = transport.handle();
    transport.send(message(0)).await.unwrap();
    let mut session = world.server.sessions.recv().await.unwrap();
    transport.close().await.unwrap();
    take(&mut session, 0..1).await;
    drop(session);
    assert!(transport.next().await.is_none());
    drop(transport);
    assert_eq!(handle.lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_without_a_connection_waits_for_the_next_one_as_long_as_the_session_owes_messages() {
    for when_lost in [WhenLost::Fail, WhenLost::Drop, WhenLost::Keep(Keep::messages())] {
        let mut world = world(ResumeLayer::new(), SessionStore::new());
        let layer = ReconnectLayer::new("ws://x/", Backoff::fixed(Duration::from_secs(1))).when_lost(when_lost);
        let mut transport = layer.layer(world.client);
        let handle = transport.handle();
        transport.send(message(0)).await.unwrap();
        let mut session = world.server.sessions.recv().await.unwrap();
        take(&mut session, 0..1).await;
        // Two are sent, and nobody has acknowledged them when the connection is lost.
        for number in 1..3 {
            transport.send(message(number)).await.unwrap();
        }
        world.faults.cut();
        assert!(transport.next().now_or_never().is_none(), "the loss is noticed");
        let closing = tokio::spawn(async move {
            transport.close().await.unwrap();
            transport
        });
        take(&mut session, 1..3).await;
        assert!(session.next().await.is_none());
        drop(session);
        drop(closing.await.unwrap());
        assert_eq!(handle.lost(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_a_failed_close_leaves_unacknowledged_are_counted_once_and_the_close_fails() {
    for when_lost in [WhenLost::Fail, WhenLost::Drop, WhenLost::Keep(Keep::messages())] {
        let mut world = world(ResumeLayer::new(), SessionStore::new());
        let layer = ReconnectLayer::new("ws://x/", Backoff::fixed(Duration::from_secs(1))).when_lost(when_lost);
        let mut transport = layer.layer(world.client);
        let handle = transport.handle();
        for number in 0..3 {
            transport.send(message(number)).await.unwrap();
        }
        // Its handler reads nothing.
        let session = world.server.sessions.recv().await.unwrap();
        world.faults.cut();
        transport.close().await.unwrap_err();
        assert_eq!(handle.lost(), 3);
        transport.close().await.unwrap();
        drop((transport, session));
        assert_eq!(handle.lost(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_the_failed_close_of_a_driven_transport_leaves_unacknowledged_are_counted() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let transport = ReconnectLayer::new("ws://x/", Backoff::fixed(Duration::from_secs(1))).layer(world.client);
    let handle = transport.handle();
    let (mut sender, receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);
    for number in 0..3 {
        sender.send(message(number)).await.unwrap();
    }
    sender.flush().await.unwrap();
    let session = world.server.sessions.recv().await.unwrap();
    let closing = sender.close(CloseFrame::new(CloseCode::NORMAL, ""));
    world.faults.cut();
    assert!(closing.await.is_err());
    let _ = driver.await.unwrap();
    assert_eq!(handle.lost(), 3);
    drop((session, receiver));
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_websocket_whose_close_is_not_answered_are_counted() {
    let (dialed, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    let client = ResumeLayer::new().layer(tower::service_fn(move |_: http::Request<()>| {
        let (near, far) = tokio::io::duplex(1 << 16);
        dialed.send(WebSocket::server(far, Limits::default())).unwrap();
        std::future::ready(Ok::<_, Error>(http::Response::new(WebSocket::client(near, Limits::default()))))
    }));
    let transport = ReconnectLayer::new("ws://x/", Backoff::fixed(Duration::from_secs(1))).layer(client);
    let handle = transport.handle();
    let (mut sender, receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);
    let Ok(Accepted::New(session)) = SessionStore::new().accept(accepted.recv().await.unwrap()).await else {
        panic!("it is the first connection");
    };
    for number in 0..3 {
        sender.send(message(number)).await.unwrap();
    }
    sender.flush().await.unwrap();
    // The handler hangs: nobody polls the session.
    // The sink is closed with the close frame; the stream tells that no answer came.
    let _ = sender.close(CloseFrame::new(CloseCode::NORMAL, "")).await;
    assert!(driver.await.unwrap().unwrap_err().is_timeout());
    assert_eq!(handle.lost(), 3);
    drop((session, receiver));
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_close_fails_is_over_and_the_next_verdict_tells_what_was_lost_with_it() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut near, session) = world.open().await;
    put(&mut near, 0..2);
    world.faults.cut();
    near.close().await.unwrap_err();
    drop((near, session));
    assert_eq!(world.connect().await.1, Verdict::Fresh { lost: 2 });
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_the_session_for_good_on_both_ends() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    put(&mut near, 0..2);
    near.close().await.unwrap();
    assert!(near.send(Message::text("late")).await.unwrap_err().is_closed());
    take(&mut session, 0..2).await;
    assert!(session.next().await.is_none());
    assert!(world.server.store.is_empty());
    assert!(session.send(Message::text("late")).await.unwrap_err().is_closed());
    assert!(near.next().await.is_none());
    let (_near, verdict) = world.connect().await;
    assert_eq!(verdict, Verdict::New);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_runs_into_the_deadline() {
    let (dial, incoming) = dial(8, &Faults::new());
    let mut client = ResumeLayer::new().deadline(Duration::from_secs(3)).layer(dial);
    let before = tokio::time::Instant::now();
    let error = connect(&mut client).await.err().unwrap();
    assert!(error.is_timeout() && error.to_string().contains("3s"), "{error}");
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    drop(incoming);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_sessions_is_found_out() {
    let (dial, mut incoming) = dial(8, &Faults::new());
    let mut client = ResumeLayer::new().layer(dial);
    let connecting = tokio::spawn(async move { connect(&mut client).await.err().unwrap() });
    let mut far = incoming.recv().await.unwrap();
    far.send(Message::text("welcome to the chat")).await.unwrap();
    let error: Error = connecting.await.unwrap();
    assert!(error.is_protocol() && error.to_string().contains("SessionStore"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_is_dropped_leaves_the_session_as_it_was() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    world.faults.half_open();
    put(&mut near, 0..2);
    drop(near);
    for _ in 0..3 {
        let connecting = connect(&mut world.client).now_or_never();
        assert!(connecting.is_none());
        tokio::task::yield_now().await;
    }
    let (mut near, verdict) = world.reopen(&mut session).await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 2 });
    near.flush().await.unwrap();
    take(&mut session, 0..2).await;
    quiet(&mut session);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_never_flushes_is_not_stuck_where_what_it_wrote_waits_for_a_flush() {
    let gather = || BatchLayer::new(BatchPolicy::on_flush(64));
    let (dialed, mut incoming) = tokio::sync::mpsc::unbounded_channel();
    let dial = tower::service_fn(move |_: http::Request<()>| {
        let (near, far) = tower_transport::channel::<Message, Message>(8);
        dialed.send(gather().layer(far)).unwrap();
        std::future::ready(Ok::<_, Error>(http::Response::new(gather().layer(near))))
    });
    let store = SessionStore::new().replay_messages(4);
    let mut client = ResumeLayer::new().replay_messages(4).layer(dial);
    let (opened, accepted) =
        tokio::join!(connect(&mut client), async { store.accept(incoming.recv().await.unwrap()).await });
    let (mut near, _) = opened.unwrap();
    let Ok(Accepted::New(mut far)) = accepted else { panic!("no session") };
    let writing = async {
        for number in 0..20 {
            near.feed(Message::text(number.to_string())).await.unwrap();
        }
        near.flush().await.unwrap();
    };
    let reading = async {
        for number in 0..20 {
            assert_eq!(far.next().await.unwrap().unwrap(), Message::text(number.to_string()));
        }
        // Its acknowledgements leave while it is read.
        far.next().await
    };
    tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! {
            () = writing => {}
            extra = reading => panic!("{extra:?}"),
        }
    })
    .await
    .expect("it hangs");
}

#[tokio::test(start_paused = true)]
async fn a_session_is_opened_and_resumed_on_transports_that_are_connected() {
    let (layer, store) = (ResumeLayer::new().handle(ResumeHandle::new()), SessionStore::new());
    let (near, far) = channel::<Message, Message>(8);
    let (opened, accepted) = tokio::join!(layer.open(near), store.accept(far));
    let (mut near, Accepted::New(mut session)) = (opened.unwrap(), accepted.unwrap()) else {
        panic!("it is the first connection")
    };
    assert_eq!(near.verdict(), Verdict::New);
    near.send_message("a".into()).await.unwrap();
    assert_eq!(session.receive_message().await.unwrap().unwrap(), "a".into());
    near.send_message("b".into()).await.unwrap();
    drop(near);

    let (near, far) = channel::<Message, Message>(8);
    let reading = async {
        // The handler polls its session, which gets the new connection by that.
        assert_eq!(session.receive_message().await.unwrap().unwrap(), "b".into());
        session.receive_message().await
    };
    let back = async {
        let (opened, accepted) = tokio::join!(layer.open(near), store.accept(far));
        assert!(matches!(accepted, Ok(Accepted::Resumed)));
        let mut near = opened.unwrap();
        assert_eq!(near.verdict(), Verdict::Resumed { replayed: 0 });
        near.send_message("c".into()).await.unwrap();
        near
    };
    let (read, _near) = tokio::join!(reading, back);
    assert_eq!(read.unwrap().unwrap(), "c".into());
}

#[tokio::test(start_paused = true)]
async fn opening_a_session_on_a_server_that_is_silent_fails_at_the_deadline() {
    let layer = ResumeLayer::new().deadline(Duration::from_secs(3));
    let (near, _far) = channel::<Message, Message>(8);
    let begin = tokio::time::Instant::now();
    assert!(layer.open(near).await.unwrap_err().is_timeout());
    assert_eq!(begin.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_is_taken_out_of_its_session_leaves_the_session_to_the_next_connection() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    put(&mut near, 0..2);
    take(&mut session, 0..1).await;
    near.into_inner().close().await.unwrap();

    let (mut near, verdict) = world.reopen(&mut session).await;
    // The session had not read the second message.
    assert_eq!(verdict, Verdict::Resumed { replayed: 1 });
    put(&mut near, 2..3);
    take(&mut session, 1..3).await;
}
