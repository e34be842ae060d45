//! Many messages both ways at once, more than either end may have unacknowledged.

use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower_transport::{
    Message, QueueConfig, TransportExt,
    layer::resume::{ResumeLayer, SessionStore},
};

use super::support::{message, put, quiet, take, world};

const MANY: usize = 5000;

/// The echo reads nothing while it waits for room to write, and what makes room stands behind what it does not read.
#[tokio::test(start_paused = true)]
async fn an_echo_that_reads_only_when_it_has_written_does_not_wait_forever() {
    for (ours, theirs) in [(1024, 1024), (64, 16), (16, 64)] {
        let store = SessionStore::new().replay_messages(theirs);
        let mut world = world(ResumeLayer::new().replay_messages(ours), store);
        let (near, mut session) = world.open().await;
        tokio::spawn(async move {
            while let Some(Ok(message)) = session.next().await {
                session.send(message).await.unwrap();
            }
        });
        let (sender, mut receiver, driver) = near.drive(QueueConfig::messages()).into_parts();
        tokio::spawn(driver);
        tokio::spawn(async move {
            for number in 0..MANY {
                sender.send(message(number)).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let all = async {
            for number in 0..MANY {
                assert_eq!(receiver.receive().await.unwrap().unwrap(), message(number));
            }
        };
        // On the paused clock: long only if everybody waits.
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("both ends wait for each other");
    }
}

/// The same with a driver at both ends: there a full inbox stops the reading.
#[tokio::test(start_paused = true)]
async fn two_driven_ends_do_not_wait_for_each_other_either() {
    let mut world = world(ResumeLayer::new(), SessionStore::new());
    let (near, session) = world.open().await;
    let (back, mut there, far_driver) = session.drive(QueueConfig::messages()).into_parts();
    let (sender, mut receiver, driver) = near.drive(QueueConfig::messages()).into_parts();
    tokio::spawn(far_driver);
    tokio::spawn(driver);
    tokio::spawn(async move {
        while let Some(Ok(message)) = there.receive().await {
            back.send(message).await.unwrap();
        }
    });
    tokio::spawn(async move {
        for number in 0..MANY {
            sender.send(message(number)).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let all = async {
        for number in 0..MANY {
            let received: Message = receiver.receive().await.unwrap().unwrap();
            assert_eq!(received, message(number));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("both ends wait for each other");
}

/// One end keeps more than the other holds: what was accepted meanwhile comes in portions, though the other reads only
/// what it must.
#[tokio::test(start_paused = true)]
async fn a_replay_larger_than_the_window_of_the_other_end_comes_in_portions() {
    const KEPT: usize = 3000;
    let mut world = world(ResumeLayer::new().replay_messages(16), SessionStore::new().replay_messages(KEPT));
    let (near, mut session) = world.open().await;
    drop(near);
    assert!(session.next().now_or_never().is_none());
    put(&mut session, 0..KEPT);
    let (mut near, _) = world.reopen(&mut session).await;
    // The session only closes, and the client only writes at first.
    let closing = tokio::spawn(async move { session.close().await.map(|()| session) });
    for number in 0..16 {
        near.feed(message(number)).await.unwrap();
    }
    let all = async {
        for number in 0..KEPT {
            assert_eq!(near.next().await.unwrap().unwrap(), message(number));
        }
        assert!(near.next().await.is_none());
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("both ends wait for each other");
    closing.await.unwrap().unwrap();
}

/// A flush is done when all that was accepted is written, which needs acknowledgements here.
#[tokio::test(start_paused = true)]
async fn a_flush_waits_until_the_window_of_the_peer_has_let_all_go() {
    let mut world = world(ResumeLayer::new().replay_messages(3000), SessionStore::new());
    let (mut near, mut session) = world.open().await;
    let feeding = tokio::spawn(async move {
        for number in 0..2000 {
            near.feed(message(number)).await.unwrap();
        }
        near.flush().await.map(|()| near)
    });
    take(&mut session, 0..900).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!feeding.is_finished());
    take(&mut session, 900..2000).await;
    drop(feeding.await.unwrap().unwrap());
}

/// Each of these is 8 bytes longer on the wire than here: both ends must count the same.
#[tokio::test(start_paused = true)]
async fn messages_that_end_like_a_mark_both_ways_at_once_fill_no_window_by_drift() {
    const MESSAGES: u64 = 21_000;
    const MARK: [u8; 8] = [0, 3, 0xf8, b't', b't', b'x', 1, 0xff];
    fn nth(number: u64) -> Message {
        Message::binary([&number.to_le_bytes()[..], &[7; 184], &MARK].concat())
    }
    let store = SessionStore::new().replay_bytes(65_536);
    let mut world = world(ResumeLayer::new().replay_bytes(65_536), store);
    let (near, session) = world.open().await;
    let (near, near_inbox, near_driver) = near.drive(QueueConfig::messages()).into_parts();
    let (far, far_inbox, far_driver) = session.drive(QueueConfig::messages()).into_parts();
    tokio::spawn(near_driver);
    tokio::spawn(far_driver);
    let mut inboxes = Vec::new();
    for (sender, mut inbox) in [(near, near_inbox), (far, far_inbox)] {
        let sending = tokio::spawn(async move {
            for number in 0..MESSAGES {
                sender.send(nth(number)).await.unwrap();
            }
            sender
        });
        inboxes.push(tokio::spawn(async move {
            for number in 0..MESSAGES {
                assert!(inbox.receive().await.unwrap().unwrap() == nth(number), "{number}");
            }
            sending.await.unwrap()
        }));
    }
    for inbox in inboxes {
        let all = tokio::time::timeout(Duration::from_secs(60), inbox).await;
        drop(all.expect("both ends wait for each other").unwrap());
    }
}

/// Half of the window is acknowledged at once; the delay counts from the next message.
#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_went_at_once_does_not_make_the_next_one_come_early() {
    const DELAY: Duration = Duration::from_millis(100);
    let mut world = world(ResumeLayer::new().ack_delay(DELAY), SessionStore::new().replay_messages(8));
    let (mut near, mut session) = world.open().await;
    put(&mut session, 0..1);
    take(&mut near, 0..1).await;
    quiet(&mut near);
    tokio::time::sleep(DELAY / 2).await;
    put(&mut session, 1..5);
    take(&mut near, 1..5).await;
    quiet(&mut near);
    quiet(&mut session);
    assert_eq!(session.unacknowledged(), 1);
    for (after, unacknowledged) in [(DELAY * 8 / 10, 1), (DELAY * 3 / 10, 0)] {
        assert!(tokio::time::timeout(after, near.next()).await.is_err());
        quiet(&mut session);
        assert_eq!(session.unacknowledged(), unacknowledged);
    }
}

/// A quarter of the window is acknowledged with the next message of the other direction, before it.
#[tokio::test(start_paused = true)]
async fn an_end_that_writes_acknowledges_with_what_it_writes() {
    let mut world = world(ResumeLayer::new(), SessionStore::new().replay_messages(8));
    let (mut near, mut session) = world.open().await;
    put(&mut session, 0..3);
    take(&mut near, 0..3).await;
    quiet(&mut session);
    assert_eq!(session.unacknowledged(), 3, "nothing is sent for it alone");
    put(&mut near, 0..1);
    take(&mut session, 0..1).await;
    assert_eq!(session.unacknowledged(), 0);
    // Half of the window.
    put(&mut session, 3..7);
    take(&mut near, 3..7).await;
    quiet(&mut session);
    assert_eq!(session.unacknowledged(), 0);
}
