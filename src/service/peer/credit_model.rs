//! Every interleaving of two streams with little credit: opening, items, requests, credit, cancellation and the end, each
//! written, delivered and read at any time. The two ends are the real ones, without a transport between them.
//!
//! The search is exhaustive: a state is left by each step that it has, and two paths that lead to the same state count
//! as one. A state without a step is the end of both calls, or a deadlock.

use std::{
    collections::{HashSet, VecDeque},
    fmt::Write as _,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use futures_sink::Sink;
use tower_service::Service;

use super::{
    builder::PeerBuilder,
    caller::{CallStream, Caller},
    calls::Calls,
    frame::Frame,
    future::Guard,
    handler::{IncomingCall, Reply},
    incoming::{IncomingLimits, WhenNotificationsFull},
    protocol::Frames,
};
use crate::sync::Mutex;

type Wire = Frames<u8, u8, ()>;
type Sent = Frame<u8, u8, ()>;

/// The items of a stream of answers: as many as the test says, then the end.
struct Numbers {
    next: u8,
    end: u8,
}

impl Stream for Numbers {
    type Item = Result<u8, ()>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = (self.next < self.end).then_some(Ok(self.next));
        self.next += 1;
        Poll::Ready(item)
    }
}

/// How much a handler may read, and how much it has read.
#[derive(Debug, Default)]
struct Reading {
    allowed: u8,
    taken: u8,
    waker: Option<Waker>,
}

/// Answers with items, or reads requests as it is allowed to.
enum Handling {
    Items(u8),
    Requests(IncomingCall<u8>, Arc<Mutex<Reading>>),
}

impl Future for Handling {
    type Output = Result<Reply<u8, Numbers>, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Items(end) => Poll::Ready(Ok(Reply::Stream(Numbers { next: 0, end: *end }))),
            Self::Requests(call, reading) => loop {
                let mut state = reading.lock();
                if state.allowed == 0 {
                    state.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                drop(state);
                match Pin::new(&mut call.requests).poll_next(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(request))) => {
                        let mut state = reading.lock();
                        assert_eq!(request, state.taken, "a gap among the requests");
                        state.taken += 1;
                        state.allowed -= 1;
                    }
                    Poll::Ready(Some(Err(_))) => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(Ok(Reply::One(reading.lock().taken))),
                }
            },
        }
    }
}

struct Handler {
    items: u8,
    reading: [Arc<Mutex<Reading>>; 2],
}

impl Service<IncomingCall<u8>> for Handler {
    type Response = Reply<u8, Numbers>;
    type Error = ();
    type Future = Handling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: IncomingCall<u8>) -> Handling {
        match call.request {
            stream @ 0..2 => Handling::Requests(call, self.reading[usize::from(stream)].clone()),
            _ => Handling::Items(self.items),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Items,
    Requests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Open(usize),
    Send(usize),
    End(usize),
    Read(usize),
    /// The handler reads.
    Take(usize),
    Drop(usize),
    /// The caller's end writes a frame, or the other one does.
    Write(usize),
    /// A frame arrives there.
    Deliver(usize),
}

#[derive(Clone, Copy, Debug)]
struct Scenario {
    kinds: &'static [Kind],
    window: u32,
    items: u8,
}

/// One stream, as its caller sees it.
#[derive(Default)]
struct Called {
    stream: Option<CallStream<Wire>>,
    is_opened: bool,
    is_dropped: bool,
    is_over: bool,
    sent: u8,
    has_ended: bool,
    read: u8,
}

struct World {
    scenario: Scenario,
    caller: Caller<Wire>,
    /// The caller's end, and the other one.
    ends: [Calls<Wire, Handling, Numbers>; 2],
    _guards: [Guard<Wire>; 2],
    handler: Handler,
    called: [Called; 2],
    /// The frames on their way to each end.
    wires: [VecDeque<Sent>; 2],
    /// The frames that were written and delivered, by stream and kind: they determine the accounts of both ends.
    written: Vec<(u64, std::mem::Discriminant<Sent>)>,
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let window = NonZeroU32::new(scenario.window).unwrap();
        let limits = IncomingLimits {
            calls: 2,
            notifications: 0,
            when_full: WhenNotificationsFull::Close,
            window: scenario.window,
        };
        let (caller, near) = PeerBuilder::new(Wire::new()).window(window).caller();
        let (_, far) = PeerBuilder::new(Wire::new()).window(window).caller();
        Self {
            scenario,
            caller,
            ends: [Calls::new(limits, near.0.clone()), Calls::new(limits, far.0.clone())],
            _guards: [near, far],
            handler: Handler { items: scenario.items, reading: Default::default() },
            called: Default::default(),
            wires: Default::default(),
            written: Vec::new(),
        }
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Write(0), Step::Write(1), Step::Deliver(0), Step::Deliver(1)];
        for (at, kind) in self.scenario.kinds.iter().enumerate() {
            let called = &self.called[at];
            if !called.is_opened {
                steps.push(Step::Open(at));
                continue;
            }
            if called.is_dropped || called.is_over {
                continue;
            }
            steps.push(Step::Read(at));
            if *kind == Kind::Requests {
                steps.push(Step::Take(at));
                if called.sent < self.scenario.items {
                    steps.push(Step::Send(at));
                } else if !called.has_ended {
                    steps.push(Step::End(at));
                }
            }
            steps.push(Step::Drop(at));
        }
        steps
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Open(at) => {
                let has_more = self.scenario.kinds[at] == Kind::Requests;
                let request = at as u8 + if has_more { 0 } else { 2 };
                let mut caller = self.caller.clone();
                let opening = std::pin::pin!(caller.stream(request, has_more));
                let Poll::Ready(Ok(stream)) = opening.poll(&mut cx()) else { panic!("there is a place") };
                self.called[at].stream = Some(stream);
                self.called[at].is_opened = true;
            }
            Step::Send(at) => {
                let called = &mut self.called[at];
                let Some(stream) = &mut called.stream else { return };
                if let Poll::Ready(Ok(())) = Pin::new(&mut *stream).poll_ready(&mut cx()) {
                    Pin::new(stream).start_send(called.sent).unwrap();
                    called.sent += 1;
                }
            }
            Step::End(at) => {
                let called = &mut self.called[at];
                let Some(stream) = &mut called.stream else { return };
                let _ = Pin::new(stream).poll_close(&mut cx());
                called.has_ended = true;
            }
            Step::Read(at) => self.read(at),
            Step::Take(at) => {
                let mut state = self.handler.reading[at].lock();
                state.allowed = 1;
                let waker = state.waker.take();
                drop(state);
                waker.into_iter().for_each(Waker::wake);
            }
            Step::Drop(at) => {
                self.called[at].stream = None;
                self.called[at].is_dropped = true;
            }
            Step::Write(end) => {
                if self.ends[end].has_frame()
                    && let Some(frame) = self.ends[end].next_frame()
                    // The wire leaves it out.
                    && !matches!(frame, Frame::Accepted { .. })
                {
                    self.written.push((number(&frame), std::mem::discriminant(&frame)));
                    self.wires[1 - end].push_back(frame);
                }
            }
            Step::Deliver(end) => {
                if let Some(frame) = self.wires[end].pop_front() {
                    self.ends[end].take(frame, false).expect("an end that keeps the rules is told that it breaks them");
                }
            }
        }
        // Handlers run at once; the second time is for what the first one has woken.
        for _ in 0..2 {
            self.ends[1].poll_handlers(&mut self.handler, &mut cx()).unwrap();
        }
    }

    fn read(&mut self, at: usize) {
        let kind = self.scenario.kinds[at];
        let called = &mut self.called[at];
        let Some(stream) = &mut called.stream else { return };
        match Pin::new(stream).poll_next(&mut cx()) {
            Poll::Pending => {}
            Poll::Ready(Some(item)) => {
                let expected = if kind == Kind::Items { called.read } else { self.scenario.items };
                assert_eq!(item.unwrap(), expected, "a gap among the answers");
                called.read += 1;
                called.is_over = kind == Kind::Requests;
            }
            Poll::Ready(None) => {
                assert_eq!(called.read, self.scenario.items, "answers are missing");
                called.is_over = true;
            }
        }
        if called.is_over {
            called.stream = None;
        }
    }

    /// No more is held than the window allows.
    fn check(&self) {
        let count = |at: usize, kind: &Sent| {
            let wanted = std::mem::discriminant(kind);
            let number = self.called[at].stream.as_ref().map_or(0, |stream| stream.number());
            let written = self.written.iter().filter(|written| **written == (number, wanted)).count();
            let here = |frame: &&Sent| std::mem::discriminant(*frame) == wanted && self::number(frame) == number;
            written - self.wires.iter().flatten().filter(here).count()
        };
        for (at, called) in self.called.iter().enumerate().filter(|(_, called)| called.stream.is_some()) {
            let window = self.scenario.window as usize;
            let items = count(at, &Frame::Item { id: 0, answer: 0 });
            assert!(items <= usize::from(called.read) + window, "more answers are held than the window allows");
            let requests = count(at, &Frame::Request { id: 0, request: 0 });
            let taken = usize::from(self.handler.reading[at].lock().taken);
            assert!(requests <= taken + window, "more requests are held than the window allows");
        }
    }

    fn is_complete(&self) -> bool {
        let all = self.called.iter().take(self.scenario.kinds.len());
        all.into_iter().all(|called| called.is_opened && (called.is_over || called.is_dropped))
            && self.caller.in_flight() == 0
            && self.ends[1].incoming() == 0
            && self.wires.iter().all(VecDeque::is_empty)
    }

    /// Everything that the next steps depend on.
    fn key(&self) -> u64 {
        let mut text = String::new();
        for (at, called) in self.called.iter().enumerate() {
            let Called { stream: _, is_opened, is_dropped, is_over, sent, has_ended, read } = called;
            let reading = self.handler.reading[at].lock();
            let _ = write!(
                text,
                "{is_opened} {is_dropped} {is_over} {sent} {has_ended} {read} {} {} ",
                reading.allowed, reading.taken
            );
        }
        let _ = write!(text, "{:?} {:?}", self.wires, self.ends.each_ref().map(Calls::order));
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        // In any order: how many of each were written.
        let hash = |written: &(u64, std::mem::Discriminant<Sent>)| {
            let mut hasher = DefaultHasher::new();
            written.hash(&mut hasher);
            hasher.finish()
        };
        self.written.iter().map(hash).fold(0_u64, u64::wrapping_add).hash(&mut hasher);
        hasher.finish()
    }
}

/// The number of a frame's call.
fn number(frame: &Sent) -> u64 {
    match frame {
        Frame::Call { id, .. }
        | Frame::Request { id, .. }
        | Frame::RequestsEnd { id }
        | Frame::RequestCredit { id, .. }
        | Frame::Accepted { id }
        | Frame::Item { id, .. }
        | Frame::AnswerCredit { id, .. }
        | Frame::Answer { id, .. }
        | Frame::Failure { id, .. }
        | Frame::Rejected { id, .. }
        | Frame::Cancel { id } => *id,
        Frame::Notification { .. } => 0,
    }
}

fn replay(scenario: Scenario, path: &[Step]) -> World {
    let mut world = World::new(scenario);
    path.iter().for_each(|step| world.run(*step));
    world
}

/// Visits every state. Returns how many there are.
fn explore(scenario: Scenario) -> usize {
    let mut seen = HashSet::new();
    let mut paths = vec![Vec::new()];
    while let Some(path) = paths.pop() {
        let world = replay(scenario, &path);
        let key = world.key();
        if !seen.insert(key) {
            continue;
        }
        let mut goes_on = false;
        for step in world.steps() {
            let mut next = path.clone();
            next.push(step);
            let world = replay(scenario, &next);
            world.check();
            let after = world.key();
            // A caller that gives up does not excuse a deadlock.
            goes_on |= after != key && !matches!(step, Step::Drop(_));
            if !seen.contains(&after) {
                paths.push(next);
            }
        }
        assert!(goes_on || world.is_complete(), "a deadlock after {path:?}");
    }
    seen.len()
}

#[test]
fn one_stream_of_either_kind_ends_in_every_order_of_its_steps() {
    for kinds in [&[Kind::Items][..], &[Kind::Requests]] {
        for window in 1..=3 {
            let states = explore(Scenario { kinds, window, items: 4 });
            println!("{kinds:?}, window {window}: {states} states");
            assert!(states > 100);
        }
    }
}

#[test]
fn two_streams_neither_starve_nor_overrun_each_other_in_any_order_of_their_steps() {
    for kinds in [&[Kind::Items, Kind::Requests][..], &[Kind::Items; 2]] {
        let states = explore(Scenario { kinds, window: 1, items: 2 });
        println!("{kinds:?}: {states} states");
        assert!(states > 1000);
    }
}
