use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use futures_util::{FutureExt, StreamExt};

use super::*;
use crate::{Channel, channel};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn task() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (count.clone(), count.into())
}

fn next(channel: &mut Channel<u32>) -> Option<u32> {
    channel.next().now_or_never().map(|item| item.unwrap().unwrap())
}

#[test]
fn own_messages_leave_on_the_readers_task_alone() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut control = Control::new();
    let (wakes, waker) = task();
    let cx = Context::from_waker(&waker);
    control.push(1);
    control.push(2);
    assert!(control.poll_send(Pin::new(&mut here), &cx).is_pending());
    assert_eq!(next(&mut there), Some(1));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(control.poll_send(Pin::new(&mut here), &cx).is_ready());
    assert_eq!(next(&mut there), Some(2));
    assert!(control.is_idle());
}

#[test]
fn a_place_that_was_promised_is_kept_and_the_order_too() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut control = Control::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(control.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    control.push(1);
    assert!(control.poll_send(Pin::new(&mut here), &cx).is_ready());
    // The own message has the only place.
    assert!(control.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    control.start_send(Pin::new(&mut here), 2).unwrap();
    assert!(control.poll_ready(Pin::new(&mut here), &mut cx).is_pending());
    assert!(control.poll_flush(Pin::new(&mut here), &mut cx).is_pending());
    assert_eq!(next(&mut there), Some(1));
    assert!(control.poll_flush(Pin::new(&mut here), &mut cx).is_ready());
    assert_eq!(next(&mut there), Some(2));
}

#[test]
fn a_message_of_the_user_does_not_overtake_an_own_one_that_waits() {
    let (mut here, mut there) = channel::<u32, u32>(4);
    let mut control = Control::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(control.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    control.push(1);
    control.start_send(Pin::new(&mut here), 2).unwrap();
    assert!(control.poll_flush(Pin::new(&mut here), &mut cx).is_ready());
    assert_eq!((next(&mut there), next(&mut there)), (Some(1), Some(2)));
}

#[test]
fn a_writer_that_waits_is_woken_though_the_reader_wrote_after_it() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut control = Control::new();
    let ((writes, writer), (reads, reader)) = (task(), task());
    let mut cx = Context::from_waker(&writer);
    assert!(control.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    control.start_send(Pin::new(&mut here), 1).unwrap();
    assert!(control.poll_ready(Pin::new(&mut here), &mut cx).is_pending());
    control.push(2);
    assert!(control.poll_send(Pin::new(&mut here), &Context::from_waker(&reader)).is_pending());
    assert_eq!(next(&mut there), Some(1));
    assert_eq!((writes.0.load(Ordering::Relaxed), reads.0.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn without_own_messages_a_start_send_goes_straight_through() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut control = Control::new();
    let mut cx = Context::from_waker(Waker::noop());
    for message in 0..3 {
        assert!(control.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
        control.start_send(Pin::new(&mut here), message).unwrap();
        assert_eq!(control.len(), 0);
        assert_eq!(next(&mut there), Some(message));
    }
}

#[test]
fn it_is_steady_while_nothing_of_its_own_waits_and_never_after_the_end() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut control = Control::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(control.is_steady() && control.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    control.push(1);
    assert!(!control.is_steady() && !control.passes());
    assert!(control.poll_send(Pin::new(&mut here), &cx).is_ready());
    assert!(!control.is_steady(), "the user's place is taken");
    assert_eq!(next(&mut there), Some(1));
    assert!(control.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    assert!(control.is_steady() && control.passes());
    control.end();
    assert!(control.poll_flush(Pin::new(&mut here), &mut cx).is_ready());
    assert!(control.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    assert!(!control.is_steady());
}
