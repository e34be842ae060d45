//! Calls in both directions over one transport.

mod towers_layers;
mod under_fire;

use std::{
    future::{pending, ready},
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, Stream, StreamExt, future::BoxFuture, stream::BoxStream};
use tokio::{sync::Notify, task::JoinHandle};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn, timeout::TimeoutLayer};
use tower_transport::{
    Channel, Error, TransportExt, channel,
    service::peer::{
        CallError, CallOptions, Caller, Frame, Frames, IncomingCall, PeerBuilder, Rejection, Reply,
        WhenNotificationsFull, unary,
    },
};

type Wire = Frames<u32, u32, String>;
type Numbers = BoxStream<'static, Result<u32, String>>;
type Answer = Result<Reply<u32, Numbers>, String>;
/// A frame of the far end.
type Sent = Frame<u32, u32, String>;
type Link = Channel<Frame<u32, u32, String>, Frame<u32, u32, String>>;
type PeerTask = JoinHandle<Result<(), Error>>;

/// A handler that is a function.
#[derive(Clone)]
struct Handler<H>(H);

impl<H, F> Service<IncomingCall<u32>> for Handler<H>
where
    H: FnMut(IncomingCall<u32>) -> F,
    F: Future<Output = Answer> + Send + 'static,
{
    type Response = Reply<u32, Numbers>;
    type Error = String;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: IncomingCall<u32>) -> Self::Future {
        (self.0)(call).boxed()
    }
}

fn settings() -> PeerBuilder<Wire> {
    PeerBuilder::new(Frames::new())
}

fn serve<H, F>(settings: PeerBuilder<Wire>, link: Link, handler: H) -> (Caller<Wire>, PeerTask)
where
    H: FnMut(IncomingCall<u32>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let (caller, peer) = settings.build(link, Handler(handler));
    (caller, tokio::spawn(peer))
}

async fn double(call: IncomingCall<u32>) -> Answer {
    Ok(Reply::One(call.request * 2))
}

async fn nobody_calls(_: IncomingCall<u32>) -> Answer {
    Err("nobody calls this end".to_owned())
}

/// Two ends; the far one answers with `handler`.
fn pair<H, F>(handler: H) -> (Caller<Wire>, PeerTask, PeerTask)
where
    H: FnMut(IncomingCall<u32>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let (near, far) = channel(8);
    let (caller, near) = serve(settings(), near, nobody_calls);
    let (_, far) = serve(settings(), far, handler);
    (caller, near, far)
}

/// The near end against a far end that the test plays, frame by frame.
fn against_a_script<H, F>(settings: PeerBuilder<Wire>, handler: H) -> (Caller<Wire>, PeerTask, Link)
where
    H: FnMut(IncomingCall<u32>) -> F + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let (near, far) = channel(64);
    let (caller, near) = serve(settings, near, handler);
    (caller, near, far)
}

fn call(id: u64, request: u32, options: CallOptions) -> Frame<u32, u32, String> {
    Frame::Call { id, request, options }
}

/// Options as they come over the wire.
fn options(json: &str) -> CallOptions {
    serde_json::from_str(json).unwrap()
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn unanswered<T: std::fmt::Debug>(result: Result<T, CallError<String>>) -> Error {
    match result {
        Err(CallError::Unanswered(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// Sets a flag when it is dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[tokio::test]
async fn both_ends_call_each_other_at_the_same_time() {
    let (near, far) = channel(4);
    let (near, _near) = serve(settings(), near, double);
    let (far, _far) = serve(settings(), far, |call| ready(Ok(Reply::One(call.request + 1))));
    let calls = (0..500).flat_map(|number| [(near.clone(), number, number + 1), (far.clone(), number, number * 2)]);
    let calls = calls.map(|(caller, request, answer)| async move {
        assert_eq!(caller.oneshot(request).await.unwrap(), answer);
    });
    futures_util::future::join_all(calls).await;
    assert_eq!((near.in_flight(), far.in_flight()), (0, 0));
}

#[tokio::test]
async fn an_error_of_the_application_is_told_apart_from_a_failure_of_the_transport() {
    let (caller, _near, far) = pair(|_| ready(Err("not today".to_owned())));
    let error = caller.clone().oneshot(1).await.unwrap_err();
    assert_eq!(error.failure().unwrap(), "not today");
    assert!(error.may_have_been_executed());
    far.abort();
    let error = unanswered(caller.oneshot(2).await);
    assert!(error.is_closed(), "{error}");
}

#[tokio::test]
async fn a_panic_of_a_handler_is_the_error_of_its_call_alone() {
    let (caller, _near, _far) = pair(async |call: IncomingCall<u32>| {
        assert!(call.request != 7, "seven");
        Ok(Reply::One(call.request))
    });
    let error = unanswered(caller.clone().oneshot(7).await);
    assert_eq!(error.to_string(), "the peer's handler panicked");
    assert!(error.may_have_been_executed() && error.is_rejection());
    assert_eq!(caller.oneshot(8).await.unwrap(), 8);
}

#[tokio::test]
async fn a_dropped_call_drops_the_handler_at_the_other_end() {
    let is_dropped = Arc::new(AtomicBool::new(false));
    let flag = is_dropped.clone();
    let (caller, _near, _far) = pair(move |_| {
        let guard = SetOnDrop(flag.clone());
        async move {
            let _guard = guard;
            pending().await
        }
    });
    let mut calling = Box::pin(caller.clone().oneshot(1));
    assert!(calling.as_mut().now_or_never().is_none());
    settle().await;
    assert!(!is_dropped.load(SeqCst));
    assert_eq!(caller.in_flight(), 1);
    drop(calling);
    settle().await;
    assert!(is_dropped.load(SeqCst));
    assert_eq!(caller.in_flight(), 0);
}

#[tokio::test]
async fn a_call_that_is_dropped_before_it_is_written_never_reaches_the_peer() {
    let (mut caller, near, mut far) = against_a_script(settings(), nobody_calls);
    let calling = caller.ready().await.unwrap().call(1);
    drop(calling);
    settle().await;
    assert!(far.next().now_or_never().is_none());
    assert_eq!(caller.in_flight(), 0);
    near.abort();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call_at_both_ends() {
    let is_dropped = Arc::new(AtomicBool::new(false));
    let flag = is_dropped.clone();
    let (caller, _near, _far) = pair(move |call| {
        assert_eq!(call.timeout, Some(Duration::from_secs(5)));
        let guard = SetOnDrop(flag.clone());
        async move {
            let _guard = guard;
            pending().await
        }
    });
    let begun = tokio::time::Instant::now();
    let error = unanswered(caller.clone().timeout(Duration::from_secs(5)).oneshot(1).await);
    assert!(error.is_timeout() && error.may_have_been_executed(), "{error}");
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    settle().await;
    assert!(is_dropped.load(SeqCst));
    assert_eq!(caller.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_callee_drops_a_handler_whose_time_is_over_though_no_cancellation_comes() {
    let is_dropped = Arc::new(AtomicBool::new(false));
    let guard = Mutex::new(Some(SetOnDrop(is_dropped.clone())));
    let (_caller, _near, mut far) = against_a_script(settings(), move |_| {
        let guard = guard.lock().unwrap().take();
        async move {
            let _guard = guard;
            pending().await
        }
    });
    far.send(call(1, 1, options(r#"{"timeout_ms":20}"#))).await.unwrap();
    assert_eq!(far.next().await.unwrap().unwrap(), Frame::Rejected { id: 1, reason: Rejection::TimedOut });
    assert!(is_dropped.load(SeqCst));
}

#[tokio::test(start_paused = true)]
async fn the_deadlines_of_calls_that_are_answered_pass_unnoticed() {
    let (caller, _near, _far) = pair(double);
    for number in 0..1000 {
        let caller = caller.clone().timeout(Duration::from_secs(u64::from(number % 7) + 1));
        assert_eq!(caller.oneshot(number).await.unwrap(), number * 2);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(caller.oneshot(1).await.unwrap(), 2);
}

fn count(to: u32) -> Numbers {
    futures_util::stream::iter((0..to).map(Ok)).boxed()
}

#[tokio::test]
async fn a_stream_of_answers_comes_in_order_and_ends() {
    let (mut caller, _near, _far) = pair(|call| ready(Ok(Reply::Stream(count(call.request)))));
    let stream = caller.stream(1000, false).await.unwrap();
    let numbers: Vec<u32> = stream.map(Result::unwrap).collect().await;
    assert!(numbers.into_iter().eq(0..1000));
    assert_eq!(caller.in_flight(), 0);
}

#[tokio::test]
async fn an_error_ends_a_stream_of_answers_as_its_last_item() {
    let (mut caller, _near, _far) = pair(|_| {
        let numbers = futures_util::stream::iter([Ok(1), Err("enough".to_owned()), Ok(2)]).boxed();
        ready(Ok(Reply::Stream(numbers)))
    });
    let mut stream = caller.stream(0, false).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), 1);
    assert_eq!(stream.next().await.unwrap().unwrap_err().failure().unwrap(), "enough");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_stream_that_nobody_reads_stops_at_its_window_and_holds_up_no_other_call() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let (mut caller, _near, _far) = pair(move |call| {
        let counter = counter.clone();
        let numbers = count(u32::MAX).inspect(move |_| {
            counter.fetch_add(1, SeqCst);
        });
        ready(Ok(if call.request == 0 { Reply::Stream(numbers.boxed()) } else { Reply::One(call.request) }))
    });
    let mut stalled = caller.stream(0, false).await.unwrap();
    settle().await;
    assert_eq!(made.load(SeqCst), 16);
    for number in 1..100 {
        assert_eq!(caller.clone().oneshot(number).await.unwrap(), number);
    }
    assert_eq!(made.load(SeqCst), 16);
    for number in 0..40 {
        assert_eq!(stalled.next().await.unwrap().unwrap(), number);
    }
    settle().await;
    assert_eq!(made.load(SeqCst), 16 + 40);
}

#[tokio::test]
async fn a_dropped_stream_of_answers_is_cancelled() {
    let is_dropped = Arc::new(AtomicBool::new(false));
    let flag = is_dropped.clone();
    let (mut caller, _near, _far) = pair(move |_| {
        let guard = SetOnDrop(flag.clone());
        let numbers = count(u32::MAX).inspect(move |_| assert!(!guard.0.load(SeqCst)));
        ready(Ok(Reply::Stream(numbers.boxed())))
    });
    let mut stream = caller.stream(0, false).await.unwrap();
    stream.next().await.unwrap().unwrap();
    settle().await;
    assert!(!is_dropped.load(SeqCst));
    drop(stream);
    settle().await;
    assert!(is_dropped.load(SeqCst));
    assert_eq!(caller.in_flight(), 0);
}

#[tokio::test]
async fn a_stream_of_requests_is_read_as_the_handler_reads_it() {
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let (mut caller, _near, _far) = pair(move |mut call| {
        let gate = gate.clone();
        async move {
            gate.notified().await;
            let mut sum = call.request;
            while let Some(number) = call.requests.next().await {
                sum += number.map_err(|error| error.to_string())?;
            }
            Ok(Reply::One(sum))
        }
    });
    let mut stream = caller.stream(1, true).await.unwrap();
    // The window of the other end, and nothing beyond it.
    for _ in 0..16 {
        stream.send(1).await.unwrap();
    }
    assert!(stream.send(1).now_or_never().is_none());
    go.notify_one();
    for _ in 0..1000 {
        stream.send(1).await.unwrap();
    }
    stream.close().await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), 1 + 16 + 1000);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn requests_and_answers_of_one_call_run_at_the_same_time() {
    let (mut caller, _near, _far) = pair(|call| {
        let doubled = call.requests.map(|number| number.map(|number| number * 2).map_err(|error| error.to_string()));
        ready(Ok(Reply::Stream(doubled.boxed())))
    });
    let (mut requests, answers) = caller.stream(0, true).await.unwrap().into_split();
    let sending = async {
        for number in 0..1000 {
            requests.send(number).await.unwrap();
        }
        requests.close().await.unwrap();
    };
    let reading = answers.map(Result::unwrap).collect::<Vec<_>>();
    let ((), numbers) = tokio::join!(sending, reading);
    assert!(numbers.into_iter().eq((0..1000).map(|number| number * 2)));
}

#[tokio::test]
async fn a_handler_learns_that_its_call_was_cancelled_while_it_reads_requests() {
    let seen = Arc::new(Mutex::new(None));
    let result = seen.clone();
    let (mut caller, _near, _far) = pair(move |mut call| {
        let result = result.clone();
        // In a task of its own: the handler's future is dropped with the call.
        tokio::spawn(async move {
            *result.lock().unwrap() = call.requests.next().await;
        });
        pending()
    });
    let stream = caller.stream(0, true).await.unwrap();
    settle().await;
    drop(stream);
    settle().await;
    let error = seen.lock().unwrap().take().unwrap().unwrap_err();
    assert!(error.is_closed(), "{error}");
}

#[tokio::test]
async fn a_call_over_the_limit_is_rejected_as_not_executed() {
    let (near, far) = channel(8);
    let (caller, _near) = serve(settings(), near, nobody_calls);
    let limit = NonZeroUsize::new(2).unwrap();
    let (_, _far) = serve(settings().max_incoming_calls(limit), far, |_| pending());
    let kept: Vec<_> = (0..2).map(|number| tokio::spawn(caller.clone().oneshot(number))).collect();
    settle().await;
    let error = unanswered(caller.oneshot(3).await);
    assert!(error.is_full() && !error.may_have_been_executed(), "{error}");
    assert!(kept.iter().all(|call| !call.is_finished()));
}

#[tokio::test]
async fn a_caller_waits_for_a_place_in_flight() {
    let (near, far) = channel(8);
    let (mut caller, _near) = serve(settings().max_calls(NonZeroUsize::MIN), near, nobody_calls);
    let (_, _far) = serve(settings(), far, |_| pending());
    let first = caller.ready().await.unwrap().call(1);
    let mut other = caller.clone();
    assert!(other.ready().now_or_never().is_none());
    settle().await;
    drop(first);
    other.ready().await.unwrap();
}

#[tokio::test]
async fn a_place_goes_to_the_handle_that_waits_longest_and_passes_on_when_that_one_is_dropped() {
    let limit = NonZeroUsize::new(1).unwrap();
    let (caller, _near, _far) = against_a_script(settings().max_calls(limit), nobody_calls);
    let mut first = caller.clone();
    assert!(first.ready().now_or_never().is_some());
    let mut waiting = [caller.clone(), caller.clone(), caller.clone()];
    let is_ready = |caller: &mut Caller<Wire>| caller.ready().now_or_never().is_some();
    assert!(waiting.iter_mut().all(|caller| !is_ready(caller)));
    drop(first);
    // The place is kept for the first in the queue.
    assert!(!is_ready(&mut caller.clone()) && !is_ready(&mut waiting[1]));
    let [granted, mut second, third] = waiting;
    drop((granted, third));
    assert!(is_ready(&mut second));
    let call = second.call(1);
    assert!(!is_ready(&mut second));
    drop(call);
    assert!(is_ready(&mut second));
}

#[tokio::test]
async fn a_call_allocates_nothing_though_it_waits_for_a_place() {
    let limit = NonZeroUsize::new(1).unwrap();
    let (near, far) = channel(8);
    let numbers = || unary(service_fn(|number: u32| ready(Ok::<_, String>(number + 1))));
    let (mut busy, mut near) = settings().max_calls(limit).build(near, numbers());
    let (_caller, mut far) = settings().build(far, numbers());
    let mut waiting = busy.clone();
    let mut round = || {
        for number in 0..100 {
            let mut call = busy.ready().now_or_never().unwrap().unwrap().call(number);
            assert!(waiting.ready().now_or_never().is_none());
            for _ in 0..2 {
                assert!((&mut near).now_or_never().is_none() && (&mut far).now_or_never().is_none());
            }
            assert_eq!((&mut call).now_or_never().unwrap().unwrap(), number + 1);
            let mut call = waiting.ready().now_or_never().unwrap().unwrap().call(number);
            drop((&mut call).now_or_never());
        }
    };
    round();
    assert_eq!(allocation_counter::measure(round).count_total, 0);
}

#[tokio::test]
async fn a_single_call_that_is_answered_by_a_stream_fails() {
    let (caller, _near, _far) = pair(|_| ready(Ok(Reply::Stream(count(3)))));
    let error = unanswered(caller.oneshot(1).await);
    assert!(error.to_string().contains("asked for a single answer"), "{error}");
}

#[tokio::test]
async fn notifications_are_handled_one_after_another_in_their_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let (caller, _near, _far) = pair(move |call| {
        assert!(call.is_notification);
        let log = log.clone();
        async move {
            // Some take longer, and hold up the later ones.
            for _ in 0..call.request % 3 {
                tokio::task::yield_now().await;
            }
            log.lock().unwrap().push(call.request);
            Err("nobody sees this".to_owned())
        }
    });
    for number in 0..100 {
        caller.notify(number).unwrap();
    }
    while seen.lock().unwrap().len() < 100 {
        tokio::task::yield_now().await;
    }
    assert!(seen.lock().unwrap().iter().copied().eq(0..100));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_concerns_its_own_call_and_no_later_one_with_its_number() {
    let (_caller, _near, mut far) = against_a_script(settings(), |call| async move {
        if call.timeout.is_none() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(Reply::One(call.request))
    });
    far.send(call(1, 7, options(r#"{"timeout_ms":20}"#))).await.unwrap();
    let Some(Ok(Frame::Answer { id: 1, answer: Some(7) })) = far.next().await else { panic!("no answer") };
    far.send(call(1, 8, CallOptions::default())).await.unwrap();
    let answer = far.next().await.unwrap().unwrap();
    assert!(matches!(answer, Frame::Answer { id: 1, answer: Some(8) }), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn the_other_end_is_told_the_time_that_is_left_when_the_call_is_written() {
    let (near, mut far) = channel(1);
    let (caller, _near) = serve(settings(), near, nobody_calls);
    let first = tokio::spawn(caller.clone().oneshot(1));
    settle().await;
    let timed = |time| tokio::spawn(caller.clone().timeout(Duration::from_micros(time)).oneshot(2));
    let (_later, _short) = (timed(5_000_000), timed(3_000_700));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut left = Vec::new();
    while left.len() < 3 {
        let Some(Ok(Frame::Call { options, .. })) = far.next().await else { panic!("no call") };
        left.push(serde_json::to_value(options).unwrap()["timeout_ms"].as_u64());
    }
    // Less than a millisecond counts as one.
    assert_eq!(left, [None, Some(2000), Some(1)]);
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn calls_that_end_early_leave_nothing_when_the_other_end_is_gone_before_it_is_told() {
    let (near, far) = channel(1);
    let (caller, near) = serve(settings(), near, nobody_calls);
    // They fill the channel, so their cancellations cannot be sent.
    let timed = caller.clone().timeout(Duration::from_millis(5));
    let late: Vec<_> = (0..3).map(|number| tokio::spawn(timed.clone().oneshot(number))).collect();
    let dropped: Vec<_> = (0..3).map(|number| tokio::spawn(caller.clone().oneshot(number))).collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    for call in late {
        assert!(unanswered(call.await.unwrap()).is_timeout());
    }
    for call in dropped {
        call.abort();
    }
    settle().await;
    assert_ne!(caller.in_flight(), 0, "the test shows nothing otherwise");
    drop(far);
    let _ = near.await.unwrap();
    assert_eq!(caller.in_flight(), 0);
}

/// The requests in the order in which their handlers ran: notifications have odd numbers here.
#[tokio::test]
async fn calls_and_notifications_are_begun_at_the_other_end_in_the_order_in_which_they_were_made() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let (caller, _near, _far) = pair(move |call| {
        assert_eq!(call.is_notification, call.request % 2 == 1);
        let log = log.clone();
        async move {
            log.lock().unwrap().push(call.request);
            Ok(Reply::One(call.request))
        }
    });
    let mut calls = Vec::new();
    for number in 0..100 {
        // Twos and threes of each kind, too.
        let number = number * 2 + u32::from(number % 7 < 3);
        match number % 2 {
            0 => calls.push(caller.clone().ready().await.unwrap().call(number)),
            _ => caller.notify(number).unwrap(),
        }
    }
    futures_util::future::join_all(calls).await;
    settle().await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 100);
    assert!(seen.is_sorted(), "{seen:?}");
}

#[tokio::test]
async fn a_call_in_the_place_of_a_dropped_one_is_written_after_the_notifications_before_it() {
    let (mut caller, _near, mut far) = against_a_script(settings(), nobody_calls);
    let dropped = caller.ready().await.unwrap().call(1);
    caller.notify(2).unwrap();
    drop(dropped);
    let _third = caller.ready().await.unwrap().call(3);
    assert_eq!(far.next().await.unwrap().unwrap(), Frame::Notification { request: 2 });
    assert!(matches!(far.next().await.unwrap().unwrap(), Frame::Call { request: 3, .. }));
}

#[tokio::test]
async fn a_call_does_not_wait_for_a_notification_whose_handler_waits() {
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let (caller, _near, _far) = pair(move |call| {
        let gate = gate.clone();
        async move {
            if call.is_notification {
                gate.notified().await;
            }
            Ok(Reply::One(call.request))
        }
    });
    caller.notify(0).unwrap();
    caller.notify(1).unwrap();
    assert_eq!(caller.clone().oneshot(2).await.unwrap(), 2);
    go.notify_one();
    go.notify_one();
}

#[tokio::test]
async fn a_notification_goes_out_beside_a_stream_of_requests_that_never_pauses() {
    let (mut caller, _near, mut far) = against_a_script(settings(), nobody_calls);
    let mut stream = caller.stream(0, true).await.unwrap();
    let Some(Ok(Frame::Call { id, .. })) = far.next().await else { panic!("no call") };
    far.send(Frame::RequestCredit { id, requests: u32::MAX }).await.unwrap();
    let feeding = tokio::spawn(async move { while stream.send(1).await.is_ok() {} });
    for _ in 0..20 {
        far.next().await.unwrap().unwrap();
    }
    caller.notify(7).unwrap();
    let mut others = 0;
    while !matches!(far.next().await, Some(Ok(Frame::Notification { request: 7 }))) {
        others += 1;
        assert!(others < 200, "the notification waits for a pause");
    }
    feeding.abort();
}

#[tokio::test]
async fn a_full_queue_of_outgoing_notifications_rejects_the_next_one() {
    let (near, _far) = channel(1);
    let (caller, _peer) = settings().outgoing_notifications(3).build(near, Handler(nobody_calls));
    for number in 0..3 {
        caller.notify(number).unwrap();
    }
    let error = caller.notify(3).unwrap_err();
    assert!(error.is_full() && error.is_rejection(), "{error}");
}

#[tokio::test]
async fn notifications_over_the_limit_are_dealt_with_as_their_policy_says() {
    for (policy, kept) in
        [(WhenNotificationsFull::DropNewest, vec![0, 1, 2]), (WhenNotificationsFull::DropOldest, vec![0, 8, 9])]
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, go) = (seen.clone(), Arc::new(Notify::new()));
        let gate = go.clone();
        let (_caller, _near, mut far) = against_a_script(settings().notifications(2, policy), move |call| {
            let (log, gate) = (log.clone(), gate.clone());
            async move {
                gate.notified().await;
                log.lock().unwrap().push(call.request);
                gate.notify_one();
                Ok(Reply::One(0))
            }
        });
        far.send(Frame::Notification { request: 0 }).await.unwrap();
        settle().await;
        for request in 1..10 {
            far.send(Frame::Notification { request }).await.unwrap();
        }
        settle().await;
        go.notify_one();
        settle().await;
        assert_eq!(*seen.lock().unwrap(), kept, "{policy:?}");
    }
}

#[tokio::test]
async fn where_no_notification_may_wait_the_new_one_is_dropped_and_calls_go_on() {
    let settings = settings().notifications(0, WhenNotificationsFull::DropOldest);
    let (_caller, _near, mut far) = against_a_script(settings, double);
    for request in 0..3 {
        far.send(Frame::Notification { request }).await.unwrap();
    }
    far.send(call(1, 4, CallOptions::default())).await.unwrap();
    let Some(Ok(Frame::Answer { id: 1, answer: Some(8) })) = far.next().await else { panic!("no answer") };
}

#[tokio::test]
async fn notifications_over_the_limit_close_the_connection_by_default() {
    let settings = settings().notifications(2, WhenNotificationsFull::Close);
    let (_caller, near, mut far) = against_a_script(settings, |_| pending());
    for request in 0..10 {
        drop(far.feed(Frame::Notification { request }).await);
    }
    drop(far.flush().await);
    let error = near.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("notifications"), "{error}");
}

#[tokio::test]
async fn a_graceful_shutdown_finishes_what_runs_and_rejects_what_is_new() {
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let (near, far) = channel(8);
    let (caller, near) = serve(settings(), near, nobody_calls);
    let (server, far) = serve(settings(), far, move |call| {
        let gate = gate.clone();
        async move {
            gate.notified().await;
            Ok(Reply::One(call.request))
        }
    });
    let running = tokio::spawn(caller.clone().oneshot(1));
    settle().await;
    server.graceful_shutdown();
    settle().await;
    let error = unanswered(caller.clone().oneshot(2).await);
    assert!(error.is_closed() && !error.may_have_been_executed(), "{error}");
    let error = unanswered(server.oneshot(3).await);
    assert!(error.is_closed() && !error.may_have_been_executed(), "{error}");
    assert!(!running.is_finished());
    go.notify_one();
    assert_eq!(running.await.unwrap().unwrap(), 1);
    far.await.unwrap().unwrap();
    near.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_of_the_connection_fails_every_call_with_its_cause() {
    let (mut caller, near, mut far) = against_a_script(settings(), nobody_calls);
    let sent = tokio::spawn(caller.clone().oneshot(1));
    assert!(matches!(far.next().await.unwrap().unwrap(), Frame::Call { request: 1, .. }));
    let mut stream = caller.stream(2, true).await.unwrap();
    settle().await;
    drop(far);
    near.await.unwrap().unwrap();
    let error = unanswered(sent.await.unwrap());
    assert!(error.is_closed() && error.may_have_been_executed(), "{error}");
    assert!(unanswered(stream.next().await.unwrap()).is_closed());
    assert!(unanswered(stream.send(3).await).is_closed());
    let error = unanswered(caller.oneshot(4).await);
    assert!(error.is_closed() && !error.may_have_been_executed(), "{error}");
}

#[tokio::test]
async fn dropping_the_peer_fails_the_calls_of_its_handles() {
    let (near, _far) = channel(8);
    let (caller, peer) = settings().build(near, Handler(nobody_calls));
    let mut calling = Box::pin(caller.clone().oneshot(1));
    assert!(calling.as_mut().now_or_never().is_none());
    drop(peer);
    let error = unanswered(calling.await);
    assert!(error.is_closed() && !error.may_have_been_executed(), "{error}");
    assert!(caller.notify(1).unwrap_err().is_closed());
}

/// The frames of a hostile or broken peer, and a word of the error that it gets.
#[tokio::test]
async fn lies_about_credit_and_numbers_end_the_connection() {
    let stream = options(r#"{"has_more":true,"answers":4}"#);
    let cases: [(&str, Vec<Sent>); 5] = [
        ("used again", vec![call(1, 1, CallOptions::default()), call(1, 2, CallOptions::default())]),
        (
            "more requests than its credit",
            [call(1, 1, stream.clone())]
                .into_iter()
                .chain((0..17).map(|request| Frame::Request { id: 1, request }))
                .collect(),
        ),
        (
            "more requests than its credit",
            vec![call(1, 1, CallOptions::default()), Frame::Request { id: 1, request: 1 }],
        ),
        (
            "more than a number can hold",
            vec![call(1, 1, stream.clone()), Frame::AnswerCredit { id: 1, answers: u32::MAX }],
        ),
        (
            "more requests than its credit",
            vec![call(1, 1, stream), Frame::RequestsEnd { id: 1 }, Frame::Request { id: 1, request: 1 }],
        ),
    ];
    for (word, frames) in cases {
        let (caller, near, mut far) = against_a_script(settings(), |_| pending());
        for frame in frames {
            drop(far.feed(frame).await);
        }
        drop(far.flush().await);
        let error = near.await.unwrap().unwrap_err();
        assert!(error.is_protocol() && error.to_string().contains(word), "{word}: {error}");
        assert!(caller.oneshot(1).await.is_err());
    }
}

#[tokio::test]
async fn answers_beyond_the_credit_or_before_the_call_end_the_connection() {
    let (mut caller, near, mut far) = against_a_script(settings(), nobody_calls);
    let _stream = caller.stream(1, false).await.unwrap();
    let Frame::Call { id, options, .. } = far.next().await.unwrap().unwrap() else { panic!("no call") };
    assert_eq!(options.answers, 16);
    for answer in 0..17 {
        drop(far.feed(Frame::Item { id, answer }).await);
    }
    drop(far.flush().await);
    assert!(near.await.unwrap().unwrap_err().is_protocol());
}

#[tokio::test]
async fn frames_of_calls_that_are_over_or_never_were_are_ignored() {
    let (caller, _near, mut far) = against_a_script(settings(), double);
    for frame in [
        Frame::Answer { id: 99, answer: Some(1) },
        Frame::Item { id: 99, answer: 1 },
        Frame::Failure { id: 99, failure: String::new() },
        Frame::Rejected { id: 99, reason: Rejection::Panicked },
        Frame::RequestCredit { id: 99, requests: 1 },
        Frame::AnswerCredit { id: 99, answers: 1 },
        Frame::Cancel { id: 99 },
        Frame::Request { id: 99, request: 1 },
        Frame::RequestsEnd { id: 99 },
        call(1, 21, CallOptions::default()),
    ] {
        far.send(frame).await.unwrap();
    }
    assert_eq!(far.next().await.unwrap().unwrap(), Frame::Answer { id: 1, answer: Some(42) });
    assert_eq!(caller.in_flight(), 0);
}

#[tokio::test]
async fn a_flood_of_calls_whose_rejections_nobody_reads_is_not_read() {
    let (near, mut far) = channel(64);
    let limit = NonZeroUsize::new(4).unwrap();
    let (_caller, _near) = serve(settings().max_incoming_calls(limit), near, |_| pending());
    let mut sent = 0;
    // The channel takes 64 in each direction.
    while far.feed(call(sent, 1, CallOptions::default())).now_or_never().is_some() || {
        settle().await;
        far.feed(call(sent, 1, CallOptions::default())).now_or_never().is_some()
    } {
        sent += 1;
        assert!(sent < 10_000, "everything is read");
    }
    assert!(sent < 4 + 4096 + 64 + 64 + 2, "{sent}");
}

#[tokio::test]
async fn towers_layers_go_on_a_caller() {
    let (caller, _near, _far) = pair(double);
    let service = ServiceBuilder::new()
        .concurrency_limit(4)
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .map_err(Error::from)
        .service(caller);
    assert_eq!(service.oneshot(4).await.unwrap(), 8);
}

#[tokio::test]
async fn layers_of_transports_go_on_a_stream() {
    use tower_transport::QueueConfig;
    use tower_transport::layer::queue::QueueLayer;

    let (mut caller, _near, _far) = pair(|call| {
        let doubled = call.requests.map(|number| number.map(|number| number * 2).map_err(|error| error.to_string()));
        ready(Ok(Reply::Stream(doubled.boxed())))
    });
    let stream = caller.stream(0, true).await.unwrap();
    let mut stream = stream.layer(QueueLayer::new(QueueConfig::<u32, u32>::values()));
    for number in 0..5 {
        stream.send(number).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), number * 2);
    }
}

#[tokio::test]
async fn the_trace_and_the_time_of_each_call_reach_its_handler() {
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (seen, mut of_handlers) = tokio::sync::mpsc::unbounded_channel();
    let (caller, _near, _far) = pair(move |call: IncomingCall<u32>| {
        seen.send((call.request, call.traceparent, call.timeout)).unwrap();
        let is_stream = call.request == 3;
        async move { Ok(if is_stream { Reply::Stream(count(1)) } else { Reply::One(0) }) }
    });
    let mut traced = caller.clone().traceparent(TRACE);
    assert_eq!(traced.clone().oneshot(1).await.unwrap(), 0);
    assert_eq!(caller.oneshot(2).await.unwrap(), 0);
    assert_eq!(traced.stream(3, false).await.unwrap().count().await, 1);
    let other = traced.traceparent("another").timeout(Duration::from_secs(9));
    assert_eq!(other.oneshot(4).await.unwrap(), 0);
    assert_eq!(of_handlers.recv().await.unwrap(), (1, Some(TRACE.to_owned()), None));
    assert_eq!(of_handlers.recv().await.unwrap(), (2, None, None));
    assert_eq!(of_handlers.recv().await.unwrap(), (3, Some(TRACE.to_owned()), None));
    let (request, traceparent, timeout) = of_handlers.recv().await.unwrap();
    assert_eq!((request, traceparent.as_deref()), (4, Some("another")));
    assert!(timeout.unwrap() <= Duration::from_secs(9) && timeout.unwrap() > Duration::from_secs(1));
}

#[tokio::test]
async fn each_session_has_a_service_of_its_own_that_is_made_for_it() {
    let make = service_fn(async |(of, number): (Caller<Wire>, u32)| {
        tokio::task::yield_now().await;
        let mut calls = 0;
        Ok::<_, Error>(Handler(move |call: IncomingCall<u32>| {
            calls += 1;
            let (of, answer) = (of.clone(), number * 100 + calls);
            async move {
                let back = of.oneshot(call.request).await.map_err(|error| error.to_string())?;
                Ok(Reply::One(answer * 1000 + back))
            }
        }))
    });
    for session in 1..3 {
        let (near, far) = channel(8);
        let (_, peer) = settings().build_with(far, make, |caller| (caller, session));
        tokio::spawn(peer);
        let (caller, _near) = serve(settings(), near, double);
        for number in 1..3 {
            let answer = caller.clone().oneshot(number).await.unwrap();
            assert_eq!(answer, (session * 100 + number) * 1000 + 2 * number);
        }
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_made_ends_its_session_and_the_calls_of_its_end() {
    let make =
        service_fn(async |_: Caller<Wire>| Err::<Handler<fn(_) -> std::future::Ready<Answer>>, _>(Error::auth("no")));
    let (near, far) = channel(8);
    let (own, peer) = settings().build_with(far, make, |caller| caller);
    let (caller, _near) = serve(settings(), near, double);
    let calling = own.oneshot(1);
    let (ended, called, calling) = tokio::join!(peer, caller.oneshot(1), calling);
    assert!(ended.unwrap_err().is_auth());
    assert!(unanswered(called).is_closed());
    let error = calling.unwrap_err();
    assert!(!error.may_have_been_executed(), "{error}");
}

fn is_unpin_send<T: Unpin + Send + Sync>(_: &T) {}

#[tokio::test]
async fn calls_and_streams_can_be_moved_sent_and_shared() {
    let (mut caller, _near, _far) = pair(double);
    is_unpin_send(&caller);
    is_unpin_send(&caller.ready().await.unwrap().call(1));
    let stream = caller.stream(1, false).await.unwrap();
    is_unpin_send(&stream);
    let _: Pin<Box<dyn Stream<Item = _> + Send>> = Box::pin(stream);
}

/// Both ends write more than the transport holds, before either reads.
#[tokio::test]
async fn two_ends_that_begin_many_streams_at_once_do_not_wait_for_each_other() {
    let (near, far) = channel(1);
    let echo = |call: IncomingCall<u32>| {
        let numbers = call.requests.map(|number| number.map_err(|error| error.to_string()));
        ready(Ok(Reply::Stream(numbers.boxed())))
    };
    let (near, _near) = serve(settings(), near, echo);
    let (far, _far) = serve(settings(), far, echo);
    let streams = (0..1000).map(|number| {
        let mut caller = if number % 2 == 0 { near.clone() } else { far.clone() };
        async move {
            let mut stream = caller.stream(number, true).await.unwrap();
            for item in 0..20 {
                stream.send(item).await.unwrap();
                assert_eq!(stream.next().await.unwrap().unwrap(), item);
            }
        }
    });
    futures_util::future::join_all(streams).await;
}

#[tokio::test]
async fn a_panic_of_the_service_itself_is_the_error_of_its_call_too() {
    let (caller, _near, _far) = pair(|call| {
        assert!(call.request != 7, "seven");
        ready(Ok(Reply::One(call.request)))
    });
    assert_eq!(unanswered(caller.clone().oneshot(7).await).to_string(), "the peer's handler panicked");
    assert_eq!(caller.oneshot(8).await.unwrap(), 8);
}

#[test]
fn without_timers_a_call_with_a_timeout_fails_and_others_work() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (caller, _near, _far) = pair(double);
        let error = unanswered(caller.clone().timeout(Duration::from_secs(1)).oneshot(1).await);
        assert!(error.to_string().contains("timers"), "{error}");
        assert_eq!(caller.oneshot(2).await.unwrap(), 4);
    });
}

#[tokio::test]
async fn a_shutdown_waits_for_answers_and_not_for_handles_that_take_them() {
    let (caller, near, _far) = pair(double);
    let calling = tokio::spawn(caller.clone().oneshot(1));
    let mut kept = caller.clone();
    let kept = kept.ready().await.unwrap().call(2);
    settle().await;
    caller.graceful_shutdown();
    near.await.unwrap().unwrap();
    assert_eq!(calling.await.unwrap().unwrap(), 2);
    assert_eq!(kept.await.unwrap(), 4);
}
