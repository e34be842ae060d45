//! Senders that wait for a place and do not come for it.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, SinkExt, stream::FuturesUnordered};
use tower::{Service, ServiceExt};

use super::*;
use tower_transport::test_util::WakeCount;

/// As often as a driver is woken, it is polled.
async fn run(driver: Driver<Channel, Message>) {
    let _ = driver.await;
}

fn reader(mut there: Channel) -> tokio::task::JoinHandle<usize> {
    tokio::spawn(async move {
        let mut read = 0;
        while there.receive_message().await.is_some() {
            read += 1;
        }
        read
    })
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_was_cancelled_holds_up_nobody() {
    let (mut sender, _receiver, driver, there) = driven(1, places(1));
    accept(&sender, 0..1);
    let clone = sender.clone();
    assert!(sender.feed(text(1)).now_or_never().is_none(), "the queue is full");
    tokio::spawn(run(driver));
    let _read = reader(there);
    let hour = Duration::from_secs(3600);
    tokio::time::timeout(hour, sender.send(text(2))).await.expect("the queue is empty").unwrap();
    tokio::time::timeout(hour, clone.send(text(3))).await.expect("the queue is empty").unwrap();
}

#[tokio::test(start_paused = true)]
async fn clones_that_gave_up_being_ready_and_live_on_hold_up_nobody() {
    let (sender, _receiver, driver, there) = driven(1, QueueConfig::messages());
    accept(&sender, 0..1024);
    let mut idle: Vec<_> = (0..1024).map(|_| sender.clone()).collect();
    for sender in &mut idle {
        assert!(sender.ready().now_or_never().is_none(), "the queue is full");
    }
    tokio::spawn(run(driver));
    let _read = reader(there);
    let hour = Duration::from_secs(3600);
    for i in 0..3000 {
        tokio::time::timeout(hour, sender.send(text(i))).await.expect("nobody else sends").unwrap();
    }
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_late_still_gets_its_place() {
    let (mut late, _receiver, driver, there) = driven(1, places(1));
    accept(&late, 0..1);
    assert!(late.feed(text(1)).now_or_never().is_none());
    let other = late.clone();
    tokio::spawn(run(driver));
    let read = reader(there);
    for i in 2..10 {
        other.send(text(i)).await.unwrap();
    }
    late.feed(text(1)).await.unwrap();
    drop((late, other));
    assert_eq!(read.await.unwrap(), 10);
}

#[test]
fn who_moves_up_behind_one_that_left_is_woken() {
    let (sender, _receiver, mut driver, mut there) = driven(2, places(2));
    accept(&sender, 0..2);
    assert!(turn(&mut driver).is_pending());
    accept(&sender, 2..4);
    let counts: Vec<_> = (0..3).map(|_| Arc::new(WakeCount::default())).collect();
    let mut waiting: Vec<_> = (10..13).map(|i| Box::pin(sender.send(text(i)))).collect();
    for (send, count) in waiting.iter_mut().zip(&counts) {
        assert!(send.poll_unpin(&mut Context::from_waker(&count.clone().into())).is_pending());
    }
    let mut last = waiting.pop().unwrap();
    drop(waiting.pop());
    assert_eq!(received(&mut there), ["0", "1"]);
    assert!(turn(&mut driver).is_pending());
    waiting.pop().unwrap().now_or_never().expect("it is first").unwrap();
    assert_eq!(counts[2].get(), 1, "two places for two");
    (&mut last).now_or_never().expect("a place is free").unwrap();
}

#[test]
fn a_place_that_is_not_wanted_any_more_is_given_back() {
    let (mut sender, _receiver, _driver, _there) = driven(1, places(1));
    let other = sender.clone();
    sender.ready().now_or_never().unwrap().unwrap();
    assert!(other.send(text(0)).now_or_never().is_none());
    assert!(sender.abort_send());
    assert!(!sender.abort_send());
    accept(&other, 0..1);
    assert!(sender.call(text(1)).now_or_never().unwrap().unwrap_err().is_full(), "it is not ready any more");
}

#[test]
fn trying_to_send_does_not_wait_and_gives_the_message_back() {
    let (sender, _receiver, mut driver, mut there) = driven(4, places(1));
    sender.try_send(text(0)).unwrap();
    let full = sender.try_send(text(1)).unwrap_err();
    assert!(full.error().is_full());
    assert_eq!(full.into_message(), Some(text(1)));
    let mut waiting = pin!(sender.send(text(2)));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(turn(&mut driver).is_pending());
    assert!(sender.try_send(text(3)).is_err(), "it does not overtake who waits");
    waiting.now_or_never().unwrap().unwrap();
    assert!(turn(&mut driver).is_pending());
    assert_eq!(received(&mut there), ["0", "2"]);
    assert!(!sender.is_closed());
    drop(driver);
    assert!(sender.is_closed());
    let closed = sender.try_send(text(4)).unwrap_err();
    assert!(tower_transport::Error::from(closed).is_closed());
}

/// Asks for a place, and does not want it any more; if it waits for one, without a word.
fn give_up(sender: &mut Sender<Message>) {
    if sender.ready().now_or_never().is_some() {
        sender.abort_send();
    }
}

async fn stress(queue: QueueConfig) {
    let (sender, _receiver, driver, there) = driven(2, queue);
    let driver = tokio::spawn(driver);
    let read = reader(there);
    let tasks: FuturesUnordered<_> = (0..64)
        .map(|task| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let mut accepted = 0;
                for i in 0..200 {
                    match (task + i) % 5 {
                        0 => accepted += usize::from(sender.feed(text(i)).now_or_never().is_some()),
                        1 => give_up(&mut sender),
                        2 => accepted += usize::from(sender.try_send(text(i)).is_ok()),
                        3 => accepted += usize::from(sender.send(text(i)).now_or_never().is_some()),
                        _ => {
                            sender.send(text(i)).await.unwrap();
                            accepted += 1;
                        }
                    }
                }
                give_up(&mut sender);
                (sender, accepted)
            })
        })
        .collect();
    let mut accepted = 0;
    let mut idle = Vec::new();
    for task in tasks {
        let (sender, count) = tokio::time::timeout(Duration::from_secs(60), task).await.expect("it hangs").unwrap();
        accepted += count;
        idle.push(sender);
    }
    drop((idle, sender));
    driver.await.unwrap().unwrap();
    assert_eq!(read.await.unwrap(), accepted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_tasks_that_cancel_what_they_began_lose_nothing_and_do_not_hang() {
    for places in [1, 3, 64] {
        stress(super::places(places)).await;
    }
}
