use std::{
    cell::RefCell,
    collections::VecDeque,
    num::NonZeroUsize,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{Sink, Stream, TryStreamExt};
use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    Channel, Error, TransportExt, channel,
    service::{ByTag, Client, Correlate, InOrder, Server, Tagged},
    test_util::WakeCount,
};

use crate::service::support::{Buffered, InOrderClient, NeverCloses, call, poll, poll_once, poll_ready, receive, send};

type TagClient = Client<Channel<Tagged<u32>, Tagged<u32>>, u32, u32, ByTag>;

fn in_order() -> (InOrderClient, Channel<u32, u32>) {
    let (here, there) = channel(64);
    (Client::in_order(here), there)
}

fn by_tag() -> (TagClient, Channel<Tagged<u32>, Tagged<u32>>) {
    let (here, there) = channel(64);
    (Client::by_tag(here), there)
}

fn limited(limit: usize) -> (InOrderClient, Channel<u32, u32>) {
    let (here, there) = channel(64);
    (Client::with_max_in_flight(here, InOrder, NonZeroUsize::new(limit).unwrap()), there)
}

fn value(answer: Poll<Result<u32, Error>>) -> u32 {
    match answer {
        Poll::Ready(answer) => answer.unwrap(),
        Poll::Pending => panic!("the call is not answered"),
    }
}

/// Polls calls that still wait as often as they are woken.
fn run<F: Future<Output = Result<u32, Error>> + Unpin>(calls: &mut [(F, (Arc<WakeCount>, Waker))]) {
    while let Some((call, (_, waker))) = calls.iter_mut().find(|(_, (task, _))| task.take() > 0) {
        assert!(poll(call, waker).is_pending());
    }
}

#[test]
fn in_order_the_first_answer_is_that_of_the_first_request() {
    let (mut client, mut there) = in_order();
    let mut first = call(&mut client, 1);
    let mut second = call(&mut client, 2);
    assert!(poll_once(&mut first).is_pending());
    assert!(poll_once(&mut second).is_pending());
    assert_eq!(receive(&mut there), Some(1));
    assert_eq!(receive(&mut there), Some(2));
    send(&mut there, 10);
    send(&mut there, 20);
    assert_eq!(value(poll_once(&mut second)), 20);
    assert_eq!(value(poll_once(&mut first)), 10);
}

#[test]
fn requests_go_out_in_the_order_of_their_first_polls() {
    let (mut client, mut there) = in_order();
    let mut first = call(&mut client, 1);
    let mut second = call(&mut client, 2);
    assert_eq!(receive(&mut there), None);
    assert!(poll_once(&mut second).is_pending());
    assert!(poll_once(&mut first).is_pending());
    send(&mut there, 20);
    send(&mut there, 10);
    assert_eq!(value(poll_once(&mut first)), 10);
    assert_eq!(value(poll_once(&mut second)), 20);
}

#[test]
fn by_tag_answers_may_come_in_any_order() {
    let (mut client, mut there) = by_tag();
    let mut calls: Vec<_> = (0..10).map(|number| call(&mut client, number)).collect();
    assert!(calls.iter_mut().all(|call| poll_once(call).is_pending()));
    let mut requests: Vec<_> = std::iter::from_fn(|| receive(&mut there)).collect();
    requests.reverse();
    for Tagged { tag, value } in requests {
        send(&mut there, Tagged { tag, value: value * 10 });
    }
    for (number, call) in (0..).zip(&mut calls) {
        assert_eq!(value(poll_once(call)), number * 10);
    }
    assert_eq!(client.unknown_answers(), 0);
}

#[test]
fn as_many_calls_as_allowed_make_poll_ready_pending_until_one_is_over() {
    let (mut client, mut there) = limited(2);
    let mut first = call(&mut client, 1);
    let _second = call(&mut client, 2);
    let (task, waker) = WakeCount::new();
    assert!(poll_ready(&mut client, &waker).is_pending());
    assert!(poll_once(&mut first).is_pending());
    send(&mut there, 10);
    assert_eq!(value(poll_once(&mut first)), 10);
    assert!(task.take() > 0);
    assert!(poll_ready(&mut client, &waker).is_ready());
}

#[test]
fn a_place_is_given_to_who_waits_longest_and_the_line_checks_that_it_comes() {
    let (client, _there) = limited(1);
    let mut handles: Vec<_> = (0..3).map(|_| (client.clone(), WakeCount::new())).collect();
    let mut holder = client.clone();
    assert!(poll_ready(&mut holder, Waker::noop()).is_ready());
    for (handle, (_, waker)) in &mut handles {
        assert!(poll_ready(handle, waker).is_pending());
    }
    drop(holder);
    let woken: Vec<_> = handles.iter().map(|(_, (task, _))| task.take() > 0).collect();
    // No call or driver leads, and nobody could tell which handle still comes.
    assert_eq!(woken, [true, true, true]);
    let mut late = client.clone();
    assert!(poll_ready(&mut late, Waker::noop()).is_pending());
    assert!(poll_ready(&mut handles[1].0, Waker::noop()).is_pending());
    assert!(poll_ready(&mut handles[0].0, Waker::noop()).is_ready());
}

#[test]
fn a_place_reserved_or_given_goes_on_when_its_handle_is_dropped() {
    let (client, _there) = limited(1);
    let (mut first, mut second, mut third) = (client.clone(), client.clone(), client.clone());
    let (task, waker) = WakeCount::new();
    assert!(poll_ready(&mut first, Waker::noop()).is_ready());
    assert!(poll_ready(&mut second, Waker::noop()).is_pending());
    assert!(poll_ready(&mut third, &waker).is_pending());
    drop(first);
    // The second has been given the place and never looks.
    drop(second);
    assert!(task.take() > 0);
    assert!(poll_ready(&mut third, &waker).is_ready());
}

#[test]
fn a_call_that_is_never_polled_gives_its_place_back_and_sends_nothing() {
    let (mut client, mut there) = limited(1);
    drop(call(&mut client, 1));
    assert_eq!(receive(&mut there), None);
    assert!(poll_ready(&mut client, Waker::noop()).is_ready());
}

#[test]
fn a_clone_of_a_ready_handle_is_not_ready_and_its_call_fails_alone() {
    let (mut client, _there) = limited(1);
    assert!(poll_ready(&mut client, Waker::noop()).is_ready());
    let mut other = client.clone();
    assert!(poll_ready(&mut other, Waker::noop()).is_pending());
    let mut unready = other.call(1);
    assert!(matches!(poll_once(&mut unready), Poll::Ready(Err(_))));
    assert!(poll_once(&mut client.call(2)).is_pending());
}

#[test]
fn in_order_the_answer_of_a_dropped_call_reaches_nobody() {
    let (mut client, mut there) = in_order();
    let mut first = call(&mut client, 1);
    let mut second = call(&mut client, 2);
    assert!(poll_once(&mut first).is_pending());
    assert!(poll_once(&mut second).is_pending());
    drop(first);
    send(&mut there, 10);
    assert!(poll_once(&mut second).is_pending());
    send(&mut there, 20);
    assert_eq!(value(poll_once(&mut second)), 20);
    assert_eq!(client.unknown_answers(), 0);
}

#[test]
fn a_handle_that_waits_for_a_place_reads_the_answer_of_a_dropped_call_itself() {
    let (mut client, mut there) = limited(1);
    let mut dropped = call(&mut client, 1);
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    let (task, waker) = WakeCount::new();
    assert!(poll_ready(&mut client, &waker).is_pending());
    send(&mut there, 10);
    assert!(task.take() > 0);
    assert!(poll_ready(&mut client, &waker).is_ready());
}

#[test]
fn a_handle_that_waits_for_a_place_takes_the_lead_when_the_last_call_is_dropped() {
    let (mut client, mut there) = limited(1);
    let mut leader = call(&mut client, 1);
    assert!(poll_once(&mut leader).is_pending());
    let (task, waker) = WakeCount::new();
    assert!(poll_ready(&mut client, &waker).is_pending());
    drop(leader);
    assert!(task.take() == 0);
    send(&mut there, 10);
    assert!(task.take() > 0);
    assert!(poll_ready(&mut client, &waker).is_ready());
}

#[test]
fn a_call_that_moves_to_another_task_is_woken_there() {
    let (mut client, mut there) = in_order();
    let mut moved = call(&mut client, 1);
    assert!(poll_once(&mut moved).is_pending());
    let (task, waker) = WakeCount::new();
    assert!(poll(&mut moved, &waker).is_pending());
    send(&mut there, 10);
    assert!(task.take() > 0);
    assert_eq!(value(poll(&mut moved, &waker)), 10);
}

#[test]
fn a_waiting_handle_and_a_driver_that_move_to_another_task_are_woken_there() {
    let (mut client, mut there) = limited(1);
    let mut dropped = call(&mut client, 1);
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    assert!(poll_ready(&mut client, Waker::noop()).is_pending());
    let (task, waker) = WakeCount::new();
    assert!(poll_ready(&mut client, &waker).is_pending());
    send(&mut there, 10);
    assert!(task.take() > 0);
    assert!(poll_ready(&mut client, &waker).is_ready());

    let mut driver = client.drive();
    assert!(poll_once(&mut driver).is_pending());
    assert!(poll(&mut driver, &waker).is_pending());
    drop(there);
    assert!(task.take() > 0);
    assert!(poll(&mut driver, &waker).is_ready());
}

#[test]
fn by_tag_a_dropped_call_frees_its_place_and_its_late_answer_is_counted() {
    let (here, mut there) = channel(64);
    let mut client: TagClient = Client::with_max_in_flight(here, ByTag, NonZeroUsize::MIN);
    let mut dropped = call(&mut client, 1);
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    let late = receive(&mut there).unwrap();
    let mut next = call(&mut client, 2);
    assert!(poll_once(&mut next).is_pending());
    let request = receive(&mut there).unwrap();
    assert_ne!(late.tag, request.tag);
    send(&mut there, Tagged { tag: late.tag, value: 10 });
    send(&mut there, Tagged { tag: u64::MAX, value: 11 });
    assert!(poll_once(&mut next).is_pending());
    send(&mut there, Tagged { tag: request.tag, value: 20 });
    send(&mut there, Tagged { tag: request.tag, value: 21 });
    assert_eq!(value(poll_once(&mut next)), 20);
    assert!(poll_once(&mut call(&mut client, 3)).is_pending());
    assert_eq!(client.unknown_answers(), 3);
}

#[test]
fn a_request_that_the_transport_has_not_taken_is_withdrawn_with_its_call() {
    let (here, mut there) = channel(1);
    let mut client = Client::in_order(here);
    let mut calls: Vec<_> = (1..=3).map(|number| call(&mut client, number)).collect();
    assert!(calls.iter_mut().all(|call| poll_once(call).is_pending()));
    drop(calls.remove(1));
    assert_eq!(receive(&mut there), Some(1));
    assert!(poll_once(&mut calls[0]).is_pending());
    assert_eq!(receive(&mut there), Some(3));
    send(&mut there, 10);
    assert_eq!(value(poll_once(&mut calls[0])), 10);
    send(&mut there, 30);
    assert_eq!(value(poll_once(&mut calls[1])), 30);
}

#[test]
fn the_end_of_the_transport_reaches_every_call_and_all_that_come_later() {
    let (mut client, there) = limited(3);
    let mut waiting: Vec<_> = (0..3).map(|number| (call(&mut client, number), WakeCount::new())).collect();
    for (call, (_, waker)) in &mut waiting {
        assert!(poll(call, waker).is_pending());
    }
    let mut queued = client.clone();
    let (task, waker) = WakeCount::new();
    assert!(poll_ready(&mut queued, &waker).is_pending());
    run(&mut waiting);
    drop(there);
    let leader = waiting.iter().position(|(_, (task, _))| task.take() > 0).expect("the leader is woken");
    let (mut first, _) = waiting.remove(leader);
    assert!(matches!(poll_once(&mut first), Poll::Ready(Err(error)) if error.is_closed()));
    for (call, (task, waker)) in &mut waiting {
        assert!(task.take() > 0);
        assert!(matches!(poll(call, waker), Poll::Ready(Err(error)) if error.is_closed()));
    }
    assert!(task.take() > 0);
    assert!(matches!(poll_ready(&mut queued, &waker), Poll::Ready(Err(error)) if error.is_closed()));
    assert!(matches!(poll_ready(&mut client.clone(), &waker), Poll::Ready(Err(error)) if error.is_closed()));
}

#[test]
fn a_handle_that_was_ready_before_the_end_is_told_of_it() {
    let (mut client, there) = in_order();
    let mut other = client.clone();
    assert!(poll_ready(&mut other, Waker::noop()).is_ready());
    drop(there);
    assert!(matches!(poll_once(&mut call(&mut client, 1)), Poll::Ready(Err(_))));
    assert!(matches!(poll_ready(&mut other, Waker::noop()), Poll::Ready(Err(error)) if error.is_closed()));
}

#[test]
fn what_has_arrived_is_delivered_before_the_end() {
    let (mut client, mut there) = in_order();
    let mut first = call(&mut client, 1);
    let mut second = call(&mut client, 2);
    let mut third = call(&mut client, 3);
    assert!(poll_once(&mut first).is_pending());
    assert!(poll_once(&mut second).is_pending());
    send(&mut there, 10);
    drop(there);
    // This one cannot be written any more, and finds the answer that is still there.
    assert!(matches!(poll_once(&mut third), Poll::Ready(Err(error)) if error.is_closed()));
    assert_eq!(value(poll_once(&mut first)), 10);
    assert!(matches!(poll_once(&mut second), Poll::Ready(Err(error)) if error.is_closed()));
}

#[test]
fn a_failure_reaches_every_call_as_its_cause() {
    let (here, _there) = channel::<u32, u32>(8);
    let (transport, control) = Buffered::new(here);
    let mut client = Client::in_order(transport);
    let mut first = call(&mut client, 1);
    let mut second = call(&mut client, 2);
    assert!(poll_once(&mut first).is_pending());
    assert!(poll_once(&mut second).is_pending());
    *control.fault.lock().unwrap() = Some(Error::protocol("a reserved bit is set"));
    assert!(matches!(poll_once(&mut first), Poll::Ready(Err(error)) if error.is_protocol()));
    assert!(matches!(poll_once(&mut second), Poll::Ready(Err(error)) if error.is_protocol()));
    assert!(matches!(poll_ready(&mut client, Waker::noop()), Poll::Ready(Err(error)) if error.is_protocol()));
}

#[test]
fn a_request_that_is_too_large_fails_alone() {
    let (here, mut there) = channel::<u32, u32>(8);
    let (transport, control) = Buffered::new(here);
    let mut client = Client::in_order(transport);
    let mut first = call(&mut client, 1);
    assert!(poll_once(&mut first).is_pending());
    *control.refusal.lock().unwrap() = Some(Error::too_large("4 bytes over a limit of 3"));
    let mut large = call(&mut client, 2);
    assert!(matches!(poll_once(&mut large), Poll::Ready(Err(error)) if error.is_too_large()));
    send(&mut there, 10);
    assert_eq!(value(poll_once(&mut first)), 10);
}

#[test]
fn in_order_an_answer_that_cannot_be_read_fails_its_call_alone() {
    let (here, mut there) = channel::<u32, u32>(8);
    let (transport, control) = Buffered::new(here);
    let mut client = Client::in_order(transport);
    let mut first = call(&mut client, 1);
    let mut second = call(&mut client, 2);
    assert!(poll_once(&mut first).is_pending());
    *control.fault.lock().unwrap() = Some(Error::codec("not a number"));
    assert!(poll_once(&mut second).is_pending());
    assert!(matches!(poll_once(&mut first), Poll::Ready(Err(error)) if error.is_codec()));
    send(&mut there, 20);
    assert_eq!(value(poll_once(&mut second)), 20);
}

#[test]
fn a_leader_that_is_dropped_after_it_was_woken_passes_the_wake_on() {
    let (mut client, mut there) = by_tag();
    let mut calls: Vec<_> = (0..3).map(|number| (call(&mut client, number), WakeCount::new())).collect();
    for (call, (_, waker)) in &mut calls {
        assert!(poll(call, waker).is_pending());
    }
    let tags: Vec<_> = std::iter::from_fn(|| receive(&mut there)).map(|request| request.tag).collect();
    run(&mut calls);
    let mut left = calls.len();
    let mut tag = Some(tags);
    while left > 0 {
        if let Some(tags) = tag.take() {
            tags.into_iter().for_each(|tag| send(&mut there, Tagged { tag, value: 7 }));
        }
        let leader = calls.iter().position(|(_, (task, _))| task.take() > 0).expect("somebody is woken");
        drop(calls.remove(leader));
        left -= 1;
    }
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn a_leader_that_has_its_answer_leaves_the_lead_to_another_without_waking_it_in_vain() {
    let (mut client, mut there) = in_order();
    let mut calls: Vec<_> = (0..2).map(|number| (call(&mut client, number), WakeCount::new())).collect();
    for (call, (_, waker)) in &mut calls {
        assert!(poll(call, waker).is_pending());
    }
    for (call, (_, waker)) in &mut calls {
        assert!(poll(call, waker).is_pending());
    }
    let (mut second, (later, second_waker)) = calls.pop().unwrap();
    let (mut first, (task, waker)) = calls.pop().unwrap();
    assert!((task.take() > 0) | (later.take() > 0));
    send(&mut there, 10);
    assert!(task.take() > 0);
    assert_eq!(value(poll(&mut first, &waker)), 10);
    assert!(!later.take() > 0);
    send(&mut there, 20);
    assert!(later.take() > 0);
    assert_eq!(value(poll(&mut second, &second_waker)), 20);
}

#[test]
fn a_call_alone_flushes_at_once_and_several_flush_together() {
    let (here, mut there) = channel::<u32, u32>(64);
    let (transport, control) = Buffered::new(here);
    let mut client = Client::in_order(transport);
    let mut lone = call(&mut client, 0);
    assert!(poll_once(&mut lone).is_pending());
    assert_eq!(receive(&mut there), Some(0));
    assert_eq!(control.flushes.swap(0, SeqCst), 1);

    let mut calls: Vec<_> = (1..=8).map(|number| (call(&mut client, number), WakeCount::new())).collect();
    for (call, (_, waker)) in &mut calls {
        assert!(poll(call, waker).is_pending());
    }
    assert_eq!(control.flushes.load(SeqCst), 0);
    for (call, (task, waker)) in &mut calls {
        if task.take() > 0 {
            assert!(poll(call, waker).is_pending());
        }
    }
    assert_eq!(control.flushes.load(SeqCst), 1);
    assert_eq!(std::iter::from_fn(|| receive(&mut there)).count(), 8);
}

#[test]
fn who_promised_to_flush_and_is_dropped_leaves_that_to_another() {
    let (here, mut there) = channel::<u32, u32>(64);
    let (transport, _) = Buffered::new(here);
    let mut client = Client::in_order(transport);
    let mut calls: Vec<_> = (0..4).map(|number| (call(&mut client, number), WakeCount::new())).collect();
    for (call, (_, waker)) in &mut calls {
        assert!(poll(call, waker).is_pending());
    }
    assert_eq!(receive(&mut there), Some(0));
    let promised = calls.iter().position(|(_, (task, _))| task.take() > 0).unwrap();
    drop(calls.remove(promised));
    for (call, (task, waker)) in &mut calls {
        if task.take() > 0 {
            assert!(poll(call, waker).is_pending());
        }
    }
    assert_eq!(std::iter::from_fn(|| receive(&mut there)).count(), 3);
}

#[test]
fn a_driver_reads_for_calls_that_are_kept_and_not_polled() {
    let (mut client, mut there) = in_order();
    let (driven, driver_waker) = WakeCount::new();
    let mut driver = client.drive();
    assert!(poll(&mut driver, &driver_waker).is_pending());
    let mut kept = call(&mut client, 1);
    assert!(poll_once(&mut kept).is_pending());
    let mut other = call(&mut client, 2);
    let (task, waker) = WakeCount::new();
    assert!(poll(&mut other, &waker).is_pending());
    assert!((driven.take() > 0) | (task.take() > 0));
    send(&mut there, 10);
    send(&mut there, 20);
    assert!(driven.take() > 0);
    assert!(poll(&mut driver, &driver_waker).is_pending());
    assert!(task.take() > 0);
    assert_eq!(value(poll(&mut other, &waker)), 20);
}

#[test]
fn a_driver_sees_the_end_while_nobody_calls() {
    let (mut client, there) = in_order();
    let (task, waker) = WakeCount::new();
    let mut driver = client.drive();
    assert!(poll(&mut driver, &waker).is_pending());
    drop(there);
    assert!(task.take() > 0);
    assert!(matches!(poll(&mut driver, &waker), Poll::Ready(Ok(()))));
    assert!(matches!(poll_ready(&mut client, &waker), Poll::Ready(Err(error)) if error.is_closed()));
}

#[test]
fn a_driver_closes_the_transport_when_the_last_handle_and_call_are_gone() {
    let (mut client, mut there) = in_order();
    let (task, waker) = WakeCount::new();
    let mut driver = client.drive();
    assert!(poll(&mut driver, &waker).is_pending());
    let mut last = call(&mut client, 1);
    assert!(poll_once(&mut last).is_pending());
    assert_eq!(receive(&mut there), Some(1));
    drop(client);
    assert!(poll(&mut driver, &waker).is_pending());
    task.take();
    send(&mut there, 10);
    assert!(task.take() > 0);
    assert!(matches!(poll(&mut driver, &waker), Poll::Ready(Ok(()))));
    assert_eq!(value(poll_once(&mut last)), 10);
    assert!(matches!(
        futures_util::StreamExt::poll_next_unpin(&mut there, &mut std::task::Context::from_waker(&waker)),
        Poll::Ready(None)
    ));
}

#[test]
fn a_dropped_driver_leaves_the_reading_to_the_calls() {
    let (mut client, mut there) = in_order();
    let mut driver = client.drive();
    assert!(poll_once(&mut driver).is_pending());
    let (task, waker) = WakeCount::new();
    let mut first = call(&mut client, 1);
    assert!(poll(&mut first, &waker).is_pending());
    send(&mut there, 10);
    drop(driver);
    assert!(task.take() > 0);
    assert_eq!(value(poll(&mut first, &waker)), 10);
}

#[test]
fn a_call_allocates_nothing_once_the_client_is_warm() {
    let (mut client, mut there) = by_tag();
    let mut round = || {
        for number in 0..32 {
            let mut call = call(&mut client, number);
            assert!(poll_once(&mut call).is_pending());
            let request = receive(&mut there).unwrap();
            send(&mut there, request);
            assert_eq!(value(poll_once(&mut call)), number);
        }
    };
    round();
    let info = allocation_counter::measure(round);
    assert_eq!(info.count_total, 0);
}

#[test]
fn a_client_is_as_send_as_its_transport_and_needs_no_more() {
    fn is_send_and_sync<T: Send + Sync>(_: &T) {}
    let (mut client, _there) = in_order();
    is_send_and_sync(&client);
    is_send_and_sync(&call(&mut client, 1));
    is_send_and_sync(&client.drive());

    let (here, mut there) = channel::<u32, u32>(8);
    let local = Rc::new(100);
    let mut client = Client::in_order(here.map_ok(move |answer: u32| answer + *local));
    let mut call = call(&mut client, 1);
    assert!(poll_once(&mut call).is_pending());
    send(&mut there, 10);
    assert_eq!(value(poll_once(&mut call)), 110);
}

#[test]
fn a_peer_that_floods_the_client_with_unknown_answers_does_not_keep_it_from_yielding() {
    let (here, mut there) = channel(1000);
    let mut client: TagClient = Client::by_tag(here);
    (0..1000).for_each(|value| send(&mut there, Tagged { tag: 0, value }));
    let (task, waker) = WakeCount::new();
    let mut flooded = call(&mut client, 1);
    assert!(poll(&mut flooded, &waker).is_pending());
    assert!((1..1000).contains(&client.unknown_answers()));
    while task.take() > 0 {
        assert!(poll(&mut flooded, &waker).is_pending());
    }
    assert_eq!(client.unknown_answers(), 1000);
    let request = receive(&mut there).unwrap();
    send(&mut there, request);
    assert!(task.take() > 0);
    assert_eq!(value(poll(&mut flooded, &waker)), 1);
}

/// An answer, or a request, whose drop calls into the client.
struct Nosy(Option<Box<dyn Fn()>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(look) = self.0.take() {
            look();
        }
    }
}

#[test]
fn what_nobody_wants_is_dropped_where_it_may_call_the_client() {
    let (here, mut there) = channel::<Nosy, Nosy>(2);
    let mut client = Client::in_order(here);
    let looks = Rc::new(std::cell::Cell::new(0));
    let nosy = || {
        let (client, looks) = (client.clone(), looks.clone());
        Nosy(Some(Box::new(move || {
            assert!(client.in_flight() < 5);
            looks.set(looks.get() + 1);
        })))
    };
    let messages: Vec<_> = (0..5).map(|_| nosy()).collect();
    let mut messages = messages.into_iter();
    let mut next = || messages.next().unwrap();
    let mut dropped = call(&mut client, next());
    let mut waiting = call(&mut client, next());
    let mut withdrawn = call(&mut client, next());
    assert!(poll_once(&mut dropped).is_pending());
    assert!(poll_once(&mut waiting).is_pending());
    assert!(poll_once(&mut withdrawn).is_pending());
    drop((dropped, withdrawn));
    assert_eq!(looks.get(), 1);
    send(&mut there, next());
    assert!(poll_once(&mut waiting).is_pending());
    assert_eq!(looks.get(), 2);
    // The end takes with it what the channel has: two requests, and an answer that is not read.
    send(&mut there, next());
    drop(waiting);
    drop(there);
    assert_eq!(looks.get(), 4);
    assert!(matches!(poll_once(&mut call(&mut client, Nosy(None))), Poll::Ready(Err(_))));
    assert_eq!(looks.get(), 5);
}

/// A transport that drops each request when it has "encoded" it, as a codec does, and that calls the client from each
/// of its methods.
struct Encoding {
    answers: VecDeque<u32>,
    client: Rc<RefCell<Option<Client<Encoding, Nosy, u32>>>>,
}

impl Encoding {
    /// All that a client can be asked for.
    fn use_client(&self) {
        let Some(mut client) = self.client.borrow().clone() else { return };
        assert!(client.in_flight() <= 3);
        assert!(format!("{client:?}").contains("in_flight"));
        if poll_ready(&mut client, Waker::noop()).is_ready() {
            let mut call = client.call(Nosy(None));
            assert!(poll_once(&mut call).is_pending());
        }
        assert!(poll_once(&mut client.drive()).is_pending());
    }
}

impl Stream for Encoding {
    type Item = Result<u32, Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.use_client();
        self.answers.pop_front().map_or(Poll::Pending, |answer| Poll::Ready(Some(Ok(answer))))
    }
}

impl Sink<Nosy> for Encoding {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.use_client();
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, request: Nosy) -> Result<(), Error> {
        self.use_client();
        self.answers.push_back(7);
        drop(request);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.use_client();
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_transport_and_the_drop_of_a_request_may_use_the_client_in_any_of_its_polls() {
    let handle = Rc::new(RefCell::new(None));
    let mut client = Client::in_order(Encoding { answers: VecDeque::new(), client: handle.clone() });
    *handle.borrow_mut() = Some(client.clone());
    let looks = Rc::new(std::cell::Cell::new(0));
    let look = {
        let (handle, looks) = (handle.clone(), looks.clone());
        move || {
            let mut client = handle.borrow().clone().unwrap();
            looks.set(looks.get() + client.in_flight());
            assert!(poll_ready(&mut client, Waker::noop()).is_ready());
            let mut call = client.call(Nosy(None));
            // The transport is in use: the request waits for the end of this poll, and goes with its call.
            assert!(poll_once(&mut call).is_pending());
        }
    };
    let mut asked = call(&mut client, Nosy(Some(Box::new(look))));
    assert_eq!(value(poll_once(&mut asked)), 7);
    assert_eq!(looks.get(), 1);
    drop(handle.take());
}

#[test]
fn a_request_that_is_made_while_the_transport_is_in_use_is_sent_by_the_task_that_uses_it() {
    let handle: Rc<RefCell<Option<Client<Encoding, Nosy, u32>>>> = Rc::default();
    let mut client = Client::in_order(Encoding { answers: VecDeque::new(), client: Rc::default() });
    *handle.borrow_mut() = Some(client.clone());
    let inner = Rc::new(RefCell::new(None));
    let (task, waker) = WakeCount::new();
    let look = {
        let (handle, inner, waker) = (handle.clone(), inner.clone(), waker.clone());
        move || {
            let mut client = handle.take().unwrap();
            let mut call = call(&mut client, Nosy(None));
            assert!(poll(&mut call, &waker).is_pending());
            *inner.borrow_mut() = Some(call);
        }
    };
    let mut outer = call(&mut client, Nosy(Some(Box::new(look))));
    assert_eq!(value(poll_once(&mut outer)), 7);
    assert!(task.take() > 0);
    assert_eq!(value(poll(inner.borrow_mut().as_mut().unwrap(), &waker)), 7);
}

/// A correlation that looks at its client.
struct Looking(Rc<RefCell<Option<LookingClient>>>);

type LookingClient = Client<Channel<u32, u32>, u32, u32, Looking>;

impl Correlate<u32, u32> for Looking {
    const IN_ORDER: bool = true;
    type Out = u32;
    type In = u32;

    fn request(&mut self, _: u64, request: u32) -> u32 {
        request + self.0.borrow().as_ref().map_or(0, Client::in_flight) as u32
    }

    fn answer(&mut self, answer: u32) -> (Option<u64>, u32) {
        (None, answer + self.0.borrow().as_ref().map_or(0, Client::in_flight) as u32)
    }
}

#[test]
fn a_correlation_may_look_at_its_client() {
    let (here, mut there) = channel::<u32, u32>(8);
    let handle = Rc::new(RefCell::new(None));
    let mut client = Client::new(here, Looking(handle.clone()));
    *handle.borrow_mut() = Some(client.clone());
    let mut call = call(&mut client, 1);
    assert!(poll_once(&mut call).is_pending());
    assert_eq!(receive(&mut there), Some(2));
    send(&mut there, 10);
    assert_eq!(value(poll_once(&mut call)), 11);
    drop(handle.take());
}

/// Wakers whose clone, wake and drop call into the client, as those of an executor may that runs tasks in place.
struct NosyTask(Client<Channel<u32, u32>, u32, u32>, AtomicUsize);

impl Drop for NosyTask {
    fn drop(&mut self) {
        assert!(self.0.in_flight() < 10);
    }
}

impl std::task::Wake for NosyTask {
    fn wake(self: Arc<Self>) {
        assert!(self.0.in_flight() < 10);
        self.1.fetch_add(1, SeqCst);
    }
}

#[test]
fn wakers_are_woken_and_dropped_where_they_may_call_the_client() {
    let (mut client, mut there) = in_order();
    let nosy = |client: &InOrderClient| Waker::from(Arc::new(NosyTask(client.clone(), AtomicUsize::new(0))));
    let mut calls: Vec<_> = (0..4).map(|number| call(&mut client, number)).collect();
    let mut driver = client.drive();
    for _ in 0..3 {
        for call in &mut calls {
            assert!(poll(call, &nosy(&client)).is_pending());
        }
        assert!(poll(&mut driver, &nosy(&client)).is_pending());
    }
    drop(calls.pop());
    send(&mut there, 10);
    assert!(poll(&mut driver, &nosy(&client)).is_pending());
    assert_eq!(value(poll(&mut calls[0], &nosy(&client))), 10);
    drop(driver);
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_transport_does_not_finish_its_close_ends_in_time() {
    let (here, _there) = channel::<u32, u32>(1);
    let client = Client::<_, u32, u32, _>::in_order(NeverCloses(here));
    let driver = tokio::spawn(client.drive());
    let limited = tokio::spawn(client.drive().close_within(Duration::from_secs(3600)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!driver.is_finished(), "the time begins with the close");
    drop(client);
    let start = tokio::time::Instant::now();
    let error = driver.await.unwrap().unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("10s without progress (Drive::close_within)"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 11);
    assert!(limited.await.unwrap().unwrap_err().is_timeout(), "the first one has dropped the transport");
    assert_eq!(start.elapsed().as_secs(), 11);
}

/// A transport whose codec panics at a message, and whose sink can be shut for a while.
struct Panicking<M> {
    inner: Channel<M, M>,
    encodes: fn(&M) -> bool,
    decodes: fn(&M) -> bool,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    is_shut: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Gate {
    fn open(&self) {
        self.is_shut.store(false, SeqCst);
        let waker = self.waker.lock().unwrap().take();
        waker.unwrap().wake();
    }
}

impl<M: Unpin> Stream for Panicking<M> {
    type Item = Result<M, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = Pin::new(&mut self.inner).poll_next(cx);
        if let Poll::Ready(Some(Ok(message))) = &polled {
            assert!((self.decodes)(message), "the decoder panics");
        }
        polled
    }
}

impl<M: Unpin> Sink<M> for Panicking<M> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.gate.is_shut.load(SeqCst) {
            *self.gate.waker.lock().unwrap() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Error> {
        assert!((self.encodes)(&message), "the encoder panics");
        Pin::new(&mut self.inner).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

const MINUTE: Duration = Duration::from_secs(60);

async fn echo(number: u32) -> Result<u32, Error> {
    Ok(number)
}

/// Calls with each number from a task of its own, `apart` from the next. Returns the answers; a call that panicked has
/// none.
async fn calls_of<T, C>(
    client: &Client<T, u32, u32, C>,
    apart: Duration,
    numbers: &[u32],
) -> Vec<Option<Result<u32, Error>>>
where
    C: Correlate<u32, u32> + Send + 'static,
    C::Out: Send,
    C::In: Send,
    T: tower_transport::Transport<C::Out, In = C::In> + Send + 'static,
{
    let mut calls = Vec::new();
    for number in numbers {
        calls.push(tokio::spawn(client.clone().oneshot(*number)));
        tokio::time::sleep(apart).await;
    }
    let mut answers = Vec::new();
    for call in calls {
        answers.push(tokio::time::timeout(MINUTE, call).await.expect("a call waits forever").ok());
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn in_order_a_panic_while_an_answer_is_read_ends_the_client() {
    const NUMBERS: [u32; 4] = [1, 13, 2, 3];
    for (has_driver, apart) in [(true, 0), (false, 0), (true, 100), (false, 100)] {
        let (inner, there) = channel::<u32, u32>(16);
        tokio::spawn(Server::in_order(there, service_fn(echo)));
        let gate = Arc::default();
        let client = Client::in_order(Panicking { inner, encodes: |_| true, decodes: |number| *number != 13, gate });
        if has_driver {
            tokio::spawn(client.drive());
            tokio::task::yield_now().await;
        }
        let answers = calls_of(&client, Duration::from_millis(apart), &NUMBERS).await;
        for (number, answer) in NUMBERS.into_iter().zip(answers) {
            match answer {
                Some(Ok(answer)) => assert_eq!(answer, number, "the answer of another call"),
                Some(Err(error)) => assert!(error.is_closed() && error.to_string().contains("panicked"), "{error}"),
                // The call has read the message itself, in its own task.
                None => {}
            }
        }
        let later = tokio::time::timeout(MINUTE, client.clone().oneshot(50)).await.expect("a later call waits forever");
        assert!(later.is_err_and(|error| error.is_closed() && !error.may_have_been_executed()));
    }
}

#[tokio::test(start_paused = true)]
async fn by_tag_a_panic_while_an_answer_is_read_fails_the_calls_that_were_sent() {
    let (inner, there) = channel::<Tagged<u32>, Tagged<u32>>(16);
    tokio::spawn(Server::as_they_finish(there, service_fn(echo)));
    let gate = Arc::default();
    let client = Client::by_tag(Panicking { inner, encodes: |_| true, decodes: |tagged| tagged.value != 13, gate });
    tokio::spawn(client.drive());
    tokio::task::yield_now().await;
    let answers = calls_of(&client, Duration::from_millis(100), &[1, 13, 2]).await;
    assert!(matches!(answers[0], Some(Ok(1))));
    assert!(matches!(&answers[1], Some(Err(error)) if error.is_rejection() && error.may_have_been_executed()));
    assert!(matches!(answers[2], Some(Ok(2))));
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn by_tag_a_panic_while_another_task_sends_a_request_fails_its_call_alone() {
    let (inner, mut there) = channel::<Tagged<u32>, Tagged<u32>>(16);
    let gate = Arc::new(Gate::default());
    let client = Client::by_tag(Panicking {
        inner,
        encodes: |tagged| tagged.value != 13,
        decodes: |_| true,
        gate: gate.clone(),
    });
    let driver = tokio::spawn(client.drive());
    tokio::task::yield_now().await;
    let sent = tokio::spawn(client.clone().oneshot(1));
    tokio::task::yield_now().await;
    gate.is_shut.store(true, SeqCst);
    let unlucky = tokio::spawn(client.clone().oneshot(13));
    let behind = tokio::spawn(client.clone().oneshot(2));
    tokio::task::yield_now().await;
    gate.open();
    let error = tokio::time::timeout(MINUTE, unlucky).await.expect("the call waits forever").unwrap().unwrap_err();
    assert!(error.is_rejection() && error.may_have_been_executed(), "{error}");
    assert!(driver.await.unwrap_err().is_panic());
    for (call, number) in [(sent, 1), (behind, 2)] {
        let request = there.receive_message().await.unwrap().unwrap();
        assert_eq!(request.value, number);
        there.send_message(request).await.unwrap();
        assert_eq!(tokio::time::timeout(MINUTE, call).await.expect("a call waits forever").unwrap().unwrap(), number);
    }
}

#[tokio::test(start_paused = true)]
async fn in_order_a_panic_while_a_request_is_sent_ends_the_client() {
    const NUMBERS: [u32; 3] = [1, 13, 2];
    let (inner, there) = channel::<u32, u32>(16);
    tokio::spawn(Server::in_order(there, service_fn(echo)));
    let gate = Arc::default();
    let client = Client::in_order(Panicking { inner, encodes: |number| *number != 13, decodes: |_| true, gate });
    let answers = calls_of(&client, Duration::from_millis(100), &NUMBERS).await;
    assert!(matches!(answers[0], Some(Ok(1))));
    assert!(answers[1].is_none());
    assert!(matches!(&answers[2], Some(Err(error)) if error.is_closed() && !error.may_have_been_executed()));
}

/// The next request, which somebody sends without being asked.
async fn next_request(there: &mut Channel<u32, u32>) -> u32 {
    let came = tokio::time::timeout(MINUTE, there.receive_message()).await.expect("the turn does not pass");
    came.unwrap().unwrap()
}

/// Waits for a place for a minute, then gives up and keeps the handle.
async fn gives_up(handle: &mut InOrderClient) {
    assert!(tokio::time::timeout(MINUTE, ServiceExt::<u32>::ready(handle)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_ready_gives_up_its_turn() {
    let (client, mut there) = limited(1);
    let busy = tokio::spawn(client.clone().oneshot(1));
    tokio::task::yield_now().await;
    let mut kept = client.clone();
    gives_up(&mut kept).await;
    let waiting = tokio::spawn(client.clone().oneshot(2));
    tokio::task::yield_now().await;
    assert_eq!(next_request(&mut there).await, 1);
    there.send_message(1).await.unwrap();
    assert_eq!(busy.await.unwrap().unwrap(), 1);
    assert_eq!(next_request(&mut there).await, 2);
    there.send_message(2).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 2);
    // The handle is as good as before.
    assert!(tokio::time::timeout(MINUTE, ServiceExt::<u32>::ready(&mut kept)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn cancelled_readies_give_up_their_turns_while_a_call_or_a_driver_leads() {
    for has_driver in [false, true] {
        let (client, mut there) = limited(2);
        if has_driver {
            tokio::spawn(client.drive());
        }
        let (first, leader) = (tokio::spawn(client.clone().oneshot(1)), tokio::spawn(client.clone().oneshot(2)));
        tokio::task::yield_now().await;
        let mut kept = [client.clone(), client.clone(), client.clone()];
        for handle in &mut kept {
            gives_up(handle).await;
        }
        let waiting = tokio::spawn(client.clone().oneshot(3));
        tokio::task::yield_now().await;
        there.send_message(1).await.unwrap();
        assert_eq!(first.await.unwrap().unwrap(), 1);
        for number in 1..=3 {
            assert_eq!(next_request(&mut there).await, number);
        }
        there.send_message(2).await.unwrap();
        there.send_message(3).await.unwrap();
        assert_eq!(leader.await.unwrap().unwrap(), 2);
        assert_eq!(waiting.await.unwrap().unwrap(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_ready_that_reads_for_dropped_calls_stops_no_later_caller() {
    let (mut client, mut there) = limited(1);
    let mut dropped = call(&mut client, 1);
    assert!(poll_once(&mut dropped).is_pending());
    drop(dropped);
    let mut kept = client.clone();
    gives_up(&mut kept).await;
    let waiting = tokio::spawn(client.clone().oneshot(2));
    tokio::task::yield_now().await;
    assert_eq!(next_request(&mut there).await, 1);
    there.send_message(1).await.unwrap();
    assert_eq!(next_request(&mut there).await, 2);
    drop((kept, waiting));
}
