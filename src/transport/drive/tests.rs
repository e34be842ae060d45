//! The memory that a driven connection holds.

use std::{
    cell::Cell,
    panic,
    pin::Pin,
    task::{Context, Waker},
};

use futures_util::FutureExt;

use super::Driver;
use crate::{Channel, Message, QueueConfig, TransportExt, channel, transport::backlog::KEPT};

fn poll(driver: &mut Driver<Channel, Message>) {
    assert!(Pin::new(driver).poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn memory_is_taken_when_it_is_used_and_given_back_when_idle() {
    let (here, mut there) = channel::<Message, Message>(1024);
    let (sender, mut receiver, mut driver) = here.drive(QueueConfig::messages()).into_parts();
    assert_eq!((sender.queues().capacity(), driver.capacity()), (0, 0), "nothing in advance");

    for round in 0..3 {
        for i in 0..500u32 {
            sender.send(Message::text(i.to_string())).now_or_never().unwrap().unwrap();
        }
        for _ in 0..50 {
            there.send_message("back".into()).now_or_never().unwrap().unwrap();
        }
        poll(&mut driver);
        assert!(sender.queues().capacity() + driver.capacity() > 500, "round {round}");
        while receiver.receive().now_or_never().is_some() {}
        while there.receive_message().now_or_never().is_some() {}
        for _ in 0..3 {
            poll(&mut driver);
        }
        assert!(sender.queues().capacity() + driver.capacity() <= 4 * 2 * KEPT, "round {round}");
    }
}

#[test]
fn a_connection_of_small_bursts_keeps_its_memory() {
    let (here, mut there) = channel::<Message, Message>(1024);
    let (sender, _receiver, mut driver) = here.drive(QueueConfig::messages()).into_parts();
    let mut seen = Vec::new();
    for _ in 0..20 {
        for _ in 0..KEPT {
            sender.send("a".into()).now_or_never().unwrap().unwrap();
        }
        poll(&mut driver);
        poll(&mut driver);
        poll(&mut driver);
        while there.receive_message().now_or_never().is_some() {}
        seen.push((sender.queues().capacity(), driver.capacity()));
    }
    assert!(seen.iter().all(|held| *held == seen[0]), "{seen:?}");
}

#[test]
fn a_call_that_is_polled_before_its_driver_asks_for_no_timer() {
    thread_local! {
        static PANICS: Cell<Option<u32>> = const { Cell::new(None) };
    }
    let hook = panic::take_hook();
    // The hook is that of all tests, which run on other threads.
    panic::set_hook(Box::new(move |info| match PANICS.get() {
        Some(panics) => PANICS.set(Some(panics + 1)),
        None => hook(info),
    }));
    PANICS.set(Some(0));
    let without_timers = tokio::runtime::Builder::new_current_thread().build().unwrap();
    without_timers.block_on(async {
        let (here, mut there) = channel::<Message, Message>(8);
        let (sender, mut receiver, driver) =
            here.drive(QueueConfig::messages().max_messages(1.try_into().unwrap())).into_parts();
        sender.send("queued".into()).await.unwrap();
        tokio::spawn(driver);
        let (sent, flushed, received) = {
            let (writer, mut flusher) = (sender.clone(), sender.clone());
            there.send_message("back".into()).await.unwrap();
            futures_util::join!(
                async move { writer.send("waits".into()).await },
                async move { flusher.flush().await },
                receiver.receive()
            )
        };
        sent.unwrap();
        flushed.unwrap();
        assert_eq!(received.unwrap().unwrap(), Message::text("back"));
    });
    let panics = PANICS.take();
    assert_eq!(panics, Some(0));
}
