//! Clients whose tasks run on several threads, in random orders of their steps. A lost wake-up is a deadlock.
//!
//! `SCHEDULES` is the number of orders that each test tries. `CALLERS`, `TURNS`, `LIMIT` and `CAPACITY` make a failing
//! scenario smaller.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use shuttle::{
    Config, MaxSteps, Runner, future,
    rand::Rng,
    scheduler::{PctScheduler, RandomScheduler},
};
use tower_service::Service;

use super::{ByTag, Client, Correlate, InOrder, Tagged};
use crate::{Channel, Error, channel};

/// A transport that keeps what was fed until it is flushed.
struct Buffered<M> {
    channel: Channel<M, M>,
    fed: VecDeque<M>,
}

impl<M: Unpin> Stream for Buffered<M> {
    type Item = Result<M, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.channel).poll_next(cx)
    }
}

impl<M: Unpin> Sink<M> for Buffered<M> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.fed.len() < 8 { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Error> {
        self.fed.push_back(message);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        while !this.fed.is_empty() {
            ready!(Pin::new(&mut this.channel).poll_ready(cx))?;
            if let Some(message) = this.fed.pop_front() {
                Pin::new(&mut this.channel).start_send(message)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.channel).poll_close(cx)
    }
}

fn below(bound: usize) -> usize {
    shuttle::rand::thread_rng().gen_range(0..bound)
}

fn setting(name: &str, default: impl FnOnce() -> usize) -> usize {
    std::env::var(name).map_or_else(|_| default(), |value| value.parse().unwrap())
}

/// Polls a future at most this often.
async fn at_most<F: Future + Unpin>(polls: usize, future: &mut F) -> Option<F::Output> {
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        Pin::new(&mut *future).poll(cx).map(Some)
    })
    .await
}

/// Answers every request, several at a time or one by one, and by tag in any order.
async fn peer<M: Unpin>(mut end: Channel<M, M>, in_order: bool, answer: fn(M) -> M) {
    let mut unanswered = VecDeque::new();
    let mut has_ended = false;
    poll_fn(|cx| {
        loop {
            let mut is_idle = true;
            while !has_ended && (unanswered.is_empty() || below(2) == 0) {
                match Pin::new(&mut end).poll_next(cx) {
                    Poll::Ready(Some(request)) => unanswered.push_back(request.unwrap()),
                    Poll::Ready(None) => has_ended = true,
                    Poll::Pending => break,
                }
                is_idle = false;
            }
            if has_ended && unanswered.is_empty() {
                return Poll::Ready(());
            }
            if !unanswered.is_empty() && Pin::new(&mut end).poll_ready(cx).is_ready() {
                let next = if in_order { 0 } else { below(unanswered.len()) };
                let request = unanswered.remove(next).unwrap();
                if Pin::new(&mut end).start_send(answer(request)).is_err() {
                    (has_ended, unanswered) = (true, VecDeque::new());
                }
                is_idle = false;
            }
            // Both directions have the waker.
            if is_idle
                && (has_ended
                    || Pin::new(&mut end)
                        .poll_next(cx)
                        .map(|request| match request {
                            Some(request) => unanswered.push_back(request.unwrap()),
                            None => has_ended = true,
                        })
                        .is_pending())
            {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Calls `turns` times. Some calls are dropped early, and so are some handles in line.
async fn caller<C, M>(mut client: Client<Buffered<M>, u32, u32, C>, first: u32, turns: usize)
where
    M: Unpin,
    C: Correlate<u32, u32, Out = M, In = M>,
{
    for number in (first..).take(turns) {
        if below(4) == 0 {
            let mut other = client.clone();
            at_most(below(3), &mut poll_fn(|cx| other.poll_ready(cx))).await;
        }
        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
        let polls = if below(4) == 0 { below(3) } else { usize::MAX };
        if let Some(answer) = at_most(polls, &mut client.call(number)).await {
            assert_eq!(answer.unwrap(), number + 1_000_000);
        }
    }
}

/// Calls `turns` times, each time after a few polls of a driver. `select!` keeps the driver so.
async fn keeper<C, M>(mut client: Client<Buffered<M>, u32, u32, C>, first: u32, turns: usize)
where
    M: Unpin,
    C: Correlate<u32, u32, Out = M, In = M>,
{
    let mut driver = client.drive();
    for number in (first..).take(turns) {
        for _ in 0..below(3) {
            poll_fn(|cx| Poll::Ready(assert!(Pin::new(&mut driver).poll(cx).is_pending()))).await;
            future::yield_now().await;
        }
        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
        assert_eq!(client.call(number).await.unwrap(), number + 1_000_000);
    }
}

fn scenario<C, M>(correlate: C, answer: fn(M) -> M)
where
    M: Send + Unpin + 'static,
    C: Correlate<u32, u32, Out = M, In = M> + Send + 'static,
{
    let (callers, turns) = (setting("CALLERS", || 2 + below(3)), setting("TURNS", || 1 + below(4)));
    let limit = NonZeroUsize::new(setting("LIMIT", || 1 + below(4))).unwrap();
    let (here, there) = channel::<M, M>(setting("CAPACITY", || 1 + below(3)));
    let transport = Buffered { channel: here, fed: VecDeque::new() };
    let client = Client::with_max_in_flight(transport, correlate, limit);
    let mut tasks = vec![future::spawn(peer(there, C::IN_ORDER, answer))];
    let first = |task: usize| u32::try_from(100 * task).unwrap();
    tasks.extend((0..callers).map(|task| future::spawn(caller(client.clone(), first(task), turns))));
    if below(2) == 0 {
        tasks.push(future::spawn(keeper(client.clone(), first(callers), turns)));
    }
    let mut driver = client.drive();
    match below(3) {
        0 => tasks.push(future::spawn(async move { driver.await.unwrap() })),
        1 => tasks.push(future::spawn(async move { drop(at_most(below(5), &mut driver).await) })),
        _ => drop(driver),
    }
    drop(client);
    future::block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Runs a scenario in random orders, and in orders with few but badly placed switches.
fn search(scenario: fn()) {
    let schedules = setting("SCHEDULES", || 10_000);
    let config = || {
        let mut config = Config::new();
        config.max_steps = MaxSteps::FailAfter(1_000_000);
        config
    };
    Runner::new(RandomScheduler::new(schedules), config()).run(scenario);
    Runner::new(PctScheduler::new(4, schedules), config()).run(scenario);
}

#[test]
fn in_order_no_task_waits_forever() {
    search(|| scenario(InOrder, |number| number + 1_000_000));
}

#[test]
fn by_tag_no_task_waits_forever() {
    search(|| scenario(ByTag, |Tagged { tag, value }| Tagged { tag, value: value + 1_000_000 }));
}
