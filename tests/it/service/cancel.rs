//! Callers that come, are polled only when they are woken, and go at any moment. Those that stay get their own answers.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc, task::Waker};

use tower::Service;
use tower_transport::{
    Channel, Error, Transport, channel,
    service::{ByTag, Call, Client, Correlate, InOrder, Tagged},
    test_util::WakeCount,
};

use crate::service::support::{Buffered, Random, poll, poll_ready, receive, try_send};

const CALLERS: usize = 64;

/// One caller: it waits for a place, calls, and waits for the answer.
struct Caller<T, C> {
    client: Client<T, u32, u32, C>,
    call: Option<Call<T, u32, u32, C>>,
    number: u32,
    task: Arc<WakeCount>,
    waker: Waker,
}

impl<T, C> Caller<T, C>
where
    C: Correlate<u32, u32>,
    T: Transport<C::Out, In = C::In>,
{
    /// Whether it is done.
    fn poll(&mut self) -> bool {
        if self.call.is_none() {
            if poll_ready(&mut self.client, &self.waker).is_pending() {
                return false;
            }
            self.call = Some(self.client.call(self.number));
        }
        match poll(self.call.as_mut().unwrap(), &self.waker) {
            std::task::Poll::Pending => false,
            std::task::Poll::Ready(answer) => {
                assert_eq!(answer.unwrap(), self.number + 1_000_000);
                true
            }
        }
    }
}

/// The other end: it reads when it likes and answers when it likes.
trait Peer {
    fn step(&mut self, random: &mut Random) -> bool;
}

struct Answering<M> {
    end: Channel<M, M>,
    held: VecDeque<M>,
    answer: fn(M) -> M,
    shuffles: bool,
}

impl<M: Clone> Peer for Answering<M> {
    /// Reads or answers one; whether there was anything to do.
    fn step(&mut self, random: &mut Random) -> bool {
        let request = if random.below(2) == 0 || self.held.is_empty() { receive(&mut self.end) } else { None };
        if let Some(request) = request {
            self.held.push_back(request);
            return true;
        }
        let index = if self.shuffles && !self.held.is_empty() { random.below(self.held.len()) } else { 0 };
        let Some(request) = self.held.get(index).cloned() else { return false };
        let sent = try_send(&mut self.end, (self.answer)(request)).is_ok();
        if sent {
            self.held.remove(index);
        }
        sent
    }
}

/// Plays one game to its end: no caller that stays may be left waiting, whichever others have gone, and whenever.
fn play<T, C>(client: Client<T, u32, u32, C>, mut peer: impl Peer, random: &mut Random, driven: bool)
where
    C: Correlate<u32, u32>,
    T: Transport<C::Out, In = C::In>,
{
    let mut callers: Vec<Caller<T, C>> = Vec::new();
    let (driver_task, driver_waker) = WakeCount::new();
    let mut driver = driven.then(|| client.drive());
    if let Some(driver) = &mut driver {
        assert!(poll(driver, &driver_waker).is_pending());
    }
    let mut started = 0;
    let mut finished = 0;
    let mut idle = 0;
    while idle < 200 || started < CALLERS {
        idle += 1;
        match random.below(10) {
            // Somebody comes.
            0 if started < CALLERS => {
                let (task, waker) = WakeCount::new();
                let client = client.clone();
                let mut caller = Caller { client, call: None, number: started as u32, task, waker };
                started += 1;
                idle = 0;
                if caller.poll() {
                    finished += 1;
                } else {
                    callers.push(caller);
                }
            }
            // Somebody goes, woken or not, before its request is out or after.
            1 if callers.len() > 1 && random.below(3) == 0 => {
                callers.swap_remove(random.below(callers.len()));
            }
            // Somebody moves to another task.
            2 if !callers.is_empty() && random.below(3) == 0 && idle < 100 => {
                let index = random.below(callers.len());
                (callers[index].task, callers[index].waker) = WakeCount::new();
                if callers[index].poll() {
                    finished += 1;
                    callers.swap_remove(index);
                }
            }
            3..5 => idle *= usize::from(!peer.step(random)),
            // The driver is lazy, or goes.
            5 => {
                if let Some(future) = &mut driver {
                    if random.below(40) == 0 && started < CALLERS {
                        driver = None;
                    } else if driver_task.take() > 0 {
                        idle = 0;
                        assert!(poll(future, &driver_waker).is_pending());
                    }
                }
            }
            // Somebody who was woken is polled.
            _ if !callers.is_empty() => {
                let from = random.below(callers.len());
                let woken = (0..callers.len()).map(|step| (from + step) % callers.len());
                if let Some(index) = woken.into_iter().find(|index| callers[*index].task.take() > 0) {
                    idle = 0;
                    if callers[index].poll() {
                        finished += 1;
                        callers.swap_remove(index);
                    }
                }
            }
            _ => {}
        }
    }
    assert!(callers.is_empty(), "{} callers of {started} wait forever, {finished} have their answers", callers.len());
    assert_eq!(client.in_flight(), 0);
}

fn limit(random: &mut Random) -> NonZeroUsize {
    NonZeroUsize::new([1, 2, 3, 8, 64][random.below(5)]).unwrap()
}

fn capacity(random: &mut Random) -> usize {
    [1, 2, 7, 64][random.below(4)]
}

fn in_order_game(seed: u64, driven: bool) {
    let random = &mut Random::new(seed);
    let (here, end) = channel::<u32, u32>(capacity(random));
    let transport = Buffered::with_room(here, capacity(random));
    let client = Client::with_max_in_flight(transport, InOrder, limit(random));
    let peer = Answering { end, held: VecDeque::new(), answer: |number| number + 1_000_000, shuffles: false };
    play(client, peer, random, driven);
}

fn by_tag_game(seed: u64, driven: bool) {
    let random = &mut Random::new(seed);
    let (here, end) = channel::<Tagged<u32>, Tagged<u32>>(capacity(random));
    let transport = Buffered::with_room(here, capacity(random));
    let client = Client::with_max_in_flight(transport, ByTag, limit(random));
    let answer = |Tagged { tag, value }| Tagged { tag, value: value + 1_000_000 };
    play(client, Answering { end, held: VecDeque::new(), answer, shuffles: true }, random, driven);
}

#[test]
fn in_order_whoever_stays_is_answered_whoever_else_goes() {
    (0..1500).for_each(|seed| in_order_game(seed, false));
}

#[test]
fn by_tag_whoever_stays_is_answered_whoever_else_goes() {
    (0..1500).for_each(|seed| by_tag_game(seed, false));
}

#[test]
fn with_a_driver_whoever_stays_is_answered_whoever_else_goes() {
    (0..700).for_each(|seed| in_order_game(seed, true));
    (0..700).for_each(|seed| by_tag_game(seed, true));
}

/// Each call of a row is dropped after each number of polls that it can have; the others must not notice.
#[test]
fn a_call_may_be_dropped_after_any_of_its_polls() {
    for victim in 0..4 {
        for polls in 0..4 {
            let (here, end) = channel::<u32, u32>(2);
            let mut end = Some(end);
            let mut client = Client::in_order(here);
            let mut calls: Vec<_> = (0..4)
                .map(|number| {
                    assert!(poll_ready(&mut client, Waker::noop()).is_ready());
                    let (task, waker) = WakeCount::new();
                    (Some(client.call(number)), number, task, waker)
                })
                .collect();
            let mut had = 0;
            let mut answers = Vec::new();
            for round in 0..40 {
                for (index, (slot, number, task, waker)) in calls.iter_mut().enumerate() {
                    if index == victim && had == polls {
                        *slot = None;
                    }
                    let Some(future) = slot.as_mut().filter(|_| round == 0 || task.take() > 0) else { continue };
                    had += usize::from(index == victim);
                    if let std::task::Poll::Ready(answer) = poll(future, waker) {
                        answers.push((*number, answer.unwrap()));
                        *slot = None;
                    }
                }
                if let Some(number) = end.as_mut().and_then(receive) {
                    try_send(end.as_mut().unwrap(), number * 10).unwrap();
                }
            }
            answers.sort_unstable();
            let expected: Vec<_> = (0..4).map(|number| (number, number * 10)).collect();
            let stayed = |pair: &&(u32, u32)| pair.0 as usize != victim;
            let others: Vec<_> = answers.iter().filter(stayed).collect();
            assert_eq!(
                others,
                expected.iter().filter(stayed).collect::<Vec<_>>(),
                "victim {victim} after {polls} polls"
            );
            drop(end.take());
            assert!(matches!(poll(&mut client.call(9), Waker::noop()), std::task::Poll::Ready(Err::<u32, Error>(_))));
        }
    }
}
