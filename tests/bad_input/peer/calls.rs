//! Lies and floods in the crate's own frames.

use std::num::{NonZeroU32, NonZeroUsize};

use futures_util::{FutureExt, StreamExt, stream};
use tower::ServiceExt;
use tower_transport::service::peer::{CallOptions, Frame, Frames, IncomingCall, PeerBuilder, Rejection, Reply};

use super::{KIB, MIB, Victim};
use crate::allocator::Growth;

type Wire = Frames<u64, Vec<u8>, String>;
type Sent = Frame<u64, Vec<u8>, String>;

fn settings() -> PeerBuilder<Wire> {
    PeerBuilder::new(Wire::new())
}

fn call(id: u64, options: &str) -> Sent {
    Frame::Call { id, request: id, options: options_of(options) }
}

fn options_of(json: &str) -> CallOptions {
    serde_json::from_str(json).unwrap()
}

fn victim(settings: PeerBuilder<Wire>) -> Victim<Wire> {
    Victim::new(settings, |mut call: IncomingCall<u64>| {
        async move {
            match call.request % 4 {
                0 => Ok(Reply::One(vec![7; KIB])),
                1 => Ok(Reply::Stream(stream::repeat_with(|| Ok(vec![7; KIB])).boxed())),
                2 => {
                    while let Some(Ok(_)) = call.requests.next().await {}
                    std::future::pending().await
                }
                _ => std::future::pending().await,
            }
        }
        .boxed()
    })
}

/// Returns how many answers a call has, among all frames that wait.
fn answered(victim: &mut Victim<Wire>, id: u64) -> usize {
    let frames = victim.received();
    frames.iter().filter(|frame| matches!(frame, Frame::Answer { id: of, .. } if *of == id)).count()
}

#[test]
fn calls_that_are_cancelled_leave_no_answers_that_nobody_reads() {
    let mut victim = victim(settings());
    let growth = Growth::start();
    for id in (0..400_000).step_by(4) {
        assert!(victim.send(call(id, "{}")));
        victim.run();
        assert!(victim.send(Frame::Cancel { id }));
        victim.run();
    }
    println!("100,000 calls that were answered, and cancelled: {} KiB at most", growth.peak() / KIB);
    assert!(growth.peak() < 512 * KIB, "{}", growth.peak());
    // Those that the channel took, and the next ones are served.
    assert!(victim.received().len() <= 65);
    assert!(victim.send(call(4_000_000, "{}")));
    assert_eq!(answered(&mut victim, 4_000_000), 1);
}

#[test]
fn an_answer_of_a_cancelled_call_is_not_taken_for_one_of_the_next_call_with_its_number() {
    let mut victim = victim(settings());
    // The channel is full, so the answer of the last one waits.
    for id in (0..=256).step_by(4) {
        assert!(victim.send(call(id, "{}")));
        victim.run();
    }
    assert!(victim.send(call(1000, "{}")));
    victim.run();
    assert!(victim.send(Frame::Cancel { id: 1000 }));
    assert!(victim.send(Frame::Call { id: 1000, request: 3, options: CallOptions::default() }));
    victim.run();
    assert_eq!(answered(&mut victim, 1000), 0, "the second call is never answered");
    assert!(victim.send(Frame::Cancel { id: 1000 }));
    assert!(victim.send(call(1000, "{}")));
    assert_eq!(answered(&mut victim, 1000), 1);
}

#[test]
fn credit_that_nobody_reads_does_not_pile_up() {
    let mut victim = victim(settings());
    // The channel is full, so the credit of the last of these calls waits.
    for id in 0..=64 {
        assert!(victim.send(Frame::Call { id: 4 * id + 1, request: 3, options: options_of(r#"{"has_more":true}"#) }));
    }
    victim.run();
    let growth = Growth::start();
    for id in (2..80_000).step_by(4) {
        assert!(victim.send(call(id, r#"{"has_more":true}"#)));
        for request in 0..16 {
            assert!(victim.send(Frame::Request { id, request }));
        }
        victim.run();
        assert!(victim.send(Frame::Cancel { id }));
        victim.run();
    }
    println!("20,000 streams of 16 requests, cancelled: {} KiB at most", growth.peak() / KIB);
    assert!(growth.peak() < 96 * KIB, "{}", growth.peak());
    drop(victim.received());
    assert!(victim.send(call(4_000_000, "{}")));
    assert_eq!(answered(&mut victim, 4_000_000), 1);
}

/// If a cancellation looked at each call that waits, this would take 40 billion steps.
#[test]
fn a_cancellation_costs_the_same_however_many_calls_wait() {
    const CALLS: u64 = 200_000;
    let limit = NonZeroUsize::new(CALLS as usize).unwrap();
    let mut victim = Victim::busy(settings().max_incoming_calls(limit));
    for _ in 0..2 {
        for id in 0..CALLS {
            assert!(victim.send(call(id, r#"{"has_more":true}"#)));
        }
        for id in (0..CALLS).rev() {
            assert!(victim.send(Frame::Cancel { id }));
        }
        victim.run();
    }
    assert!(victim.ended.is_none());
    // Only the first ones were told their credit, for which there was room.
    assert_eq!(victim.received().len(), 64);
}

#[test]
fn a_million_streams_that_are_begun_and_not_read_cost_what_the_limit_allows() {
    let mut victim = victim(settings());
    let growth = Growth::start();
    let mut sent = 0;
    let all = format!(r#"{{"answers":{}}}"#, u32::MAX);
    while sent < 1_000_000 && victim.send(call(4 * sent + 1, &all)) {
        sent += 1;
    }
    println!("{sent} of 1,000,000 streams were read: {} KiB at most", growth.peak() / KIB);
    // Those in flight, the rejections that wait, and what the channel holds.
    assert!(sent < 1024 + 4096 + 3 * 64, "{sent}");
    assert!(growth.peak() < 4 * MIB, "{}", growth.peak());
    // The one that waits longest is told first.
    let rejected = victim.received().into_iter().find_map(|frame| match frame {
        Frame::Rejected { id, reason } => Some((id, reason)),
        _ => None,
    });
    assert_eq!(rejected, Some((4 * 1024 + 1, Rejection::Overloaded)));
}

#[tokio::test(start_paused = true)]
async fn deadlines_of_any_size_neither_overflow_nor_pile_up() {
    let mut victim = victim(settings());
    let growth = Growth::start();
    let times = [0, 1, u64::MAX, u64::MAX - 1, i64::MAX as u64, u64::from(u32::MAX), 1 << 53, 1000];
    for number in 0..100_000_u64 {
        let (id, time) = (4 * number + 3, times[number as usize % times.len()]);
        assert!(victim.send(call(id, &format!(r#"{{"timeout_ms":{time}}}"#))));
        if number % 64 == 0 {
            victim.run();
        }
        assert!(victim.send(Frame::Cancel { id }));
    }
    println!("100,000 calls with deadlines, cancelled: {} KiB at most", growth.peak() / KIB);
    assert!(growth.peak() < 96 * KIB, "{}", growth.peak());
    drop(victim.received());
    // The time of one is over when it comes, and that of the others is not.
    for (id, time) in (0..).zip(times) {
        assert!(victim.send(call(4 * id + 3, &format!(r#"{{"timeout_ms":{time}}}"#))));
    }
    assert_eq!(victim.received(), [Frame::Rejected { id: 3, reason: Rejection::TimedOut }]);
    tokio::time::advance(std::time::Duration::from_millis(2)).await;
    assert_eq!(victim.received(), [Frame::Rejected { id: 7, reason: Rejection::TimedOut }]);
}

#[test]
fn credit_that_overflows_in_steps_ends_the_connection() {
    let mut victim = victim(settings());
    assert!(victim.send(call(3, r#"{"answers":1}"#)));
    assert!(victim.send(Frame::AnswerCredit { id: 3, answers: u32::MAX - 1 }));
    victim.run();
    assert!(victim.ended.is_none());
    assert!(victim.send(Frame::AnswerCredit { id: 3, answers: 1 }));
    victim.run();
    let error = victim.ended.unwrap().unwrap_err();
    assert!(error.is_protocol() && error.to_string().contains("more than a number can hold"), "{error}");
}

#[test]
fn credit_for_requests_that_overflows_ends_the_connection() {
    let mut victim = victim(settings());
    let _stream = victim.caller.stream(1, true).now_or_never().unwrap().unwrap();
    let Some(Frame::Call { id, .. }) = victim.receive() else { panic!("no call") };
    assert!(victim.send(Frame::RequestCredit { id, requests: u32::MAX }));
    victim.run();
    assert!(victim.ended.is_none());
    assert!(victim.send(Frame::RequestCredit { id, requests: 1 }));
    victim.run();
    assert!(victim.ended.unwrap().unwrap_err().is_protocol());
}

/// Each item within the window is read, and the credit for the next ones is not waited for.
#[test]
fn items_that_come_before_their_credit_end_the_connection_and_hold_a_window_at_most() {
    let window = NonZeroU32::new(16).unwrap();
    let mut victim = victim(settings().window(window));
    let growth = Growth::start();
    let _stream = victim.caller.stream(1, false).now_or_never().unwrap().unwrap();
    let Some(Frame::Call { id, .. }) = victim.receive() else { panic!("no call") };
    let mut sent = 0;
    while victim.ended.is_none() && sent < 100 {
        assert!(victim.send(Frame::Item { id, answer: vec![7; 64 * KIB] }));
        victim.run();
        sent += 1;
    }
    println!("items beyond the credit: {sent} of 64 KiB, {} KiB at most", growth.peak() / KIB);
    assert_eq!(sent, 17);
    assert!(growth.peak() < 18 * 64 * KIB, "{}", growth.peak());
    assert!(victim.ended.unwrap().unwrap_err().is_protocol());
}

/// The limit of calls is that of this end, and a dropped call does not count.
#[tokio::test(start_paused = true)]
async fn calls_that_are_given_up_while_the_peer_reads_nothing_cost_no_memory() {
    let mut victim = victim(settings());
    for _ in 0..64 {
        victim.caller.notify(1).unwrap();
    }
    victim.run();
    let growth = Growth::start();
    let caller = victim.caller.clone().timeout(std::time::Duration::from_secs(60));
    for number in 0..100_000_u64 {
        assert!(caller.clone().oneshot(number).now_or_never().is_none());
        if number % 8192 == 0 {
            victim.run();
        }
    }
    println!("100,000 calls that were given up: {} KiB at most", growth.peak() / KIB);
    assert!(growth.peak() < 64 * KIB, "{}", growth.peak());
    assert_eq!(caller.in_flight(), 0);
    assert_eq!(victim.received().len(), 64);
}
