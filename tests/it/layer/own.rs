//! The promises of `LayerSink` and `KeepingSink`, poll by poll.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt, StreamExt};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Error, Message, channel,
    layer::own::{KeepingSink, LayerSink},
    test_util::WakeCount,
};

use super::rejecting::rejecting;

fn next(channel: &mut Channel<u32>) -> Option<u32> {
    channel.next().now_or_never().map(|item| item.unwrap().unwrap())
}

#[test]
fn own_messages_leave_on_the_readers_task_alone() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut sink = LayerSink::new();
    let (wakes, waker) = WakeCount::new();
    let cx = Context::from_waker(&waker);
    sink.push(1);
    sink.push(2);
    assert!(sink.poll_send(Pin::new(&mut here), &cx).is_pending());
    assert_eq!(next(&mut there), Some(1));
    assert_eq!(wakes.get(), 1);
    assert!(sink.poll_send(Pin::new(&mut here), &cx).is_ready());
    assert_eq!(next(&mut there), Some(2));
    assert!(sink.is_idle());
}

#[test]
fn a_place_that_was_promised_is_kept_and_the_order_too() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut sink = LayerSink::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    sink.push(1);
    assert!(sink.poll_send(Pin::new(&mut here), &cx).is_ready());
    // The own message has the only place.
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    sink.start_send(Pin::new(&mut here), 2).unwrap();
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_pending());
    assert!(sink.poll_flush(Pin::new(&mut here), &mut cx).is_pending());
    assert_eq!(next(&mut there), Some(1));
    assert!(sink.poll_flush(Pin::new(&mut here), &mut cx).is_ready());
    assert_eq!(next(&mut there), Some(2));
}

#[test]
fn a_message_of_the_user_does_not_overtake_an_own_one_that_waits() {
    let (mut here, mut there) = channel::<u32, u32>(4);
    let mut sink = LayerSink::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    sink.push(1);
    sink.start_send(Pin::new(&mut here), 2).unwrap();
    assert!(sink.poll_flush(Pin::new(&mut here), &mut cx).is_ready());
    assert_eq!((next(&mut there), next(&mut there)), (Some(1), Some(2)));
}

#[test]
fn a_writer_that_waits_is_woken_though_the_reader_wrote_after_it() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut sink = LayerSink::new();
    let ((writes, writer), (reads, reader)) = (WakeCount::new(), WakeCount::new());
    let mut cx = Context::from_waker(&writer);
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    sink.start_send(Pin::new(&mut here), 1).unwrap();
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_pending());
    sink.push(2);
    assert!(sink.poll_send(Pin::new(&mut here), &Context::from_waker(&reader)).is_pending());
    assert_eq!(next(&mut there), Some(1));
    assert_eq!((writes.get(), reads.get()), (1, 1));
}

#[test]
fn without_own_messages_a_start_send_goes_straight_through() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut sink = LayerSink::new();
    let mut cx = Context::from_waker(Waker::noop());
    for message in 0..3 {
        assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
        sink.start_send(Pin::new(&mut here), message).unwrap();
        assert_eq!(sink.len(), 0);
        assert_eq!(next(&mut there), Some(message));
    }
}

#[test]
fn it_only_forwards_while_nothing_of_its_own_waits_and_never_after_the_end() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut sink = LayerSink::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sink.is_forwarding() && sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    sink.push(1);
    assert!(!sink.is_forwarding() && !sink.passes());
    assert!(sink.poll_send(Pin::new(&mut here), &cx).is_ready());
    assert!(!sink.is_forwarding(), "the user's place is taken");
    assert_eq!(next(&mut there), Some(1));
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    assert!(sink.is_forwarding() && sink.passes());
    sink.abort(Error::timeout("dead"), Error::closed("dead"));
    assert!(!sink.is_forwarding() && !sink.passes());
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).map_err(|error| error.is_closed()) == Poll::Ready(Err(true)));
}

fn ended(item: Poll<Option<Result<(), Error>>>) -> Option<Error> {
    let Poll::Ready(item) = item else { panic!("the stream waits") };
    item.map(Result::unwrap_err)
}

#[test]
fn a_close_sends_what_was_accepted_then_the_frame_and_tells_each_half_why() {
    let (mut here, mut there) = channel::<Message, Message>(4);
    let mut sink = LayerSink::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    sink.push(Message::text("own"));
    sink.start_send(Pin::new(&mut here), Message::text("accepted")).unwrap();
    let frame = CloseFrame::new(CloseCode::POLICY, "too much");
    sink.close(frame.clone(), Error::full("too much"));
    sink.close(CloseFrame::new(CloseCode::AWAY, "again"), Error::timeout("again"));
    assert!(sink.has_ended());
    sink.push(Message::text("late"));
    let closed = sink.start_send(Pin::new(&mut here), Message::text("late")).unwrap_err();
    assert!(closed.is_closed() && closed.close_frame() == Some(&frame));
    assert!(ended(sink.poll_end(Pin::new(&mut here), &cx)).is_some_and(|error| error.is_full()));
    assert!(ended(sink.poll_end(Pin::new(&mut here), &cx)).is_none());
    for expected in [Message::text("own"), Message::text("accepted"), Message::Close(Some(frame))] {
        assert_eq!(there.next().now_or_never().unwrap().unwrap().unwrap(), expected);
    }
    assert!(there.next().now_or_never().unwrap().is_none());
    assert!(matches!(sink.poll_close(Pin::new(&mut here), &mut cx), Poll::Ready(Ok(()))));
}

#[test]
fn a_writer_that_waits_for_room_is_woken_by_the_end_and_may_send_the_close_message_itself() {
    let (mut here, mut there) = channel::<Message, Message>(1);
    let mut sink = LayerSink::new();
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    sink.start_send(Pin::new(&mut here), Message::text("first")).unwrap();
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_pending());
    sink.close(CloseFrame::new(CloseCode::AWAY, ""), Error::timeout("over"));
    assert_eq!(wakes.get(), 1);
    assert!(matches!(sink.poll_ready(Pin::new(&mut here), &mut cx), Poll::Ready(Err(error)) if error.is_closed()));
    assert!(sink.poll_flush(Pin::new(&mut here), &mut cx).is_pending());
    assert!(there.next().now_or_never().unwrap().unwrap().unwrap().is_data());
    assert!(matches!(sink.poll_flush(Pin::new(&mut here), &mut cx), Poll::Ready(Err(error)) if error.is_closed()));
    assert!(there.next().now_or_never().unwrap().unwrap().unwrap().is_close());
    assert!(sink.take_error().is_some(), "the stream has not been polled");
}

#[test]
fn a_close_that_takes_too_long_is_given_up_and_the_error_is_still_told() {
    let (mut here, _there) = channel::<Message, Message>(1);
    let mut sink = LayerSink::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).is_ready());
    sink.start_send(Pin::new(&mut here), Message::text("unread")).unwrap();
    sink.close(CloseFrame::new(CloseCode::AWAY, ""), Error::timeout("over"));
    assert!(sink.poll_closed(Pin::new(&mut here), &cx).is_pending() && sink.is_closing());
    sink.give_up();
    assert!(sink.poll_closed(Pin::new(&mut here), &cx).is_ready());
    assert!(ended(sink.poll_end(Pin::new(&mut here), &cx)).is_some());
    assert!(ended(sink.poll_end(Pin::new(&mut here), &cx)).is_none());
    assert!(sink.poll_close(Pin::new(&mut here), &mut cx).is_ready());
}

#[test]
fn a_sink_that_is_closed_alone_still_closes_the_transport() {
    let (mut here, mut there) = channel::<Message, Message>(1);
    let mut sink = LayerSink::new();
    let mut cx = Context::from_waker(Waker::noop());
    sink.close_sink(Error::closed("the peer has closed"));
    assert!(!sink.is_open() && !sink.has_ended());
    assert!(sink.poll_ready(Pin::new(&mut here), &mut cx).map(|room| room.is_err()) == Poll::Ready(true));
    assert!(sink.poll_close(Pin::new(&mut here), &mut cx).map(|closed| closed.is_ok()) == Poll::Ready(true));
    assert!(there.next().now_or_never().unwrap().is_none());
}

#[test]
fn a_layer_that_keeps_messages_asks_for_room_once_for_each_that_it_sends() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut sink = KeepingSink::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(!sink.take_promise(), "nothing was promised");
    for _ in 0..3 {
        assert!(sink.poll_room(Pin::new(&mut here), &mut cx).is_ready());
        sink.promise_room();
        assert!(sink.take_promise() && sink.has_room());
    }
    sink.start_own(Pin::new(&mut here), 1).unwrap();
    assert!(!sink.has_room() && sink.get_ref().is_empty());
    assert!(sink.poll_room(Pin::new(&mut here), &mut cx).is_pending());
    // Without room it waits for either half.
    sink.start_own(Pin::new(&mut here), 2).unwrap();
    assert_eq!((sink.get_ref().len(), next(&mut there)), (1, Some(1)));
    assert!(sink.get_mut().poll_send(Pin::new(&mut here), &cx).is_ready());
    assert_eq!(next(&mut there), Some(2));
}

#[test]
fn a_promise_to_the_user_outlives_the_room_that_an_own_message_has_used() {
    let (mut here, mut there) = channel::<u32, u32>(1);
    let mut sink = KeepingSink::new();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(sink.poll_room(Pin::new(&mut here), &mut cx).is_ready());
    sink.promise_room();
    sink.start_own(Pin::new(&mut here), 1).unwrap();
    assert!(sink.get_mut().poll_flush(Pin::new(&mut here), &mut cx).is_ready());
    assert!(sink.poll_room(Pin::new(&mut here), &mut cx).is_ready() && !sink.has_room());
    assert!(sink.take_promise() && !sink.take_promise());
    assert!(sink.poll_room(Pin::new(&mut here), &mut cx).is_pending());
    assert_eq!(next(&mut there), Some(1));
    assert!(sink.poll_room(Pin::new(&mut here), &mut cx).is_ready() && sink.has_room());
    sink.forget_room();
    assert!(!sink.has_room());
}

#[test]
fn the_rejection_of_an_own_message_is_for_the_reader_alone() {
    let (here, mut there) = channel::<u32, u32>(8);
    let mut here = rejecting(here, |number: &u32| number.is_multiple_of(2).then(|| Error::codec("even")));
    let mut sink = LayerSink::new();
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(Waker::noop());
    // By the writer, for the reader.
    sink.push(1);
    assert!(sink.poll_send(Pin::new(&mut here), &Context::from_waker(&waker)).is_ready());
    for number in [2, 3, 4] {
        sink.push(number);
    }
    assert!(matches!(sink.poll_ready(Pin::new(&mut here), &mut cx), Poll::Ready(Ok(()))));
    sink.start_send(Pin::new(&mut here), 5).unwrap();
    assert!(matches!(sink.poll_flush(Pin::new(&mut here), &mut cx), Poll::Ready(Ok(()))));
    assert_eq!([next(&mut there), next(&mut there), next(&mut there)], [Some(1), Some(3), Some(5)]);
    assert!(wakes.get() > 0 && !sink.is_idle());
    let Poll::Ready(Err(error)) = sink.poll_send(Pin::new(&mut here), &cx) else { panic!("an error is due") };
    assert!(error.is_codec());
    assert!(matches!(sink.poll_send(Pin::new(&mut here), &cx), Poll::Ready(Ok(()))));
    assert!(sink.is_idle());
    // By the reader, one after the other.
    for number in [6, 7, 8] {
        sink.push(number);
    }
    for _ in 0..2 {
        assert!(matches!(sink.poll_send(Pin::new(&mut here), &cx), Poll::Ready(Err(_))));
    }
    assert!(matches!(sink.poll_send(Pin::new(&mut here), &cx), Poll::Ready(Ok(()))));
    assert_eq!(next(&mut there), Some(7));
    // A message that is made of messages of the user.
    sink.push_for_user(10);
    assert!(matches!(sink.poll_flush(Pin::new(&mut here), &mut cx), Poll::Ready(Err(_))));
    sink.push_for_user(12);
    assert!(matches!(sink.poll_send(Pin::new(&mut here), &cx), Poll::Ready(Err(_))));
}
