use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Error, Message, QueueConfig, ServiceBuilderExt, TransportExt, channel,
    codec::{Codec, EncodeOnce, Encoded, JsonCodec, Outbound, RkyvCodec},
    layer::codec::{CodecLayer, Coded},
    test_util::WakeCount,
};

type Numbers = RkyvCodec<u32>;

fn pair(capacity: usize) -> (Coded<Channel, Numbers>, Channel) {
    let (near, far) = channel(capacity);
    (ServiceBuilder::new().codec(Numbers::new()).service(near), far)
}

fn strict(capacity: usize) -> (Coded<Channel, Numbers>, Channel) {
    let (near, far) = channel(capacity);
    (CodecLayer::new(Numbers::new()).close_on_bad_payload().layer(near), far)
}

fn number(value: u32) -> Message {
    Numbers::new().encode(&value).unwrap()
}

fn bad() -> Message {
    Message::binary(vec![1, 2, 3])
}

fn put(channel: &mut Channel, message: Message) {
    channel.send_message(message).now_or_never().unwrap().unwrap();
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

#[test]
fn values_go_out_as_messages_and_come_in_as_values() {
    let (mut near, mut far) = pair(4);
    near.send(7).now_or_never().unwrap().unwrap();
    assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), number(7));
    put(&mut far, number(8));
    assert_eq!(near.next().now_or_never().unwrap().unwrap().unwrap(), 8);
}

#[test]
fn pings_and_pongs_are_skipped_within_one_poll() {
    let (mut near, mut far) = pair(8);
    for message in [Message::Ping("a".into()), Message::Pong("b".into()), Message::Ping("c".into()), number(1)] {
        put(&mut far, message);
    }
    assert!(matches!(near.poll_next_unpin(&mut noop()), Poll::Ready(Some(Ok(1)))));
}

#[test]
fn pending_after_control_messages_wakes_for_the_next_value() {
    let (mut near, mut far) = pair(8);
    let (wakes, waker) = WakeCount::new();
    put(&mut far, Message::Ping("a".into()));
    assert!(near.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    put(&mut far, number(1));
    assert_eq!(wakes.get(), 1);
    assert!(near.poll_next_unpin(&mut Context::from_waker(&waker)).is_ready());
}

#[test]
fn back_pressure_of_the_inner_transport_reaches_the_caller() {
    let (mut near, mut far) = pair(1);
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    assert!(near.poll_ready_unpin(&mut cx).is_ready());
    near.start_send_unpin(1).unwrap();
    assert!(near.poll_ready_unpin(&mut cx).is_pending());
    far.next().now_or_never().unwrap();
    assert_eq!(wakes.get(), 1);
    assert!(near.poll_ready_unpin(&mut cx).is_ready());
}

#[test]
fn a_bad_payload_costs_its_own_message_and_no_other() {
    let (mut near, mut far) = pair(8);
    for message in [number(1), bad(), Message::text("2"), number(3)] {
        put(&mut far, message);
    }
    assert_eq!(near.next().now_or_never().unwrap().unwrap().unwrap(), 1);
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_codec());
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_codec());
    assert_eq!(near.next().now_or_never().unwrap().unwrap().unwrap(), 3);
    near.send(4).now_or_never().unwrap().unwrap();
    assert_eq!(near.close_frame(), None);
}

#[test]
fn a_close_message_ends_the_stream_and_its_frame_stays_reachable() {
    let (mut near, mut far) = pair(8);
    let frame = CloseFrame::new(CloseCode::TRY_AGAIN, "later");
    put(&mut far, number(1));
    put(&mut far, Message::Close(Some(frame.clone())));
    put(&mut far, number(2));
    assert_eq!(near.close_frame(), None);
    assert!(near.next().now_or_never().unwrap().is_some());
    for _ in 0..3 {
        assert!(near.next().now_or_never().unwrap().is_none());
    }
    assert_eq!(near.close_frame(), Some(&frame));
    assert_eq!(near.size_hint(), (0, Some(0)));

    let (Poll::Ready(Err(ready)), Err(send)) = (near.poll_ready_unpin(&mut noop()), near.start_send_unpin(3)) else {
        panic!("a closed transport took a value");
    };
    for error in [ready, send, near.flush().now_or_never().unwrap().unwrap_err()] {
        assert!(error.is_closed());
        assert_eq!(error.close_frame(), Some(&frame));
    }
    near.close().now_or_never().unwrap().unwrap();
}

#[test]
fn a_close_message_without_a_code_closes_too() {
    let (mut near, mut far) = pair(8);
    put(&mut far, Message::Close(None));
    assert!(near.next().now_or_never().unwrap().is_none());
    let error = near.send(1).now_or_never().unwrap().unwrap_err();
    assert!(error.is_closed() && error.close_frame().is_none());
}

#[test]
fn the_end_of_the_inner_stream_is_the_end_and_the_sink_is_the_inner_ones() {
    let (mut near, mut far) = pair(8);
    far.close().now_or_never().unwrap().unwrap();
    assert!(near.next().now_or_never().unwrap().is_none());
    near.send(1).now_or_never().unwrap().unwrap();
    assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), number(1));
    drop(far);
    assert!(near.send(1).now_or_never().unwrap().unwrap_err().is_closed());
}

#[test]
fn a_strict_transport_refuses_a_bad_payload_with_1007_and_ends() {
    let (mut near, mut far) = strict(8);
    put(&mut far, bad());
    put(&mut far, number(1));
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_codec());

    // The close message is out with the error, though nobody polled again.
    let Message::Close(Some(frame)) = far.next().now_or_never().unwrap().unwrap().unwrap() else {
        panic!("not a close message");
    };
    assert_eq!(frame.code(), CloseCode::INVALID_PAYLOAD);
    assert!(far.next().now_or_never().unwrap().is_none(), "the transport was not closed");

    assert!(near.next().now_or_never().unwrap().is_none());
    assert_eq!(near.close_frame(), Some(&frame));
    let error = near.send(2).now_or_never().unwrap().unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.close_frame(), Some(&frame));
}

#[test]
fn a_strict_transport_waits_for_room_for_its_close_message() {
    let (mut near, mut far) = strict(1);
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    near.send(1).now_or_never().unwrap().unwrap();
    put(&mut far, bad());
    assert!(matches!(near.poll_next_unpin(&mut cx), Poll::Ready(Some(Err(_)))));
    assert!(near.poll_next_unpin(&mut cx).is_pending());
    assert!(matches!(near.poll_ready_unpin(&mut cx), Poll::Ready(Err(_))), "no value may follow the close message");
    assert!(near.poll_flush_unpin(&mut cx).is_pending());

    assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), number(1));
    assert_eq!(wakes.get(), 1);
    assert!(matches!(near.poll_next_unpin(&mut cx), Poll::Ready(None)));
    assert!(far.next().now_or_never().unwrap().unwrap().unwrap().is_close());
}

#[test]
fn closing_the_sink_sends_the_refusal_first() {
    let (mut near, mut far) = strict(1);
    near.send(1).now_or_never().unwrap().unwrap();
    put(&mut far, bad());
    assert!(near.next().now_or_never().unwrap().unwrap().is_err());
    assert!(near.poll_close_unpin(&mut noop()).is_pending());
    far.next().now_or_never().unwrap();
    assert!(matches!(near.poll_close_unpin(&mut noop()), Poll::Ready(Ok(()))));
    assert!(far.next().now_or_never().unwrap().unwrap().unwrap().is_close());
}

/// A transport whose flush and close take a poll each, and which writes down what is done to it.
struct Slow {
    incoming: Vec<Message>,
    log: Vec<&'static str>,
    fail: bool,
}

impl Slow {
    fn step(&mut self, name: &'static str, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let again = self.log.last() == Some(&name);
        self.log.push(name);
        if self.fail {
            return Poll::Ready(Err(Error::closed("cut")));
        }
        if again {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Sink<Message> for Slow {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.step("ready", cx)
    }

    fn start_send(mut self: Pin<&mut Self>, _: Message) -> Result<(), Error> {
        self.log.push("send");
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.step("flush", cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.step("close", cx)
    }
}

impl Stream for Slow {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.log.push("next");
        Poll::Ready(self.incoming.pop().map(Ok))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.incoming.len(), Some(self.incoming.len()))
    }
}

#[test]
fn a_refusal_is_sent_then_flushed_then_closed_and_only_then_the_stream_ends() {
    let slow = Slow { incoming: vec![number(1), bad()], log: Vec::new(), fail: false };
    let mut near = CodecLayer::new(Numbers::new()).close_on_bad_payload().layer(slow);
    let (wakes, waker) = WakeCount::new();
    let mut cx = Context::from_waker(&waker);
    assert!(matches!(near.poll_next_unpin(&mut cx), Poll::Ready(Some(Err(_)))));
    let mut polls = 0;
    while near.poll_next_unpin(&mut cx).is_pending() {
        polls += 1;
        assert!(wakes.get() > polls, "pending without a wake-up");
    }
    assert_eq!(near.get_ref().log, ["next", "ready", "ready", "send", "flush", "flush", "close", "close"]);
}

#[test]
fn a_refusal_that_cannot_be_sent_ends_the_stream_all_the_same() {
    let slow = Slow { incoming: vec![bad()], log: Vec::new(), fail: true };
    let mut near = CodecLayer::new(Numbers::new()).close_on_bad_payload().layer(slow);
    assert!(near.next().now_or_never().unwrap().unwrap().unwrap_err().is_codec());
    assert!(near.next().now_or_never().unwrap().is_none());
}

#[test]
fn the_size_hint_promises_nothing_and_bounds_what_may_come() {
    let slow = Slow { incoming: vec![number(1), Message::Ping("".into())], log: Vec::new(), fail: false };
    let near = CodecLayer::new(Numbers::new()).layer(slow);
    assert_eq!(near.size_hint(), (0, Some(2)));
}

#[test]
fn the_transport_is_polled_once_more_after_a_close_message_to_answer_it() {
    let slow = Slow { incoming: vec![Message::Close(None)], log: Vec::new(), fail: false };
    let mut near = CodecLayer::new(Numbers::new()).layer(slow);
    assert!(near.next().now_or_never().unwrap().is_none());
    assert!(near.next().now_or_never().unwrap().is_none());
    assert_eq!(near.into_inner().log, ["next", "next"]);
}

/// Even numbers have no form on the wire.
#[derive(Clone, Debug)]
struct Odd;

impl Codec for Odd {
    type Out = u32;
    type In = u32;

    fn encode(&mut self, value: &u32) -> Result<Message, Error> {
        if value.is_multiple_of(2) { Err(Error::codec("even")) } else { Ok(number(*value)) }
    }

    fn decode(&mut self, message: Message) -> Result<u32, Error> {
        Numbers::new().decode(message)
    }
}

#[test]
fn a_value_without_a_form_is_not_sent_and_the_sink_goes_on() {
    let (near, mut far) = channel::<Message, Message>(1);
    let mut near = CodecLayer::new(Odd).layer(near);
    assert!(near.send(2).now_or_never().unwrap().unwrap_err().is_codec());
    near.send(3).now_or_never().unwrap().unwrap();
    assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), number(3));
}

#[test]
fn a_send_that_is_dropped_while_it_waits_for_room_sends_nothing() {
    let (mut near, mut far) = pair(1);
    near.send(1).now_or_never().unwrap().unwrap();
    assert!(near.send(2).now_or_never().is_none());
    assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), number(1));
    near.send(3).now_or_never().unwrap().unwrap();
    assert_eq!(far.next().now_or_never().unwrap().unwrap().unwrap(), number(3));
}

#[test]
fn a_receive_that_is_dropped_loses_nothing() {
    let (mut near, mut far) = pair(4);
    put(&mut far, Message::Ping("a".into()));
    assert!(near.next().now_or_never().is_none());
    put(&mut far, number(1));
    assert_eq!(near.next().now_or_never().unwrap().unwrap().unwrap(), 1);
}

#[test]
fn each_transport_of_a_layer_has_buffers_of_its_own() {
    let layer = CodecLayer::new(RkyvCodec::<u32>::new());
    let ((a, mut far_a), (b, mut far_b)) = (channel::<Message, Message>(1), channel::<Message, Message>(1));
    let (mut a, mut b) = (layer.layer(a), layer.layer(b));
    a.send(1).now_or_never().unwrap().unwrap();
    b.send(2).now_or_never().unwrap().unwrap();
    assert_eq!(far_a.next().now_or_never().unwrap().unwrap().unwrap(), number(1));
    assert_eq!(far_b.next().now_or_never().unwrap().unwrap().unwrap(), number(2));
}

#[test]
fn a_coded_transport_is_a_transport_whose_type_is_send_and_sync_when_its_parts_are() {
    fn check<T: Send + Sync + tower_transport::Transport<u32, In = u32>>(_: &T) {}
    check(&pair(1).0);
    check(&CodecLayer::new(Numbers::new()).layer(pair(1).1));
}

/// Counts how often it encodes.
#[derive(Clone, Default)]
struct Counting {
    numbers: Numbers,
    encoded: Arc<AtomicUsize>,
}

impl Codec for Counting {
    type Out = u32;
    type In = u32;

    fn encode(&mut self, value: &u32) -> Result<Message, Error> {
        self.encoded.fetch_add(1, Ordering::SeqCst);
        self.numbers.encode(value)
    }

    fn decode(&mut self, message: Message) -> Result<u32, Error> {
        self.numbers.decode(message)
    }
}

#[test]
fn a_broadcast_to_a_hundred_clients_is_encoded_once() {
    let mut codec = Counting::default();
    let layer = CodecLayer::new(EncodeOnce::new(codec.clone()));
    let mut clients: Vec<_> = (0..100)
        .map(|_| {
            let (near, far) = channel::<Message, Message>(8);
            (layer.layer(near).drive(QueueConfig::outbound()).into_parts(), far)
        })
        .collect();
    let price = Encoded::new(&mut codec, &101).unwrap();
    for ((sender, _receiver, driver), far) in &mut clients {
        sender.try_send(price.clone().into()).unwrap();
        assert_eq!(sender.queued_bytes(), price.message().len());
        assert!((&mut *driver).now_or_never().is_none());
        assert_eq!(&far.receive_message().now_or_never().unwrap().unwrap().unwrap(), price.message());
    }
    assert_eq!(codec.encoded.load(Ordering::SeqCst), 1);
    let ((sender, _receiver, driver), far) = &mut clients[0];
    sender.try_send(Outbound::Value(7)).unwrap();
    assert!((&mut *driver).now_or_never().is_none());
    assert_eq!(far.receive_message().now_or_never().unwrap().unwrap().unwrap(), number(7));
    assert_eq!(codec.encoded.load(Ordering::SeqCst), 2);
}

#[test]
fn an_outbound_queue_holds_64_values_that_own_memory_and_counts_encoded_ones_by_their_bytes() {
    let driven = || {
        let (near, far) = channel::<Message, Message>(1);
        let transport = CodecLayer::new(EncodeOnce::new(JsonCodec::<String>::new())).layer(near);
        (transport.drive(QueueConfig::outbound()).into_parts(), far)
    };
    let mut codec = JsonCodec::<String>::new();
    let small = Encoded::new(&mut codec, &"x".to_owned()).unwrap();
    let large = Encoded::new(&mut codec, &"x".repeat(300_000)).unwrap();
    let value = || Outbound::Value("x".repeat(300_000));
    for (fill, taken) in [
        (&value as &dyn Fn() -> Outbound<JsonCodec<String>>, 64),
        (&|| small.clone().into(), 1024),
        (&|| large.clone().into(), 4),
    ] {
        let ((sender, _receiver, _driver), _far) = driven();
        assert_eq!((0..5000).take_while(|_| sender.try_send(fill()).is_ok()).count(), taken);
    }
    // Both kinds share the bytes.
    let ((sender, _receiver, _driver), _far) = driven();
    for _ in 0..2 {
        sender.try_send(large.clone().into()).unwrap();
    }
    let values = (0..5000).take_while(|_| sender.try_send(value()).is_ok()).count();
    assert!(values < 32, "{values}");

    let (near, _far) = channel::<Message, Message>(1);
    let plain = CodecLayer::new(EncodeOnce::new(Numbers::default())).layer(near);
    let (sender, _receiver, _driver) = plain.drive(QueueConfig::outbound()).into_parts();
    assert_eq!((0..5000).take_while(|_| sender.try_send(Outbound::Value(7)).is_ok()).count(), 1024);
}

#[test]
fn a_peer_that_only_pings_does_not_keep_a_poll_busy() {
    let (mut near, mut far) = pair(1024);
    for _ in 0..1000 {
        put(&mut far, Message::Ping("?".into()));
    }
    put(&mut far, number(5));
    let wakes = Arc::new(WakeCount::default());
    let waker = wakes.clone().into();
    let mut polls = 0;
    loop {
        polls += 1;
        match near.poll_next_unpin(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => break assert_eq!(value.unwrap().unwrap(), 5),
            Poll::Pending => assert_eq!(wakes.get(), polls, "it wakes its own task"),
        }
    }
    assert_eq!(polls, 8);
}
