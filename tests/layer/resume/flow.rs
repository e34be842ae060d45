//! Many messages both ways at once, more than either end may have unacknowledged.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tower_transport::{
    Message, Queue, TransportExt,
    layer::resume::{ResumeLayer, SessionStore},
};

use super::support::{message, world};

const MANY: usize = 5000;

/// The echo reads nothing while it waits for room to write, and what makes room stands behind what it does not read.
#[tokio::test(start_paused = true)]
async fn an_echo_that_reads_only_when_it_has_written_does_not_wait_for_ever() {
    for (ours, theirs) in [(1024, 1024), (64, 16), (16, 64)] {
        let store = SessionStore::new().replay_messages(theirs);
        let mut world = world(ResumeLayer::new().replay_messages(ours), store);
        let (near, mut session) = world.open().await;
        tokio::spawn(async move {
            while let Some(Ok(message)) = session.next().await {
                session.send(message).await.unwrap();
            }
        });
        let (sender, mut receiver, driver) = near.drive(Queue::messages());
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
    let (back, mut there, far_driver) = session.drive(Queue::messages());
    let (sender, mut receiver, driver) = near.drive(Queue::messages());
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
