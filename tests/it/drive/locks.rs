//! Nothing of the user's runs under a lock of the queue: drops, functions and wakers that look at the very queue they
//! are in.

use std::{
    sync::{Arc, OnceLock, mpsc},
    task::{Wake, Waker},
    time::Duration,
};

use futures_util::FutureExt;

use super::*;

/// A job that reports to its own sender when it is dropped.
struct Job {
    key: u32,
    sender: Arc<OnceLock<Sender<Job>>>,
}

impl Drop for Job {
    fn drop(&mut self) {
        look(&self.sender);
    }
}

fn look(sender: &OnceLock<Sender<Job>>) {
    if let Some(sender) = sender.get() {
        let _ = (sender.queued(), sender.queued_bytes(), sender.dropped(), sender.is_closed());
    }
}

fn size(job: &Job) -> usize {
    look(&job.sender);
    size_of::<Job>()
}

/// Wakes, and is dropped, with a look at the queue.
struct Looking(Arc<OnceLock<Sender<Job>>>);

impl Wake for Looking {
    fn wake(self: Arc<Self>) {
        look(&self.0);
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        look(&self.0);
    }
}

/// Fails if it takes forever.
fn in_time(work: impl FnOnce() + std::marker::Send + 'static) {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("a deadlock, or a panic");
}

/// Fills a queue of this policy, drives it a little, closes it, with jobs and wakers that look at it.
fn all_ways(policy: WhenFull<Job>) {
    let slot = Arc::new(OnceLock::new());
    let job = |key| Job { key, sender: slot.clone() };
    let waker = || Waker::from(Arc::new(Looking(slot.clone())));
    let (here, mut there) = channel::<Job, Job>(1);
    let queue = QueueConfig::values_sized_by(size, size).max_messages(NonZeroUsize::new(2).unwrap()).when_full(policy);
    let (sender, mut receiver, mut driver) = here.drive(queue).into_parts();
    let _ = slot.set(sender.clone());

    let mut waiting = Vec::new();
    for key in [0, 1, 2, 2, 3, 4] {
        let mut send = Box::pin(sender.send(job(key)));
        // By one waker after the other, so that the first is replaced.
        for _ in 0..2 {
            if send.poll_unpin(&mut Context::from_waker(&waker())).is_ready() {
                break;
            }
        }
        waiting.push(send);
        let _ = driver.poll_unpin(&mut Context::from_waker(&waker()));
    }
    let _ = there.send_message(job(5)).now_or_never();
    for _ in 0..2 {
        let _ = receiver.receive().poll_unpin_once(&waker());
        let mut flush = sender.clone();
        let mut flush = Box::pin(flush.flush());
        let _ = flush.poll_unpin(&mut Context::from_waker(&waker()));
        let _ = there.receive_message().now_or_never();
        let _ = driver.poll_unpin(&mut Context::from_waker(&waker()));
        let mut closed = Box::pin(sender.closed());
        let _ = closed.poll_unpin(&mut Context::from_waker(&waker()));
    }
    let _ = there.send_message(job(6)).now_or_never();
    let _ = driver.poll_unpin(&mut Context::from_waker(&waker()));
    drop(receiver);
    let _ = there.send_message(job(7)).now_or_never();
    let _ = driver.poll_unpin(&mut Context::from_waker(&waker()));
    let _ = sender.try_send(job(8));
    drop(sender.close(CloseFrame::new(CloseCode::AWAY, "")));
    drop(waiting);
    drop(driver);
    assert!(sender.is_closed());
}

trait PollOnce {
    fn poll_unpin_once(self, waker: &Waker) -> bool;
}

impl<F: Future> PollOnce for F {
    fn poll_unpin_once(self, waker: &Waker) -> bool {
        pin!(self).poll(&mut Context::from_waker(waker)).is_ready()
    }
}

#[test]
fn what_looks_at_its_own_queue_does_not_deadlock_when_senders_wait() {
    in_time(|| all_ways(WhenFull::Block));
}

#[test]
fn what_looks_at_its_own_queue_does_not_deadlock_when_the_oldest_is_dropped() {
    in_time(|| all_ways(WhenFull::DropOldest));
}

#[test]
fn what_looks_at_its_own_queue_does_not_deadlock_when_the_newest_is_dropped() {
    in_time(|| all_ways(WhenFull::DropNewest));
}

#[test]
fn what_looks_at_its_own_queue_does_not_deadlock_when_a_full_one_closes() {
    in_time(|| all_ways(WhenFull::Close(CloseCode::TRY_AGAIN)));
}

#[test]
fn what_looks_at_its_own_queue_does_not_deadlock_when_a_newer_one_takes_its_place() {
    in_time(|| {
        all_ways(WhenFull::coalesce_by(|job: &Job| {
            look(&job.sender);
            Some(job.key)
        }));
    });
}
