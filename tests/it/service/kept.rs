//! Futures that are kept and not polled. The duties that they have taken on for others pass to tasks that are polled.

use std::{
    cell::RefCell,
    collections::VecDeque,
    num::NonZeroUsize,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use futures_util::{Sink, Stream};
use tower_transport::{
    Channel, Error, channel,
    service::{ByTag, Client, InOrder, Tagged},
    test_util::WakeCount,
};

use crate::service::support::{Buffered, InOrderClient, call, poll, poll_once, poll_ready, receive, send};

/// A task that is polled whenever it was woken.
struct Task<F> {
    future: F,
    woken: Arc<WakeCount>,
    waker: Waker,
}

impl<F: Future + Unpin> Task<F> {
    /// Polls the future for the first time; it must wait.
    fn begun(future: F) -> Self {
        let (woken, waker) = WakeCount::new();
        let mut task = Self { future, woken, waker };
        assert!(task.poll().is_pending());
        task
    }

    fn poll(&mut self) -> Poll<F::Output> {
        self.woken.take();
        poll(&mut self.future, &self.waker)
    }

    /// Polls the future if it was woken.
    fn run(&mut self) -> Poll<F::Output> {
        if self.woken.take() > 0 { self.poll() } else { Poll::Pending }
    }
}

fn answer(polled: Poll<Result<u32, Error>>) -> Option<u32> {
    match polled {
        Poll::Ready(answer) => Some(answer.unwrap()),
        Poll::Pending => None,
    }
}

fn limited(limit: usize) -> (InOrderClient, Channel<u32, u32>) {
    let (here, there) = channel(64);
    (Client::with_max_in_flight(here, InOrder, NonZeroUsize::new(limit).unwrap()), there)
}

type BufferedClient = Client<Buffered<u32, u32>, u32, u32>;

fn buffered(capacity: usize) -> (BufferedClient, Channel<u32, u32>) {
    let (here, there) = channel(capacity);
    (Client::in_order(Buffered::new(here).0), there)
}

fn received(there: &mut Channel<u32, u32>) -> Vec<u32> {
    std::iter::from_fn(|| receive(there)).collect()
}

#[test]
fn a_call_that_promised_to_flush_and_is_kept_holds_up_no_other_request() {
    for has_driver in [false, true] {
        let (mut client, mut there) = buffered(64);
        let mut driver = has_driver.then(|| Task::begun(client.drive()));
        let mut first = Task::begun(call(&mut client, 0));
        let mut kept = call(&mut client, 1);
        assert!(poll_once(&mut kept).is_pending());
        let mut last = Task::begun(call(&mut client, 2));
        for _ in 0..4 {
            assert_eq!((answer(first.run()), answer(last.run())), (None, None));
            assert!(driver.as_mut().is_none_or(|driver| driver.run().is_pending()));
        }
        assert_eq!(received(&mut there), [0, 1, 2]);
        (0..3).for_each(|number| send(&mut there, number));
        for _ in 0..4 {
            _ = (driver.as_mut().map(|driver| driver.run().is_pending()), first.run());
        }
        assert!(last.woken.take() > 0);
        assert_eq!(answer(last.poll()), Some(2));
        assert_eq!(answer(poll_once(&mut kept)), Some(1));
    }
}

#[test]
fn a_call_that_leads_and_promised_to_flush_and_is_kept_holds_up_no_other_request() {
    let (mut client, mut there) = buffered(64);
    // Several answers at a time: the next call that is alone promises, too.
    let mut calls = [0, 1].map(|number| Task::begun(call(&mut client, number)));
    assert_eq!(calls.each_mut().map(|call| answer(call.run())), [None, None]);
    assert_eq!(received(&mut there), [0, 1]);
    [10, 11].into_iter().for_each(|number| send(&mut there, number));
    assert_eq!(calls.each_mut().map(|call| answer(call.run())), [Some(10), Some(11)]);
    let mut kept = call(&mut client, 2);
    assert!(poll_once(&mut kept).is_pending());
    assert_eq!(received(&mut there), [0; 0]);
    let mut last = Task::begun(call(&mut client, 3));
    for _ in 0..4 {
        assert_eq!(answer(last.run()), None);
    }
    assert_eq!(received(&mut there), [2, 3]);
}

#[test]
fn a_promise_to_flush_that_is_not_kept_holds_up_no_flush_that_was_begun() {
    let (mut client, mut there) = buffered(1);
    let mut first = Task::begun(call(&mut client, 0));
    // Its flush is pending: the channel is full.
    let mut second = Task::begun(call(&mut client, 1));
    assert_eq!(answer(second.run()), None);
    let mut kept = call(&mut client, 2);
    assert!(poll_once(&mut kept).is_pending());
    let mut came = Vec::new();
    for _ in 0..4 {
        came.extend(received(&mut there));
        assert_eq!((answer(first.run()), answer(second.run())), (None, None));
    }
    assert_eq!(came[..2], [0, 1]);
}

#[test]
fn a_flush_that_a_dropped_call_owed_is_not_promised_again_by_a_call_that_is_kept() {
    let (mut client, mut there) = buffered(64);
    let mut leader = call(&mut client, 0);
    assert!(poll_once(&mut leader).is_pending());
    let mut dropped = call(&mut client, 1);
    assert!(poll_once(&mut dropped).is_pending());
    let mut waiting = Task::begun(call(&mut client, 2));
    drop(dropped);
    let mut kept = call(&mut client, 3);
    assert!(poll_once(&mut kept).is_pending());
    assert_eq!(answer(waiting.poll()), None);
    assert_eq!(received(&mut there), [0, 1, 2, 3]);
}

#[test]
fn a_call_takes_the_lead_from_a_driver_that_was_woken_and_is_kept() {
    let (mut client, mut there) = limited(8);
    let mut kept = client.drive();
    assert!(poll_once(&mut kept).is_pending());
    let mut calls = [1, 2, 3].map(|number| Task::begun(call(&mut client, number)));
    assert!(calls.iter_mut().all(|call| call.run().is_pending()));
    // The driver was woken to check, and leads again.
    assert!(poll_once(&mut kept).is_pending());
    send(&mut there, 10);
    assert!(calls.iter().all(|call| call.woken.take() == 0), "the driver was woken");
    assert_eq!(answer(calls[2].poll()), None);
    assert_eq!(answer(calls[0].run()), Some(10));
    // From now on the wakes reach a call.
    send(&mut there, 20);
    assert_eq!(answer(calls[2].run()), None);
    assert_eq!(answer(calls[1].run()), Some(20));
    send(&mut there, 30);
    assert_eq!(answer(calls[2].run()), Some(30));
}

#[test]
fn the_lead_passes_to_a_call_that_can_be_woken_and_not_to_one_that_has_not_come() {
    let (here, mut there) = channel::<Tagged<u32>, Tagged<u32>>(64);
    let mut client = Client::by_tag(here);
    let mut first = Task::begun(call(&mut client, 1));
    let mut second = Task::begun(call(&mut client, 2));
    let mut kept = call(&mut client, 3);
    assert!(poll_once(&mut kept).is_pending());
    assert!(first.run().is_pending() && second.run().is_pending());
    let tags: Vec<_> = std::iter::from_fn(|| receive(&mut there)).map(|request| request.tag).collect();
    // The lead passes to the newest call, which is woken and does not come.
    send(&mut there, Tagged { tag: tags[0], value: 10 });
    assert_eq!(answer(first.run()), Some(10));
    let mut late = Task::begun(call(&mut client, 4));
    let tag = receive(&mut there).or_else(|| {
        assert!(late.run().is_pending());
        receive(&mut there)
    });
    let tag = tag.unwrap().tag;
    send(&mut there, Tagged { tag: u64::MAX, value: 0 });
    // One poll of another call is enough from here on.
    assert_eq!(answer(late.poll()), None);
    send(&mut there, Tagged { tag, value: 40 });
    assert_eq!(answer(late.run()), Some(40));
    send(&mut there, Tagged { tag: tags[1], value: 20 });
    assert_eq!(answer(second.run()), Some(20));
    assert_eq!(answer(poll_once(&mut kept)), None);
}

#[test]
fn a_leader_that_is_kept_instead_of_checking_the_turns_is_replaced_by_a_handle_that_is_polled() {
    for has_driver in [false, true] {
        let (mut client, mut there) = limited(2);
        let mut driver = has_driver.then(|| client.drive());
        assert!(driver.as_mut().is_none_or(|driver| poll_once(driver).is_pending()));
        let (mut first, mut leader) = (call(&mut client, 1), call(&mut client, 2));
        assert!(poll_once(&mut first).is_pending() && poll_once(&mut leader).is_pending());
        let (mut kept, mut waiting) = (client.clone(), client.clone());
        let (woken, waker) = WakeCount::new();
        assert!(poll_ready(&mut kept, Waker::noop()).is_pending());
        assert!(poll_ready(&mut waiting, &waker).is_pending());
        send(&mut there, 10);
        // It frees the place for the handle that does not come, and leaves the check to the leader that does not
        // either.
        assert_eq!(answer(poll_once(&mut first)), Some(10));
        let polls = (0..8).take_while(|_| poll_ready(&mut waiting, &waker).is_pending()).count();
        assert!(polls < 4, "{polls} polls, woken {} times", woken.take());
        assert!(poll_ready(&mut kept, Waker::noop()).is_pending());
    }
}

#[test]
fn a_cancelled_ready_of_the_last_handle_in_line_stops_no_handle_before_it() {
    let (mut client, mut there) = limited(1);
    let mut dropped = call(&mut client, 1);
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    let (mut waiting, mut kept) = (client.clone(), client.clone());
    let (woken, waker) = WakeCount::new();
    assert!(poll_ready(&mut waiting, &waker).is_pending());
    assert!(poll_ready(&mut kept, Waker::noop()).is_pending());
    send(&mut there, 10);
    assert!(woken.take() > 0, "nobody reads the answer that frees the place");
    assert!(poll_ready(&mut waiting, &waker).is_ready());
}

#[test]
fn a_cancelled_ready_of_the_last_handle_stops_no_handle_when_the_last_call_is_dropped() {
    let (mut client, mut there) = limited(1);
    let mut dropped = call(&mut client, 1);
    assert!(poll_once(&mut dropped).is_pending());
    let (mut waiting, mut kept) = (client.clone(), client.clone());
    let (woken, waker) = WakeCount::new();
    assert!(poll_ready(&mut waiting, &waker).is_pending());
    assert!(poll_ready(&mut kept, Waker::noop()).is_pending());
    // The call was woken, and passes that on when it is dropped.
    send(&mut there, 10);
    drop(dropped);
    assert!(woken.take() > 0, "nobody reads the answer that frees the place");
    assert!(poll_ready(&mut waiting, &waker).is_ready());
}

type TaggedChannel = Channel<Tagged<u32>, Tagged<u32>>;

fn by_tag(limit: usize) -> (Client<TaggedChannel, u32, u32, ByTag>, TaggedChannel) {
    let (here, there) = channel(64);
    (Client::with_max_in_flight(here, ByTag, NonZeroUsize::new(limit).unwrap()), there)
}

/// The answer to a call that was dropped.
const LATE: Tagged<u32> = Tagged { tag: u64::MAX, value: 0 };

fn tags(there: &mut TaggedChannel) -> Vec<u64> {
    std::iter::from_fn(|| receive(there)).map(|request| request.tag).collect()
}

#[test]
fn a_new_call_that_reads_in_place_of_a_driver_that_was_woken_and_is_kept_takes_the_lead() {
    let (mut client, mut there) = by_tag(8);
    let mut driver = client.drive();
    assert!(poll_once(&mut driver).is_pending());
    send(&mut there, LATE);
    let mut waiting = Task::begun(call(&mut client, 1));
    let tag = tags(&mut there)[0];
    send(&mut there, Tagged { tag, value: 10 });
    assert_eq!(answer(waiting.run()), Some(10));
    // A driver that comes leads again.
    assert!(poll_once(&mut driver).is_pending());
    let mut next = Task::begun(call(&mut client, 2));
    let tag = tags(&mut there)[0];
    send(&mut there, Tagged { tag, value: 20 });
    assert_eq!(next.woken.take(), 0, "the driver was woken");
    assert!(poll_once(&mut driver).is_pending());
    assert_eq!(answer(next.run()), Some(20));
}

#[test]
fn a_call_that_flushes_and_reads_in_place_of_a_driver_that_is_kept_takes_the_lead() {
    let (mut client, mut there) = by_tag(8);
    let mut driver = client.drive();
    assert!(poll_once(&mut driver).is_pending());
    let mut calls = [1, 2].map(|number| Task::begun(call(&mut client, number)));
    send(&mut there, LATE);
    assert_eq!(answer(calls[1].run()), None);
    let tags = tags(&mut there);
    send(&mut there, Tagged { tag: tags[1], value: 20 });
    assert_eq!(answer(calls[1].run()), Some(20));
    send(&mut there, Tagged { tag: tags[0], value: 10 });
    assert_eq!(answer(calls[0].run()), Some(10));
}

#[test]
fn a_new_handle_that_reads_in_place_of_a_call_that_was_woken_and_is_kept_takes_the_lead() {
    let (mut client, mut there) = by_tag(2);
    let mut kept = call(&mut client, 1);
    assert!(poll_once(&mut kept).is_pending());
    let mut waiting = Task::begun(call(&mut client, 2));
    assert_eq!(answer(waiting.run()), None);
    send(&mut there, LATE);
    let mut handle = client.clone();
    let (woken, waker) = WakeCount::new();
    assert!(poll_ready(&mut handle, &waker).is_pending());
    let tags = tags(&mut there);
    send(&mut there, Tagged { tag: tags[1], value: 20 });
    assert!(woken.take() > 0, "nobody reads");
    assert!(poll_ready(&mut handle, &waker).is_pending());
    assert_eq!(answer(waiting.run()), Some(20));
    assert!(woken.take() > 0, "nobody passes the place on");
    assert!(poll_ready(&mut handle, &waker).is_ready());
}

#[test]
fn a_new_call_takes_the_lead_from_a_driver_that_was_woken_for_a_check_and_is_kept() {
    let (mut client, mut there) = by_tag(8);
    let mut driver = client.drive();
    assert!(poll_once(&mut driver).is_pending());
    let mut calls = [1, 2, 3].map(|number| Task::begun(call(&mut client, number)));
    assert!(calls.iter_mut().all(|call| call.run().is_pending()));
    let mut late = Task::begun(call(&mut client, 4));
    assert_eq!(answer(late.run()), None);
    let tags = tags(&mut there);
    assert_eq!(tags.len(), 4);
    tags.iter().for_each(|tag| send(&mut there, Tagged { tag: *tag, value: 10 }));
    let mut waiting: Vec<_> = calls.iter_mut().chain([&mut late]).collect();
    for _ in 0..4 {
        waiting.retain_mut(|call| answer(call.run()).is_none());
    }
    assert_eq!(waiting.len(), 0, "nobody reads");
}

#[test]
fn cancelled_readies_of_the_first_and_the_last_handle_stop_no_handle_between_them() {
    let (mut client, mut there) = limited(1);
    let mut first = Task::begun(call(&mut client, 1));
    let mut handles = [(); 3].map(|()| client.clone());
    let (woken, waker) = WakeCount::new();
    for (at, handle) in handles.iter_mut().enumerate() {
        let waker = if at == 1 { &waker } else { Waker::noop() };
        assert!(poll_ready(handle, waker).is_pending());
    }
    send(&mut there, 10);
    assert_eq!(answer(first.run()), Some(10));
    for _ in 0..4 {
        assert!(woken.take() > 0, "nobody takes the place from the first one");
        if poll_ready(&mut handles[1], &waker).is_ready() {
            return;
        }
    }
    panic!("the place was not passed on");
}

/// A transport that runs a closure within the poll that reads a certain message.
struct Hooked<T> {
    inner: T,
    hook: Hook,
}

/// The number of messages that come before, and the closure.
type Hook = Arc<Mutex<Option<(usize, Box<dyn FnOnce() + Send>)>>>;

impl<T: Stream + Unpin> Stream for Hooked<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.inner).poll_next(cx);
        let mut hook = self.hook.lock().unwrap();
        let run = match &mut *hook {
            Some((0, _)) => hook.take(),
            Some((before, _)) => {
                *before -= usize::from(polled.is_ready());
                None
            }
            None => None,
        };
        drop(hook);
        if let Some((_, run)) = run {
            run();
        }
        polled
    }
}

impl<M, T: Sink<M> + Unpin> Sink<M> for Hooked<T> {
    type Error = T::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), T::Error> {
        Pin::new(&mut self.inner).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[test]
fn a_request_that_is_written_when_the_budget_of_a_poll_ends_does_not_wait_for_a_promise_that_is_not_kept() {
    // One poll reads 128 answers, 16 at a time. The call comes in the last but one of these rounds.
    for before in [90, 100, 110, 120] {
        let (here, mut there) = channel::<Tagged<u32>, Tagged<u32>>(256);
        let hook = Hook::default();
        let transport = Hooked { inner: Buffered::new(here).0, hook: hook.clone() };
        let mut client = Client::by_tag(transport);
        let mut driver = Task::begun(client.drive());
        let mut first = Task::begun(call(&mut client, 0));
        let mut kept = call(&mut client, 1);
        assert!(poll_once(&mut kept).is_pending());
        (0..130).for_each(|_| send(&mut there, LATE));
        let late = Arc::new(Mutex::new(None));
        let (mut handle, made) = (client.clone(), late.clone());
        let come = move || *made.lock().unwrap() = Some(Task::begun(call(&mut handle, 2)));
        *hook.lock().unwrap() = Some((before, Box::new(come)));
        for _ in 0..4 {
            assert!(driver.run().is_pending() && first.run().is_pending());
            assert!(late.lock().unwrap().as_mut().is_none_or(|late| late.run().is_pending()));
        }
        let requests: Vec<_> = std::iter::from_fn(|| receive(&mut there)).map(|request| request.value).collect();
        assert_eq!(requests, [0, 1, 2], "the call came after {before} answers");
    }
}

#[test]
fn a_handle_that_comes_while_a_call_uses_the_transport_takes_the_lead_from_a_driver_that_was_woken_and_is_kept() {
    let (here, mut there) = channel::<u32, u32>(64);
    let hook = Hook::default();
    let transport = Hooked { inner: here, hook: hook.clone() };
    let mut client = Client::with_max_in_flight(transport, InOrder, NonZeroUsize::MIN);
    let mut first = Task::begun(call(&mut client, 1));
    assert_eq!(received(&mut there), [1]);
    let (mut next, mut waiting) = (client.clone(), client.clone());
    let (woken, waker) = WakeCount::new();
    assert!(poll_ready(&mut next, Waker::noop()).is_pending() && poll_ready(&mut waiting, &waker).is_pending());
    // Within the read of the first answer, the task of the last handle polls a driver, for the only time.
    let waiting = Arc::new(Mutex::new(waiting));
    let second = Arc::new(Mutex::new(None));
    let mut driver = client.drive();
    let later = (hook.clone(), waiting.clone(), second.clone(), waker.clone());
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let on_answer = move || {
        assert!(poll(&mut driver, &later.3).is_pending());
        *keep.lock().unwrap() = Some(driver);
        // Within a later read, the other handle calls, and the task of the last one comes, as it was woken.
        let (hook, waiting, second, waker) = later;
        let on_read = move || {
            *second.lock().unwrap() = Some(Task::begun(call(&mut next, 2)));
            assert!(poll_ready(&mut *waiting.lock().unwrap(), &waker).is_pending());
        };
        // The read before that one, which ends the round, finds nothing.
        let on_pending = {
            let hook = hook.clone();
            move || *hook.lock().unwrap() = Some((0, Box::new(on_read)))
        };
        *hook.lock().unwrap() = Some((0, Box::new(on_pending)));
    };
    *hook.lock().unwrap() = Some((0, Box::new(on_answer)));
    send(&mut there, 10);
    assert_eq!(answer(first.run()), Some(10));
    woken.take();
    assert_eq!(received(&mut there), [2]);
    send(&mut there, 20);
    let mut second = second.lock().unwrap().take().unwrap();
    let mut waiting = waiting.lock().unwrap();
    for _ in 0..4 {
        if woken.take() > 0 && poll_ready(&mut *waiting, &waker).is_ready() {
            return;
        }
        if second.woken.take() > 0 {
            _ = second.poll();
        }
    }
    panic!("nobody reads the second answer");
}

/// A transport whose peer answers each number at once, and which runs a closure within each poll that reads an answer.
struct Echo<F> {
    answers: VecDeque<u32>,
    on_answer: F,
}

impl<F: FnMut(u32) + Unpin> Stream for Echo<F> {
    type Item = Result<u32, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(answer) = self.answers.pop_front() else { return Poll::Pending };
        (self.on_answer)(answer);
        Poll::Ready(Some(Ok(answer)))
    }
}

impl<F: Unpin> Sink<u32> for Echo<F> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: u32) -> Result<(), Error> {
        self.answers.push_back(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_call_that_is_done_and_reads_on_wakes_the_call_that_has_its_place_in_memory_now() {
    type Handle = Client<Echo<Box<dyn FnMut(u32)>>, u32, u32>;
    let (handle, later) = (Rc::new(RefCell::new(None::<Handle>)), Rc::new(RefCell::new(Vec::new())));
    let (maker, made) = (handle.clone(), later.clone());
    // The second call comes while the first one reads its answer, and the third one while it works for the second.
    let on_answer = Box::new(move |answer: u32| {
        if answer < 3 {
            made.borrow_mut().push(Task::begun(call(maker.borrow_mut().as_mut().unwrap(), answer + 1)));
        }
    });
    let mut client = Client::in_order(Echo { answers: VecDeque::new(), on_answer: on_answer as Box<dyn FnMut(u32)> });
    *handle.borrow_mut() = Some(client.clone());
    let (_, waker) = WakeCount::new();
    assert_eq!(answer(poll(&mut call(&mut client, 1), &waker)), Some(1));
    let mut later: Vec<_> = later.borrow_mut().drain(..).collect();
    assert_eq!(later.iter_mut().map(|call| answer(call.run())).collect::<Vec<_>>(), [Some(2), Some(3)]);
    handle.borrow_mut().take();
}
