//! The server's end: sessions while their client is away, bounds, owners.

use std::{error::Error as _, task::Context, time::Duration};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower::Layer;
use tower_transport::{
    CloseCode, CloseFrame, Error, Message, QueueConfig, TransportExt, channel,
    layer::resume::{Accepted, ResumeHandle, ResumeLayer, SessionStore, Verdict},
    service::Server,
    test_util::fault::{Direction, Faults},
};

use super::support::{Near, World, connect, dial, message, put, take, world};

#[tokio::test(start_paused = true)]
async fn a_session_whose_client_stays_away_ends_after_its_time_and_says_what_was_left() {
    let mut world = world(ResumeLayer::new(), SessionStore::new().ttl(Duration::from_secs(7)));
    let (near, mut session) = world.open().await;
    drop(near);
    put(&mut session, 0..3);
    let before = tokio::time::Instant::now();
    let error = session.next().await.unwrap().unwrap_err();
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    assert!(error.is_closed() && error.to_string().contains("3 messages"), "{error}");
    let cause = error.source().unwrap().downcast_ref::<Error>().unwrap();
    assert!(cause.is_timeout() && cause.to_string().contains("7s"), "{cause}");
    assert!(session.next().await.is_none());
    assert!(session.send(message(9)).await.unwrap_err().is_closed());
    assert_eq!(session.unacknowledged(), 3);
    assert!(world.server.store.is_empty());
    assert_eq!(world.connect().await.1, Verdict::Fresh { lost: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_polls_is_given_up_when_its_client_asks_too_late() {
    let mut world = world(ResumeLayer::new(), SessionStore::new().ttl(Duration::from_secs(7)));
    let (near, mut session) = world.open().await;
    drop(near);
    assert!(session.next().now_or_never().is_none(), "it has seen the cut");
    assert_eq!(world.server.store.waiting(), 1);
    tokio::time::advance(Duration::from_secs(8)).await;
    assert_eq!(world.connect().await.1, Verdict::Fresh { lost: 0 });
    assert!(session.next().await.unwrap().unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_connection_takes_messages_up_to_its_bound_and_flushes_later() {
    let mut world = world(ResumeLayer::new(), SessionStore::new().replay_messages(4));
    let (near, mut session) = world.open().await;
    drop(near);
    assert!(session.next().now_or_never().is_none());
    put(&mut session, 0..4);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(session.poll_ready_unpin(&mut cx).is_pending());
    assert!(session.poll_flush_unpin(&mut cx).is_pending());
    let (mut near, verdict) = world.reopen(&mut session).await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 0 });
    session.flush().await.unwrap();
    take(&mut near, 0..4).await;
}

#[tokio::test(start_paused = true)]
async fn a_close_while_the_client_is_away_waits_until_it_has_all() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (near, mut session) = world.open().await;
    drop(near);
    put(&mut session, 0..3);
    let closing = tokio::spawn(async move {
        session.close().await.unwrap();
        session
    });
    let (mut near, verdict) = world.connect().await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 0 });
    take(&mut near, 0..3).await;
    assert!(near.next().await.is_none());
    drop(near);
    drop(closing.await.unwrap());
    assert!(world.server.store.is_empty());
    assert_eq!(world.connect().await.1, Verdict::New);
}

/// Drives a session and sends a message while its client is away. Returns the driver of the closing session.
async fn driven_and_left(world: &mut World) -> tokio::task::JoinHandle<Result<(), Error>> {
    let (near, session) = world.open().await;
    let (sender, _receiver, driver) = session.drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);
    tokio::task::yield_now().await;
    drop(near);
    tokio::time::sleep(Duration::from_secs(1)).await;
    sender.send(message(0)).await.unwrap();
    driver
}

#[tokio::test(start_paused = true)]
async fn a_driven_session_that_closes_while_its_client_is_away_keeps_its_last_messages_for_the_ttl() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let driver = driven_and_left(&mut world).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(!driver.is_finished());
    let (mut near, verdict) = world.connect().await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 0 });
    take(&mut near, 0..1).await;
    assert!(near.next().await.is_none());
    drop(near);
    driver.await.unwrap().unwrap();
}

/// A closing session whose client has vanished without a word: more waits for it than the connection holds.
async fn closes_half_open(world: &mut World) -> (Near, tokio::task::JoinHandle<Result<(), Error>>) {
    let (mut near, session) = world.open().await;
    let (sender, _receiver, driver) = session.drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);
    for number in 0..100 {
        sender.send(message(number)).await.unwrap();
    }
    let (unused, _) = channel::<Message, Message>(1);
    let unused = Faults::new().layer().layer(unused);
    let vanished = std::mem::replace(near.get_mut(), unused);
    (vanished, driver)
}

#[tokio::test(start_paused = true)]
async fn a_closing_session_whose_client_vanished_without_a_word_waits_for_it_as_long_as_the_close_may_take() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (vanished, driver) = closes_half_open(&mut world).await;
    let before = tokio::time::Instant::now();
    assert!(driver.await.unwrap().unwrap_err().is_timeout());
    assert_eq!(before.elapsed().as_secs(), 10, "QueueConfig::close_within");
    assert!(world.server.store.is_empty());
    drop(vanished);

    // It comes back before that, and gets the session's last messages.
    let mut world = self::world(ResumeLayer::new(), SessionStore::new());
    let (vanished, driver) = closes_half_open(&mut world).await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (mut near, verdict) = world.connect().await;
    assert!(matches!(verdict, Verdict::Resumed { .. }), "{verdict:?}");
    take(&mut near, 0..100).await;
    assert!(near.next().await.is_none());
    drop((near, vanished));
    driver.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_driven_session_that_closes_and_whose_client_stays_away_ends_after_the_ttl() {
    let mut world = world(ResumeLayer::new(), SessionStore::new().ttl(Duration::from_secs(60)));
    let driver = driven_and_left(&mut world).await;
    let error = tokio::time::timeout(Duration::from_secs(61), driver).await.unwrap().unwrap().unwrap_err();
    assert!(error.to_string().contains("1 messages"), "{error}");
    assert!(world.server.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_driven_session_whose_client_is_back_and_does_not_read_closes_within_the_limit_of_the_queue() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let driver = driven_and_left(&mut world).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    let (near, _) = world.connect().await;
    let ended = tokio::time::timeout(Duration::from_secs(25), driver).await;
    assert!(ended.is_ok(), "the close has no limit");
    drop(near);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_shuts_down_while_the_client_of_its_session_is_away_keeps_the_answers_for_the_ttl() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut near, session) = world.open().await;
    let echo = tower::service_fn(|request: Message| async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok::<_, Error>(request)
    });
    let server = Server::in_order(session, echo);
    let handle = server.handle();
    let server = tokio::spawn(server);
    near.send(message(0)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(near);
    handle.graceful_shutdown();
    tokio::time::sleep(Duration::from_secs(100)).await;
    let (mut near, _) = world.connect().await;
    take(&mut near, 0..1).await;
    assert!(near.next().await.is_none());
    drop(near);
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_older_connection_is_told_that_a_newer_one_has_the_session() {
    use super::support::{dial, serve};
    use tower::Layer;
    let faults = tower_transport::test_util::fault::Faults::new();
    let (dial, mut incoming) = dial(8, &faults);
    let (forward, forwarded) = tokio::sync::mpsc::unbounded_channel();
    let mut server = serve(SessionStore::new(), forwarded);
    let mut client = ResumeLayer::new().layer(dial);
    let first = tokio::spawn(async move {
        let first = connect(&mut client).await.unwrap();
        (first, client)
    });
    forward.send(incoming.recv().await.unwrap()).unwrap();
    let ((mut older, _), mut client) = first.await.unwrap();
    let session = server.sessions.recv().await.unwrap();
    let (sender, _receiver, driver) = session.drive(QueueConfig::messages()).into_parts();
    tokio::spawn(driver);

    // The client's own fence holds its older transport back; what the server says is on the channel all the same.
    let second = tokio::spawn(async move { connect(&mut client).await.unwrap() });
    let far = incoming.recv().await.unwrap();
    assert!(older.next().await.unwrap().unwrap_err().is_closed());
    forward.send(far).unwrap();
    let (mut newer, verdict) = second.await.unwrap();
    assert_eq!(verdict, Verdict::Resumed { replayed: 0 });
    let last = older.get_mut().next().await.unwrap().unwrap();
    let Message::Close(Some(frame)) = last else { panic!("{last:?}") };
    assert_eq!(frame.code().get(), 4409);
    assert!(older.get_mut().next().await.is_none());
    sender.send(message(0)).await.unwrap();
    take(&mut newer, 0..1).await;
}

#[tokio::test(start_paused = true)]
async fn a_close_message_of_the_connection_alone_does_not_end_the_session() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    near.get_mut().send(Message::Close(Some(CloseFrame::new(CloseCode::AWAY, "")))).await.unwrap();
    assert!(session.next().now_or_never().is_none());
    drop(near);
    let (mut near, verdict) = world.reopen(&mut session).await;
    assert_eq!(verdict, Verdict::Resumed { replayed: 0 });

    let frame = CloseFrame::new(CloseCode::NORMAL, "done");
    near.send(Message::Close(Some(frame.clone()))).await.unwrap();
    assert_eq!(session.next().await.unwrap().unwrap(), Message::Close(Some(frame)));
    assert!(session.send(message(0)).await.unwrap_err().is_closed());
    drop(near);
    assert!(session.next().await.is_none());
    assert!(world.server.store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_full_refuses_the_next_client_and_has_room_when_one_left() {
    let mut world = world(ResumeLayer::new(), SessionStore::new().sessions(1).ttl(Duration::from_secs(5)));
    let (near, session) = world.open().await;
    let mut other = super::support::world(ResumeLayer::new(), world.server.store.clone());
    let error = connect(&mut other.client).await.err().unwrap();
    assert!(error.is_closed());
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::TRY_AGAIN);
    assert!(other.server.resumed.recv().await.unwrap().unwrap_err().is_full());
    drop((near, session));
    assert_eq!(other.connect().await.1, Verdict::New);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_made_room_ends_at_once_though_its_client_was_waiting_for_it() {
    let store = SessionStore::new().sessions(1);
    let layer = ResumeLayer::new().handle(ResumeHandle::new());
    let (near, far) = channel::<Message, Message>(16);
    let (opened, accepted) = tokio::join!(layer.open(near), store.accept(far));
    let Accepted::New(mut session) = accepted.unwrap() else { panic!("not a new session") };
    drop(opened);
    assert!(session.next().now_or_never().is_none(), "it has seen the cut");
    // The client comes back, and the handler does not poll its session.
    let (near, far) = channel::<Message, Message>(16);
    let (mut opening, mut accepting) = (Box::pin(layer.open(near)), Box::pin(store.accept(far)));
    for _ in 0..3 {
        assert!(opening.as_mut().now_or_never().is_none() && accepting.as_mut().now_or_never().is_none());
    }
    // Another client takes the only place, so the first one is refused and its offer is withdrawn.
    let (near, far) = channel::<Message, Message>(16);
    let other = ResumeLayer::new();
    let (_opened, other) = tokio::join!(other.open(near), store.accept(far));
    assert!(matches!(other.unwrap(), Accepted::New(_)));
    let _ = accepting.await;
    let item = session.next().now_or_never().expect("the session has ended");
    let error = item.unwrap().unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("made room"), "{error}");
    assert!(session.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn sessions_that_nobody_polls_make_room_after_their_time() {
    let mut world = world(ResumeLayer::new(), SessionStore::new().sessions(1).ttl(Duration::from_secs(5)));
    let (near, mut session) = world.open().await;
    drop(near);
    assert!(session.next().now_or_never().is_none());
    tokio::time::advance(Duration::from_secs(6)).await;
    let mut other = super::support::world(ResumeLayer::new(), world.server.store.clone());
    assert_eq!(other.connect().await.1, Verdict::New);
    assert_eq!(world.server.store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_sessions_share_one_budget_and_each_still_sends_message_by_message() {
    let store = SessionStore::new().total_replay_bytes(64 << 10);
    let mut world = world(ResumeLayer::new(), store);
    let (near, mut session) = world.open().await;
    let (other_near, mut other) = {
        let mut second = super::support::world(ResumeLayer::new(), world.server.store.clone());
        second.open().await
    };
    drop((near, other_near));
    let block = || Message::binary(vec![7; 32 << 10]);
    let mut accepted = 0;
    for session in [&mut session, &mut other] {
        assert!(session.next().now_or_never().is_none());
        while let Some(fed) = session.feed(block()).now_or_never() {
            fed.unwrap();
            accepted += 1;
        }
    }
    assert_eq!(accepted, 2 + 1, "64 KiB in the first, one message in the second");
    drop(session);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(other.poll_ready_unpin(&mut cx).is_ready(), "what was free again is used");
}

#[tokio::test(start_paused = true)]
async fn the_bytes_of_all_sessions_exceed_their_bound_by_two_messages_of_each_at_most() {
    const SESSIONS: usize = 40;
    const MESSAGE: usize = 10_000;
    const TOTAL: usize = 100_000;
    let store = SessionStore::new().total_replay_bytes(TOTAL);
    let block = || Message::binary(vec![7; MESSAGE]);
    let mut all = Vec::new();
    for _ in 0..SESSIONS {
        let (mut near, mut session) = super::support::world(ResumeLayer::new(), store.clone()).open().await;
        // The client sends as much as it may, and the handler only writes, so it reads ahead.
        while near.feed(block()).now_or_never().is_some() {}
        while let Some(fed) = session.feed(block()).now_or_never() {
            if fed.is_err() {
                break;
            }
        }
        let _ = session.flush().now_or_never();
        all.push((near, session));
    }
    let sent: usize = all.iter().map(|(_, session)| session.unacknowledged() * MESSAGE).sum();
    let held = store.held_bytes();
    assert!(held >= sent && sent > TOTAL, "{sent} bytes wait for an acknowledgement, {held} are held");
    assert!(held <= TOTAL + SESSIONS * 2 * MESSAGE, "{held}");
    drop(all);
    assert_eq!(store.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_found_again_by_its_owner_alone() {
    use tower::Layer;
    use tower_transport::layer::resume::Accepted;
    let (dial, mut incoming) = super::support::dial(8, &tower_transport::test_util::fault::Faults::new());
    let mut client = ResumeLayer::new().layer(dial);
    let store = SessionStore::new();
    let (connected, accepted) = tokio::join!(connect(&mut client), async {
        store.accept_as(incoming.recv().await.unwrap(), "alice").await.unwrap()
    });
    let (Accepted::New(mut session), (near, _)) = (accepted, connected.unwrap()) else { panic!("new") };
    drop(near);
    let (connected, accepted) = tokio::join!(connect(&mut client), async {
        store.accept_as(incoming.recv().await.unwrap(), "mallory").await.unwrap()
    });
    assert!(matches!(accepted, Accepted::New(_)));
    assert_eq!(connected.unwrap().1, Verdict::Fresh { lost: 0 });
    assert!(session.next().now_or_never().is_none(), "alice's session is as it was");
    assert_eq!(store.len(), 2);
}

/// Each has sent before and rests, so its buffer is empty; then all of them send at once.
#[tokio::test(start_paused = true)]
async fn twenty_thousand_sessions_on_one_store_all_make_progress() {
    use futures_util::{StreamExt, stream};
    const SESSIONS: usize = 20_000;
    const BURST: usize = 8;
    let store = SessionStore::new().sessions(SESSIONS).total_replay_bytes(64 << 20);
    let mut ends = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        let (dial, mut incoming) = super::support::dial(64, &tower_transport::test_util::fault::Faults::new());
        let mut client = tower::Layer::layer(&ResumeLayer::new(), dial);
        let (connected, accepted) =
            tokio::join!(connect(&mut client), async { store.accept(incoming.recv().await.unwrap()).await.unwrap() });
        let tower_transport::layer::resume::Accepted::New(session) = accepted else { panic!("new") };
        ends.push((connected.unwrap().0, session));
    }
    for round in 0..2 {
        // Nobody acknowledges before all have sent, so the pool has to cover all of them.
        for (_, session) in &mut ends {
            tokio::task::yield_now().await;
            let sent = stream::iter(0..BURST).fold(0, |sent, number| {
                let fed = session.feed(message(number)).now_or_never();
                std::future::ready(sent + usize::from(fed.is_some_and(|fed| fed.is_ok())))
            });
            assert_eq!(sent.await, BURST, "round {round}: a session stalls");
            assert!(session.flush().now_or_never().unwrap().is_ok());
        }
        for (near, session) in &mut ends {
            take(near, 0..BURST).await;
            // So that the budget of this task does not run out.
            tokio::task::yield_now().await;
            assert!(near.next().now_or_never().is_none() && session.next().now_or_never().is_none());
        }
        tokio::time::advance(Duration::from_millis(101)).await;
        for (near, session) in &mut ends {
            tokio::task::yield_now().await;
            assert!(near.next().now_or_never().is_none() && session.next().now_or_never().is_none());
            assert_eq!(session.unacknowledged(), 0, "round {round}");
        }
        // Idle sessions take nothing from those that are busy.
        assert_eq!(store.held_bytes(), 0, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_owner_does_not_fill_the_store_and_makes_room_with_its_own_oldest_lost_session() {
    let store = SessionStore::new().sessions(8);
    let open = async |owner: Option<&'static str>, key: Option<&'static str>| {
        let (dial, mut incoming) = super::support::dial(8, &tower_transport::test_util::fault::Faults::new());
        let mut client = tower::Layer::layer(&ResumeLayer::new(), dial);
        let (connected, accepted) = tokio::join!(connect(&mut client), async {
            let far = incoming.recv().await.unwrap();
            match (owner, key) {
                (Some(owner), _) => store.accept_as(far, owner).await,
                (None, Some(key)) => store.accept_from(far, key).await,
                (None, None) => store.accept(far).await,
            }
        });
        match accepted {
            Ok(Accepted::New(session)) => Ok((connected.unwrap().0, session)),
            Ok(Accepted::Resumed) => panic!("not resumed"),
            Err(error) => Err(error),
        }
    };
    for (owner, key) in [(Some("mallory"), None), (None, Some("192.0.2.7"))] {
        // One connection after the other, each of which leaves a session behind: a quarter of the store is one owner's.
        let mut lost = Vec::new();
        for _ in 0..100 {
            let (near, mut session) = open(owner, key).await.unwrap();
            drop(near);
            assert!(session.next().now_or_never().is_none());
            lost.push(session);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!((store.len(), store.waiting()), (2, 2));
        let error = lost[0].next().await.unwrap().unwrap_err();
        assert!(error.is_closed() && error.to_string().contains("sessions_per_key"), "{error}");
        assert!(lost[97].next().await.unwrap().is_err());
        assert!(lost[98].next().now_or_never().is_none() && lost[99].next().now_or_never().is_none());
        // With connections, nobody is ended for it.
        let mut live = Vec::new();
        for _ in 0..2 {
            live.push(open(owner, key).await.unwrap());
        }
        assert!(open(owner, key).await.unwrap_err().is_full());
        assert!(open(None, None).await.is_ok());
        put(&mut live[0].1, 0..1);
        take(&mut live[0].0, 0..1).await;
    }
    assert!(store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_session_is_heard_behind_a_write_that_fails() {
    let (faults, store) = (Faults::new(), SessionStore::new());
    let (dial, mut incoming) = dial(64, &Faults::new());
    let mut client = ResumeLayer::new().layer(dial);
    let accepting = async { store.accept(faults.layer().layer(incoming.recv().await.unwrap())).await };
    let (near, accepted) = tokio::join!(connect(&mut client), accepting);
    let (mut near, Ok(Accepted::New(mut session))) = (near.unwrap().0, accepted) else { panic!("a session") };
    // The client's last messages arrive slowly.
    faults.stall(Direction::Incoming);
    put(&mut near, 0..2);
    near.close().now_or_never().expect("there is room").unwrap();
    drop((near, client));
    let before = tokio::time::Instant::now();
    let _ = session.send(message(7)).now_or_never();
    let late = faults.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(900)).await;
        late.resume(Direction::Incoming);
    });
    take(&mut session, 0..2).await;
    while let Some(item) = session.next().await {
        assert!(item.unwrap().is_close());
    }
    assert_eq!(before.elapsed(), Duration::from_millis(900));
    assert!(store.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_written_and_stays_silent_ends_in_a_second() {
    let (faults, store) = (Faults::new(), SessionStore::new().ttl(Duration::from_secs(7)));
    let (dial, mut incoming) = dial(64, &Faults::new());
    let mut client = ResumeLayer::new().layer(dial);
    let accepting = async { store.accept(faults.layer().layer(incoming.recv().await.unwrap())).await };
    let (near, accepted) = tokio::join!(connect(&mut client), accepting);
    let (near, Ok(Accepted::New(mut session))) = (near.unwrap().0, accepted) else { panic!("a session") };
    faults.stall(Direction::Incoming);
    drop(near);
    let before = tokio::time::Instant::now();
    let _ = session.send(message(7)).now_or_never();
    assert!(session.next().await.unwrap().unwrap_err().is_closed());
    assert_eq!(before.elapsed(), Duration::from_secs(8));
}
