//! A client whose callers come, are polled, are kept unpolled, and go in any order, with and without a driver. As long
//! as anybody is polled, every caller that is polled when it is woken gets its own answer, or the error of a lost
//! connection.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::Arc,
    task::{Poll, Waker},
};

use proptest::{
    collection::vec,
    prelude::{ProptestConfig, any, proptest},
    sample::select,
};
use tower::Service;
use tower_transport::{
    Channel, Transport, channel,
    service::{ByTag, Call, Client, Correlate, Drive, InOrder, Tagged},
    test_util::WakeCount,
};

use crate::service::support::{Buffered, Control, poll, poll_ready, receive, try_send};

/// A future, and whether its owner polls it when it is woken.
struct Task<F> {
    future: F,
    woken: Arc<WakeCount>,
    waker: Waker,
    is_kept: bool,
}

impl<F> Task<F> {
    fn new(future: F) -> Self {
        let (woken, waker) = WakeCount::new();
        Self { future, woken, waker, is_kept: false }
    }

    fn is_due(&self) -> bool {
        !self.is_kept && self.woken.take() > 0
    }
}

/// Waits for a place, calls, and waits for the answer.
struct Caller<T, C> {
    client: Client<T, u32, u32, C>,
    call: Option<Call<T, u32, u32, C>>,
    number: u32,
}

struct Game<T, M, C> {
    client: Client<T, u32, u32, C>,
    limit: usize,
    callers: Vec<Task<Caller<T, C>>>,
    driver: Option<Task<Drive<T, u32, u32, C>>>,
    came: u32,
    /// The other end, until it is cut, and the requests that it has not answered.
    end: Option<Channel<M, M>>,
    unanswered: VecDeque<M>,
    answer: fn(M) -> M,
    /// An answer that no call waits for, if the client can tell.
    late: Option<M>,
    control: Arc<Control>,
    /// Whether calls may fail.
    has_lost: bool,
}

impl<T, M: Clone, C> Game<T, M, C>
where
    C: Correlate<u32, u32>,
    T: Transport<C::Out, In = C::In>,
{
    /// Polls a caller, which leaves when it is done.
    fn poll(&mut self, index: usize) -> bool {
        let Task { future: Caller { client, call, number }, woken, waker, is_kept } = &mut self.callers[index];
        *is_kept = false;
        woken.take();
        if call.is_none() {
            match poll_ready(client, waker) {
                Poll::Pending => return false,
                Poll::Ready(Err(error)) => {
                    assert!(self.has_lost, "{error}");
                    self.callers.swap_remove(index);
                    return true;
                }
                Poll::Ready(Ok(())) => *call = Some(client.call(*number)),
            }
        }
        let Poll::Ready(answer) = poll(call.as_mut().unwrap(), waker) else { return false };
        match answer {
            Ok(answer) => assert_eq!(answer, *number + 1_000_000, "the answer of another call"),
            Err(error) => assert!(self.has_lost, "{error}"),
        }
        self.callers.swap_remove(index);
        true
    }

    fn poll_driver(&mut self) {
        let Some(Task { future, woken, waker, is_kept }) = &mut self.driver else { return };
        *is_kept = false;
        woken.take();
        if let Poll::Ready(ended) = poll(future, waker) {
            assert!(self.has_lost, "{ended:?}");
            self.driver = None;
        }
    }

    fn find(&self, from: usize, fits: impl Fn(&Task<Caller<T, C>>) -> bool) -> Option<usize> {
        let count = self.callers.len();
        (0..count).map(|step| (from + step) % count).find(|index| fits(&self.callers[*index]))
    }

    /// The peer reads or answers one message. Returns whether there was one.
    fn peer(&mut self, which: usize) -> bool {
        let Some(end) = &mut self.end else { return false };
        if let Some(request) = receive(end) {
            self.unanswered.push_back(request);
            return true;
        }
        let index = if C::IN_ORDER { 0 } else { which % self.unanswered.len().max(1) };
        let Some(request) = self.unanswered.get(index).cloned() else { return false };
        let is_sent = try_send(end, (self.answer)(request)).is_ok();
        if is_sent {
            self.unanswered.remove(index);
        }
        is_sent
    }

    /// A caller comes, and is polled for the first time.
    fn come(&mut self) {
        let caller = Caller { client: self.client.clone(), call: None, number: self.came };
        self.came += 1;
        self.callers.push(Task::new(caller));
        self.poll(self.callers.len() - 1);
    }

    fn step(&mut self, what: u8, which: usize) {
        match what % 16 {
            0..=3 => self.come(),
            4..=6 => {
                if let Some(index) = self.find(which, Task::is_due) {
                    self.poll(index);
                }
            }
            7 => {
                if let Some(index) = self.find(which, |_| true) {
                    self.poll(index);
                }
            }
            8 | 9 => {
                if let Some(index) = self.find(which, |task| !task.is_kept) {
                    self.callers[index].is_kept = true;
                }
            }
            10 => {
                if let Some(index) = self.find(which, |_| true) {
                    self.callers.swap_remove(index);
                }
            }
            11 | 12 => _ = self.peer(which),
            13 if which.is_multiple_of(2) => {
                if let (Some(end), Some(late)) = (&mut self.end, &self.late) {
                    let _ = try_send(end, late.clone());
                }
            }
            13 if self.driver.as_ref().is_some_and(Task::is_due) => self.poll_driver(),
            14 => match &mut self.driver {
                None => {
                    self.driver = Some(Task::new(self.client.drive()));
                    self.poll_driver();
                }
                Some(_) if which.is_multiple_of(3) => self.driver = None,
                Some(driver) => driver.is_kept = true,
            },
            // Rare, because little happens afterwards.
            15 if which.is_multiple_of(32) => {
                self.has_lost = true;
                self.end = None;
            }
            15 if which % 32 < 4 => {
                self.has_lost = true;
                self.unanswered.clear();
                while self.end.as_mut().is_some_and(|end| receive(end).is_some()) {}
                self.control.lose();
            }
            _ => {}
        }
    }

    /// Runs everything that can run.
    fn run(&mut self) {
        loop {
            let mut is_idle = !self.peer(0);
            if let Some(index) = self.find(0, Task::is_due) {
                self.poll(index);
                is_idle = false;
            }
            if self.driver.as_ref().is_some_and(Task::is_due) {
                self.poll_driver();
                is_idle = false;
            }
            if is_idle {
                return;
            }
        }
    }

    /// Ends the game: nobody who is polled may wait forever.
    fn finish(mut self, anchor: usize) {
        // Places that are kept are no fault of the client.
        while self.callers.iter().filter(|task| task.is_kept && task.future.call.is_some()).count() >= self.limit {
            let index = self.find(anchor, |task| task.is_kept && task.future.call.is_some()).unwrap();
            self.callers.swap_remove(index);
        }
        // A handle that is kept in line holds up nobody. The next task that is polled takes over the work of a
        // kept call or driver.
        let kept = self.callers.iter().filter(|task| task.is_kept && task.future.call.is_some()).count();
        let is_driver_kept = self.driver.as_ref().is_some_and(|driver| driver.is_kept);
        let enough = kept + usize::from(is_driver_kept);
        let mut polls = 0;
        loop {
            self.run();
            let Some(index) = self.find(anchor, |task| !task.is_kept) else { return };
            let waiting = self.callers.iter().filter(|task| !task.is_kept).count();
            assert!(polls < enough, "{waiting} callers wait forever after {polls} polls; {kept} calls are kept");
            polls += 1;
            match self.driver.as_ref().is_some_and(|driver| !driver.is_kept) && anchor.is_multiple_of(2) {
                true => self.poll_driver(),
                // A call that is kept may be the one to flush. A new one cannot tell whether it is about to come.
                false if kept == 0 && anchor.is_multiple_of(3) => self.come(),
                // Always the same one.
                false => _ = self.poll(index),
            }
        }
    }
}

/// The other end: the number of messages that fit in the channel, and how the peer answers.
struct Peer<M> {
    capacity: usize,
    answer: fn(M) -> M,
    late: Option<M>,
}

fn play<M, C>(correlate: C, limit: usize, peer: Peer<M>, steps: Vec<(u8, usize)>, anchor: usize)
where
    M: Clone + Unpin,
    C: Correlate<u32, u32, Out = M, In = M>,
{
    let Peer { capacity, answer, late } = peer;
    let (here, end) = channel::<M, M>(capacity);
    let (transport, control) = Buffered::new(here);
    let client = Client::with_max_in_flight(transport, correlate, NonZeroUsize::new(limit).unwrap());
    let mut game = Game {
        client,
        limit,
        callers: Vec::new(),
        driver: None,
        came: 0,
        end: Some(end),
        unanswered: VecDeque::new(),
        answer,
        late,
        control,
        has_lost: false,
    };
    steps.into_iter().for_each(|(what, which)| game.step(what, which));
    game.finish(anchor);
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn in_order_nobody_who_is_polled_waits_forever_or_gets_the_answer_of_another(
        limit in select(&[1_usize, 2, 3, 8][..]),
        capacity in select(&[1_usize, 2, 64][..]),
        steps in vec((any::<u8>(), any::<usize>()), 0..150),
        anchor in any::<usize>(),
    ) {
        let peer = Peer { capacity, answer: |number| number + 1_000_000, late: None };
        play(InOrder, limit, peer, steps, anchor);
    }

    #[test]
    fn by_tag_nobody_who_is_polled_waits_forever_or_gets_the_answer_of_another(
        limit in select(&[1_usize, 2, 3, 8][..]),
        capacity in select(&[1_usize, 2, 64][..]),
        steps in vec((any::<u8>(), any::<usize>()), 0..150),
        anchor in any::<usize>(),
    ) {
        let answer = |Tagged { tag, value }| Tagged { tag, value: value + 1_000_000 };
        let peer = Peer { capacity, answer, late: Some(Tagged { tag: u64::MAX, value: 0 }) };
        play(ByTag, limit, peer, steps, anchor);
    }
}
