//! Services as filters of messages: order, errors, back-pressure, and tower's own middleware in both directions.

use std::{
    future::{Future, Ready, poll_fn, ready},
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use proptest::prelude::*;
use tower::{
    BoxError, Layer, Service, ServiceBuilder, filter::FilterLayer, limit::ConcurrencyLimitLayer, service_fn,
    timeout::TimeoutLayer,
};
use tower_resilience_circuitbreaker::CircuitBreakerLayer;
use tower_transport::{
    Channel, Error, Message, QueueConfig, ServiceBuilderExt, TransportExt, channel, contract_tests,
    layer::service::{MAX_REFUSALS, OutboundService, ServiceLayer},
    test_util::WakeCount,
};

/// A service whose answers are given by hand: `n` is answered with `n`, when it was released.
#[derive(Clone, Default)]
struct ByHand(Arc<Mutex<Calls>>);

#[derive(Default)]
struct Calls {
    called: Vec<u32>,
    released: Vec<Result<u32, u32>>,
    wakers: Vec<Waker>,
    busy: bool,
}

impl ByHand {
    fn called(&self) -> Vec<u32> {
        self.0.lock().unwrap().called.clone()
    }

    fn release(&self, answer: Result<u32, u32>) {
        let mut calls = self.0.lock().unwrap();
        calls.released.push(answer);
        calls.wakers.drain(..).for_each(Waker::wake);
    }

    fn busy(&self, busy: bool) {
        let mut calls = self.0.lock().unwrap();
        calls.busy = busy;
        calls.wakers.drain(..).for_each(Waker::wake);
    }
}

struct Answer(u32, ByHand);

impl Future for Answer {
    type Output = Result<u32, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut calls = self.1.0.lock().unwrap();
        if calls.released.contains(&Ok(self.0)) {
            return Poll::Ready(Ok(self.0));
        }
        if calls.released.contains(&Err(self.0)) {
            return Poll::Ready(Err(Error::auth(format!("{} may not pass", self.0))));
        }
        calls.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

impl Service<u32> for ByHand {
    type Response = u32;
    type Error = Error;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut calls = self.0.lock().unwrap();
        if calls.busy {
            calls.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Answer {
        self.0.lock().unwrap().called.push(request);
        Answer(request, self.clone())
    }
}

fn n(limit: usize) -> NonZeroUsize {
    NonZeroUsize::new(limit).unwrap()
}

fn outbound(limit: usize) -> (ByHand, OutboundService<Channel<u32>, ByHand, u32>, Channel<u32>) {
    let (near, far) = channel::<u32, u32>(8);
    let service = ByHand::default();
    (service.clone(), ServiceLayer::outbound(service).concurrency(n(limit)).layer(near), far)
}

fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    stream.next().now_or_never().flatten()
}

fn number<E: std::fmt::Debug>(stream: &mut (impl Stream<Item = Result<u32, E>> + Unpin)) -> Option<u32> {
    next(stream).map(Result::unwrap)
}

fn put(sink: &mut (impl Sink<u32, Error = Error> + Unpin), message: u32) {
    sink.send(message).now_or_never().unwrap().unwrap();
}

#[test]
fn incoming_messages_come_in_order_though_their_answers_do_not() {
    let (near, mut far) = channel::<u32, u32>(8);
    let service = ByHand::default();
    let mut near = ServiceLayer::inbound(service.clone()).concurrency(n(3)).layer(near);
    (1..=4).for_each(|message| put(&mut far, message));
    assert!(near.next().now_or_never().is_none());
    assert_eq!(service.called(), [1, 2, 3], "three at a time");

    service.release(Ok(3));
    service.release(Ok(2));
    assert!(near.next().now_or_never().is_none());
    service.release(Ok(1));
    assert_eq!([number(&mut near), number(&mut near), number(&mut near)], [Some(1), Some(2), Some(3)]);
    assert!(near.next().now_or_never().is_none());
    assert_eq!(service.called(), [1, 2, 3, 4]);
}

#[test]
fn an_answer_wakes_the_reader() {
    let (near, mut far) = channel::<u32, u32>(8);
    let service = ByHand::default();
    let mut near = ServiceLayer::inbound(service.clone()).layer(near);
    put(&mut far, 1);
    let (task, waker) = WakeCount::new();
    assert!(near.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    service.release(Ok(1));
    assert_eq!(task.get(), 1);
    assert_eq!(number(&mut near), Some(1));
}

#[test]
fn nothing_is_read_beyond_one_message_while_the_service_is_not_ready() {
    let (near, mut far) = channel::<u32, u32>(1);
    let service = ByHand::default();
    service.busy(true);
    let mut near = ServiceLayer::inbound(service.clone()).concurrency(n(5)).layer(near);
    put(&mut far, 1);
    let (task, waker) = WakeCount::new();
    assert!(near.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    put(&mut far, 2);
    assert!(near.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    assert!(far.send(3).now_or_never().is_none(), "the peer has to wait");
    assert_eq!(service.called(), [0u32; 0]);

    service.release(Ok(1));
    service.busy(false);
    assert!(task.get() > 0);
    assert_eq!(number(&mut near), Some(1));
}

#[test]
fn a_refused_incoming_message_is_an_error_in_its_place_and_the_stream_goes_on() {
    let (near, mut far) = channel::<u32, u32>(8);
    let service = ByHand::default();
    let mut near = ServiceLayer::inbound(service.clone()).concurrency(n(3)).layer(near);
    (1..=3).for_each(|message| put(&mut far, message));
    assert!(near.next().now_or_never().is_none());
    service.release(Err(2));
    service.release(Ok(3));
    assert!(near.next().now_or_never().is_none());
    service.release(Ok(1));
    assert_eq!(number(&mut near), Some(1));
    assert!(next(&mut near).unwrap().unwrap_err().is_auth());
    assert_eq!(number(&mut near), Some(3));
}

#[test]
fn an_error_of_the_inner_stream_and_its_end_come_after_the_messages_before_them() {
    struct Inner(Vec<Option<Result<u32, Error>>>);
    impl Stream for Inner {
        type Item = Result<u32, Error>;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.pop().flatten())
        }
    }
    let service = ByHand::default();
    let inner = Inner(vec![None, Some(Ok(2)), Some(Err(Error::codec("what is that?"))), Some(Ok(1))]);
    let mut near = ServiceLayer::inbound(service.clone()).concurrency(n(8)).layer(inner);
    assert!(near.next().now_or_never().is_none());
    assert_eq!(service.called(), [1, 2]);
    service.release(Ok(2));
    assert!(near.next().now_or_never().is_none());
    service.release(Ok(1));
    assert_eq!(number(&mut near), Some(1));
    assert!(next(&mut near).unwrap().unwrap_err().is_codec());
    assert_eq!(number(&mut near), Some(2));
    for _ in 0..2 {
        assert!(near.next().now_or_never().unwrap().is_none());
    }
}

#[test]
fn outgoing_messages_leave_in_order_though_their_answers_do_not() {
    let (service, mut near, mut far) = outbound(3);
    for message in 1..=3 {
        near.feed(message).now_or_never().unwrap().unwrap();
    }
    assert!(near.feed(4).now_or_never().is_none(), "three at a time");
    service.release(Ok(2));
    service.release(Ok(3));
    assert!(near.flush().now_or_never().is_none());
    assert_eq!(number(&mut far), None);
    service.release(Ok(1));
    near.flush().now_or_never().unwrap().unwrap();
    assert_eq!([number(&mut far), number(&mut far), number(&mut far)], [Some(1), Some(2), Some(3)]);
}

#[test]
fn what_is_answered_is_flushed_while_the_service_works_on_the_rest() {
    let (service, near, mut far) = outbound(3);
    let mut near = near;
    near.feed(1).now_or_never().unwrap().unwrap();
    near.feed(2).now_or_never().unwrap().unwrap();
    service.release(Ok(1));
    let (task, waker) = WakeCount::new();
    assert!(near.poll_flush_unpin(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(number(&mut far), Some(1));
    service.release(Ok(2));
    assert!(task.get() > 0);
    assert!(matches!(near.poll_flush_unpin(&mut Context::from_waker(&waker)), Poll::Ready(Ok(()))));
    assert_eq!(number(&mut far), Some(2));
}

#[test]
fn a_service_that_is_not_ready_stops_the_writer_and_wakes_it_later() {
    let (service, mut near, _far) = outbound(3);
    service.busy(true);
    let (task, waker) = WakeCount::new();
    assert!(near.poll_ready_unpin(&mut Context::from_waker(&waker)).is_pending());
    service.busy(false);
    assert_eq!(task.get(), 1);
    assert!(near.poll_ready_unpin(&mut Context::from_waker(&waker)).is_ready());
}

#[test]
fn readiness_stays_until_it_is_used_though_answers_fill_the_inner_transport() {
    let (near, mut far) = channel::<u32, u32>(1);
    let service = ByHand::default();
    let mut near = ServiceLayer::outbound(service.clone()).concurrency(n(2)).layer(near);
    near.feed(1).now_or_never().unwrap().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(near.poll_ready_unpin(&mut cx).is_ready());
    service.release(Ok(1));
    assert!(near.poll_flush_unpin(&mut cx).is_ready(), "the one place below is taken now");
    assert!(near.poll_ready_unpin(&mut cx).is_ready());
    near.start_send_unpin(2).unwrap();
    service.release(Ok(2));
    assert!(near.poll_flush_unpin(&mut cx).is_pending());
    assert_eq!(number(&mut far), Some(1));
    assert!(near.poll_flush_unpin(&mut cx).is_ready());
    assert_eq!(number(&mut far), Some(2));
    assert!(near.start_send_unpin(3).unwrap_err().is_full(), "not asked for room");
}

#[test]
fn a_send_gives_the_refusal_of_its_own_message_and_the_sink_goes_on() {
    let (service, mut near, mut far) = outbound(1);
    service.release(Err(1));
    let error = near.send(1).now_or_never().unwrap().unwrap_err();
    assert!(error.is_auth());
    assert_eq!(error.to_string(), "an outgoing message was refused");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "1 may not pass");

    let mut later = Box::pin(async {
        let refused = near.send(2).await;
        (refused, near.send(3).await)
    });
    assert!(later.as_mut().now_or_never().is_none());
    service.release(Err(2));
    service.release(Ok(3));
    let (refused, sent) = later.now_or_never().unwrap();
    assert!(refused.unwrap_err().is_auth());
    sent.unwrap();
    assert_eq!(number(&mut far), Some(3));
    assert_eq!(near.refused(), 2);
}

#[test]
fn the_refusal_of_an_earlier_message_is_not_the_error_of_the_next_ones_start_send() {
    let (service, mut near, mut far) = outbound(4);
    let mut cx = Context::from_waker(Waker::noop());
    for message in [1, 2] {
        near.feed(message).now_or_never().unwrap().unwrap();
    }
    assert!(near.poll_ready_unpin(&mut cx).is_ready());
    for message in [1, 2] {
        service.release(Err(message));
    }
    service.release(Ok(3));
    let Poll::Ready(Err(first)) = near.poll_flush_unpin(&mut cx) else { panic!("1 is refused") };
    assert!(first.is_auth());
    near.start_send_unpin(3).expect("3 may pass");
    let Poll::Ready(Err(second)) = near.poll_flush_unpin(&mut cx) else { panic!("2 is refused") };
    assert_eq!(std::error::Error::source(&second).unwrap().to_string(), "2 may not pass");
    assert!(matches!(near.poll_flush_unpin(&mut cx), Poll::Ready(Ok(()))));
    assert_eq!((number(&mut far), near.refused()), (Some(3), 2));
}

#[test]
fn closing_sends_what_is_with_the_service_closes_and_tells_the_first_refusal() {
    let (service, mut near, mut far) = outbound(4);
    for message in 1..=4 {
        near.feed(message).now_or_never().unwrap().unwrap();
    }
    assert!(near.close().now_or_never().is_none());
    for answer in [Ok(4), Err(3), Err(2), Ok(1)] {
        service.release(answer);
    }
    let error = near.close().now_or_never().unwrap().unwrap_err();
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "2 may not pass");
    assert_eq!([number(&mut far), number(&mut far)], [Some(1), Some(4)]);
    assert!(far.next().now_or_never().unwrap().is_none(), "it was closed");
    assert!(near.feed(5).now_or_never().unwrap().unwrap_err().is_closed());
    near.close().now_or_never().unwrap().unwrap();
}

#[test]
fn a_cut_while_the_service_works_fails_the_sink_and_ends_its_close() {
    let (service, mut near, far) = outbound(2);
    near.feed(1).now_or_never().unwrap().unwrap();
    drop(far);
    service.release(Ok(1));
    assert!(near.flush().now_or_never().unwrap().unwrap_err().is_closed());
    assert!(near.feed(2).now_or_never().unwrap().unwrap_err().is_closed());
    assert!(near.close().now_or_never().is_some());
}

#[test]
fn a_driven_transport_survives_refusals_and_its_receiver_sees_them() {
    let (near, mut far) = channel::<u32, u32>(8);
    let service = ByHand::default();
    let near = ServiceLayer::outbound(service.clone()).refusals_to_stream().layer(near);
    let (sender, mut receiver, driver) = near.drive(QueueConfig::values()).into_parts();
    let mut driver = Box::pin(driver);
    let (task, waker) = WakeCount::new();
    let mut poll = move || driver.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();

    for message in [1, 2] {
        sender.send(message).now_or_never().unwrap().unwrap();
    }
    assert!(poll());
    service.release(Err(1));
    service.release(Ok(2));
    assert!(task.get() > 0);
    assert!(poll() && poll());
    assert!(receiver.receive().now_or_never().unwrap().unwrap().unwrap_err().is_auth());
    assert_eq!(number(&mut far), Some(2));
}

#[test]
fn refusals_that_nobody_reads_are_bounded_and_counted() {
    let (near, _far) = channel::<u32, u32>(8);
    let refuse = service_fn(|_: u32| ready(Err::<u32, _>(Error::auth("no"))));
    let mut near = ServiceLayer::outbound(refuse).refusals_to_stream().layer(near);
    for message in 0..1000 {
        near.send(message).now_or_never().unwrap().unwrap();
    }
    assert_eq!(near.refused(), 1000);
    let mut read = 0;
    while let Some(item) = next(&mut near) {
        assert!(item.unwrap_err().is_auth());
        read += 1;
    }
    assert_eq!(read, MAX_REFUSALS);
}

#[test]
fn once_the_stream_has_ended_the_sink_is_told_of_refusals() {
    let (near, mut far) = channel::<u32, u32>(8);
    let refuse = service_fn(|_: u32| ready(Err::<u32, _>(Error::auth("no"))));
    let mut near = ServiceLayer::outbound(refuse).refusals_to_stream().layer(near);
    far.close().now_or_never().unwrap().unwrap();
    assert!(near.next().now_or_never().unwrap().is_none());
    assert!(near.send(1).now_or_never().unwrap().unwrap_err().is_auth());
    assert!(near.next().now_or_never().unwrap().is_none());
}

/// Not ready ever again, by its own word.
#[derive(Clone)]
struct Broken;

impl Service<u32> for Broken {
    type Response = u32;
    type Error = Error;
    type Future = Ready<Result<u32, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Err(Error::other("broken")))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        unreachable!("it was never ready")
    }
}

#[test]
fn a_broken_service_refuses_each_message_and_is_never_called() {
    let (near, mut far) = channel::<u32, u32>(8);
    let mut near = ServiceLayer::inbound(Broken).layer(ServiceLayer::outbound(Broken).layer(near));
    put(&mut far, 1);
    put(&mut far, 2);
    for _ in 0..2 {
        assert_eq!(next(&mut near).unwrap().unwrap_err().to_string(), "broken");
    }
    assert!(near.next().now_or_never().is_none());
    assert_eq!(near.send(3).now_or_never().unwrap().unwrap_err().to_string(), "broken");
}

#[test]
fn a_service_may_answer_with_another_type() {
    let (near, mut far) = channel::<String, String>(8);
    let mut near = ServiceBuilder::new()
        .inbound_service(service_fn(|text: String| ready(text.parse::<u32>())))
        .outbound_service(service_fn(|number: u32| ready(Ok::<_, Error>(number.to_string()))))
        .service(near);
    near.send(7u32).now_or_never().unwrap().unwrap();
    assert_eq!(next(&mut far).unwrap().unwrap(), "7");
    far.send("8".to_owned()).now_or_never().unwrap().unwrap();
    far.send("eight".to_owned()).now_or_never().unwrap().unwrap();
    assert_eq!(next(&mut near).unwrap().unwrap(), 8);
    assert!(next(&mut near).unwrap().unwrap_err().is_other());
}

#[test]
fn towers_filter_refuses_what_it_must_both_ways() {
    let even = FilterLayer::new(|n: u32| if n.is_multiple_of(2) { Ok(n) } else { Err(BoxError::from("odd")) });
    let even = even.layer(service_fn(|n: u32| ready(Ok::<_, Error>(n))));
    let (near, mut far) = channel::<u32, u32>(8);
    let mut near = ServiceBuilder::new().inbound_service(even.clone()).outbound_service::<_, u32>(even).service(near);
    put(&mut near, 2);
    assert!(near.send(3).now_or_never().unwrap().is_err());
    assert_eq!((number(&mut far), number(&mut far)), (Some(2), None));
    put(&mut far, 4);
    put(&mut far, 5);
    assert_eq!(number(&mut near), Some(4));
    assert_eq!(next(&mut near).unwrap().unwrap_err().to_string(), "odd");
}

#[test]
fn the_permits_of_a_concurrency_limit_are_shared_by_all_transports_of_a_layer() {
    let service = ByHand::default();
    let layer = ServiceLayer::inbound(ConcurrencyLimitLayer::new(1).layer(service.clone())).concurrency(n(9));
    let ((a, mut far_a), (b, mut far_b)) = (channel::<u32, u32>(8), channel::<u32, u32>(8));
    let (mut a, mut b) = (layer.layer(a), layer.layer(b));
    put(&mut far_a, 1);
    put(&mut far_b, 2);
    let (task, waker) = WakeCount::new();
    assert!(a.next().now_or_never().is_none());
    assert!(b.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
    assert_eq!(service.called(), [1]);

    service.release(Ok(1));
    service.release(Ok(2));
    assert_eq!(number(&mut a), Some(1));
    assert!(task.get() > 0, "the permit is free");
    assert_eq!(number(&mut b), Some(2));
}

#[tokio::test(start_paused = true)]
async fn towers_timeout_refuses_a_message_that_takes_too_long_and_the_next_one_goes_on() {
    let (near, mut far) = channel::<u32, u32>(8);
    let service = ByHand::default();
    let timed = TimeoutLayer::new(Duration::from_secs(5)).layer(service.clone());
    let mut near = ServiceLayer::inbound(timed).layer(near);
    put(&mut far, 1);
    put(&mut far, 2);
    service.release(Ok(2));
    assert!(near.next().await.unwrap().unwrap_err().is_timeout());
    assert_eq!(near.next().await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_breaker_of_tower_resilience_stops_asking_a_service_that_fails() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let failing = service_fn(move |_: u32| {
        counter.fetch_add(1, SeqCst);
        ready(Err::<u32, _>(Error::other("the check is down")))
    });
    let breaker = CircuitBreakerLayer::builder().consecutive_failures(3).build().unwrap();
    let (near, mut far) = channel::<u32, u32>(8);
    let mut near = ServiceLayer::inbound(breaker.layer(failing)).layer(near);
    for message in 0..8 {
        put(&mut far, message);
    }
    for _ in 0..8 {
        near.next().await.unwrap().unwrap_err();
    }
    assert_eq!(asked.load(SeqCst), 3, "open after three failures");
}

fn identity() -> impl Service<u32, Response = u32, Error = Error, Future: Send> + Clone + Send {
    service_fn(|message| ready(Ok(message)))
}

/// Answers each message only when it has been polled a few times, a different number for each.
fn dawdling() -> impl Service<u32, Response = u32, Error = Error, Future: Send> + Clone + Send {
    service_fn(|message: u32| {
        let mut polls = message * 7 % 4;
        poll_fn(move |cx| {
            if polls == 0 {
                return Poll::Ready(Ok(message));
            }
            polls -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    })
}

macro_rules! pair {
    ($service:expr, $limit:expr) => {{
        let (here, there) = channel::<u32, u32>(1);
        let layer = ServiceBuilder::new().layer(ServiceLayer::inbound($service).concurrency(n($limit))).layer(
            ServiceLayer::<_, tower_transport::layer::service::Outbound<u32>>::outbound($service)
                .concurrency(n($limit)),
        );
        (layer.clone().service(here), layer.service(there))
    }};
}

contract_tests!(mod identity_one_at_a_time, pair = pair!(identity(), 1), message = |i| i as u32);
contract_tests!(mod identity_eight_at_a_time, pair = pair!(identity(), 8), message = |i| i as u32);
contract_tests!(mod dawdling_one_at_a_time, pair = pair!(dawdling(), 1), message = |i| i as u32);
contract_tests!(mod dawdling_three_at_a_time, pair = pair!(dawdling(), 3), message = |i| i as u32);
contract_tests!(
    mod against_a_bare_end,
    pair = {
        let (here, there) = channel::<Message, Message>(1);
        let same = service_fn(|message: Message| ready(Ok::<_, Error>(message)));
        (ServiceBuilder::new().inbound_service(same).outbound_service::<_, Message>(same).service(here), there)
    },
    message = |i| Message::text(i.to_string())
);

proptest! {
    /// Whatever the order in which answers are given, messages go on in their own.
    #[test]
    fn the_order_is_kept_whatever_the_order_of_the_answers(
        order in Just((0u32..24).collect::<Vec<_>>()).prop_shuffle(),
        refused in proptest::collection::vec(any::<bool>(), 24),
        limit in 1usize..10,
        capacity in 1usize..4,
    ) {
        let answer = |message: u32| if refused[message as usize] { Err(message) } else { Ok(message) };
        let expected: Vec<_> = (0..24).map(answer).collect();
        // In.
        let (near, mut far) = channel::<u32, u32>(24);
        let service = ByHand::default();
        let mut near = ServiceLayer::inbound(service.clone()).concurrency(n(limit)).layer(near);
        (0..24).for_each(|message| put(&mut far, message));
        let mut came = Vec::new();
        for &message in &order {
            service.release(answer(message));
            while let Some(item) = next(&mut near) {
                came.push(item.map_err(|error| error.to_string().split(' ').next().unwrap().parse().unwrap()));
                prop_assert!(service.called().len() <= came.len() + limit);
            }
        }
        prop_assert_eq!(&came, &expected);
        // Out.
        let (near, mut far) = channel::<u32, u32>(capacity);
        let service = ByHand::default();
        let mut near = ServiceLayer::outbound(service.clone()).concurrency(n(limit)).refusals_to_stream().layer(near);
        let mut cx = Context::from_waker(Waker::noop());
        let (mut sent, mut went) = (0, Vec::new());
        let mut order = order.into_iter();
        while went.len() < expected.iter().flatten().count() || order.len() > 0 || sent < 24 {
            if let Some(message) = order.next() {
                service.release(answer(message));
            }
            while sent < 24 && near.poll_ready_unpin(&mut cx).is_ready() {
                near.start_send_unpin(sent).unwrap();
                sent += 1;
            }
            let _ = near.poll_flush_unpin(&mut cx).map(Result::unwrap);
            while let Some(message) = number(&mut far) {
                went.push(message);
            }
        }
        prop_assert_eq!(went, expected.iter().flatten().copied().collect::<Vec<_>>());
        // The last ones may be refusals: they are counted when their turn has come.
        let _ = near.poll_flush_unpin(&mut cx).map(Result::unwrap);
        prop_assert_eq!(near.refused() as usize, expected.iter().filter(|answer| answer.is_err()).count());
    }
}
