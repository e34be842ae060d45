//! The work on a client's transport, which is done without the lock.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{
    correlate::Correlate,
    exchange::{Flush, Life, Task},
    shared_exchange::{ClientState, Io, SharedExchange, Want},
};
use crate::{Error, Transport, transport::signal::Mark};

/// The number of answers that one poll delivers before it lets other tasks run.
const BUDGET: usize = 128;

/// The number of answers that are read before they are delivered under one lock.
const BATCH: usize = 16;

/// The transport in the hands of the task that uses it.
///
/// The task works in rounds. Before each, it looks at the state under the lock: [`report`](Self::report) tells what the
/// last round did, and [`plan`](Self::plan) says what the next one does. After the last, it puts the transport back.
///
/// # Flushing
///
/// | `is_dirty` | [`Flush`] | who flushes |
/// |---|---|---|
/// | no | `AtOnce` | nobody: nothing was fed |
/// | yes | `AtOnce` | this round, unless the transport was pending; then the leader, which it wakes |
/// | yes | promised | the call that has promised, when it is polled again. Calls that run before then share its flush |
/// | no | promised | nobody: another call has flushed meanwhile, or the transport did |
///
/// The second call in flight makes such a promise, once the transport has accepted its request (`may_promise`, then
/// `has_promised`). After answers that came several at a time (`is_bursty`), the first one does, too. A call that is
/// dropped passes its promise to the leader (`must_poll`), and so does one that does not come ([`Exchange::check`]). A
/// flush that was begun goes on regardless (`is_flushing`), and a task that writes for others flushes for them.
///
/// [`Exchange::check`]: super::exchange::Exchange::check
pub(super) struct Held<'a, T, Req, Res, C> {
    shared: &'a SharedExchange<T, Req, Res, C>,
    /// `None` once it is put back.
    io: Option<Pin<Box<Io<T, Res, C>>>>,
    /// The task, until it is done. The key of a call that is done may be another call's by now.
    me: Option<Task>,
    /// The oldest request that is not sent, with its call's key and tag. It counts as sent until it is put back.
    in_hand: Option<(usize, u64, Req)>,
    /// A request that was put back after its call was dropped, to be dropped.
    withdrawn: Option<Req>,
    /// The waker of this task's call, which has its answer, to be dropped.
    spare: Option<Waker>,
    budget: usize,
    /// The number of answers delivered.
    delivered: usize,
    /// Whether this task reads for all.
    reads: bool,
    /// Whether this task's request is new, and other calls may share its flush.
    may_promise: bool,
    pub(super) has_promised: bool,
    /// Whether the transport has accepted requests since the last look at the state, and whether those of other calls.
    has_fed: bool,
    has_fed_others: bool,
    has_begun: bool,
    /// The client's life as of the last look at the state.
    is_running: bool,
    has_ended: bool,
    /// The directions in which the transport was pending. It wakes the flag for them.
    blocked: Blocked,
    round: Round,
    at_stake: AtStake,
}

/// The calls whose answers a panic in the running user code would lose.
#[derive(Clone, Copy)]
enum AtStake {
    /// None: no code of the transport or the correlation is running.
    Nothing,
    /// The call whose request is being handed to the transport. In order, also the calls behind it.
    Call(usize),
    /// Every call whose request was sent: the transport may lose a request that it has accepted, or an answer.
    Sent,
}

#[derive(Clone, Copy, Default)]
struct Blocked {
    writing: bool,
    flushing: bool,
    reading: bool,
    closing: bool,
}

/// The work to be done without the lock until the next look at the state.
#[derive(Clone, Copy, Default)]
struct Round {
    /// Whether more requests wait behind the one in hand.
    has_more: bool,
    flushes: bool,
    /// The number of answers to read.
    reads: usize,
    closes: bool,
}

impl<'a, T, Req, Res, C> Held<'a, T, Req, Res, C> {
    /// Takes the transport, if no other task has it.
    pub(super) fn take(
        shared: &'a SharedExchange<T, Req, Res, C>,
        state: &mut ClientState<T, Req, Res, C>,
        me: Task,
        want: Want,
        reads: bool,
    ) -> Option<Self> {
        let io = state.io.take()?;
        // A flush that is owed to other calls must not wait for this one, which may never be polled again.
        let owes_flush = io.is_dirty && !io.is_flushing;
        shared.flag.defer();
        state.holder = Some(me);
        Some(Self {
            shared,
            io: Some(io),
            me: Some(me),
            in_hand: None,
            withdrawn: None,
            spare: None,
            budget: BUDGET,
            delivered: 0,
            reads,
            // A call that is alone flushes at once.
            may_promise: want == Want::Write
                && state.flush == Flush::AtOnce
                && !owes_flush
                && (state.is_bursty || state.calls.waiting() > 1),
            has_promised: false,
            has_fed: false,
            has_fed_others: false,
            has_begun: false,
            is_running: state.is_running(),
            has_ended: false,
            blocked: Blocked::default(),
            round: Round::default(),
            at_stake: AtStake::Nothing,
        })
    }

    /// The task is done, and works on for the others.
    pub(super) fn detach(&mut self, state: &mut ClientState<T, Req, Res, C>) {
        self.me = None;
        state.holder = None;
    }

    /// Tells the state what was done without the lock.
    pub(super) fn report(&mut self, state: &mut ClientState<T, Req, Res, C>) {
        if let Some((key, tag, request)) = self.in_hand.take()
            && let Err((request, is_free)) = state.calls.put_back(key, tag, request)
        {
            self.withdrawn = Some(request);
            if is_free {
                state.release_discarded();
            }
        }
        let Some(io) = &mut self.io else { return };
        let read = io.as_mut().project().read;
        // Each answer is taken once. Those that nobody wants go to the back of the same queue, so that they are dropped
        // without the lock (`drop_garbage`) and without memory of their own.
        for _ in 0..read.len() {
            let Some((tag, answer)) = read.pop_front() else { break };
            match state.deliver(tag, answer) {
                Ok((key, waker)) => {
                    self.delivered += 1;
                    state.is_bursty = self.delivered > 1;
                    if self.me == Some(Task::Call(key)) {
                        self.spare = waker;
                    } else {
                        state.wakes.extend(waker);
                    }
                }
                Err(unwanted) => read.push_back((None, unwanted)),
            }
        }
    }

    /// Decides what to do next without the lock. Returns `false` if the transport is to be put back. `waits` is this
    /// task, unless it is done.
    pub(super) fn plan(&mut self, state: &mut ClientState<T, Req, Res, C>, waits: Option<Task>) -> bool {
        // 1. Without work to do in a round, the transport goes back. An ended client has none, and a task whose budget
        //    is used up leaves the rest to the leader (`put_back`).
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        self.round = Round::default();
        self.is_running = state.is_running();
        self.has_ended = state.ended().is_some();
        let Some(io) = &mut self.io else { return false };
        let (is_dirty, is_flushing) = (io.is_dirty, io.is_flushing);
        if self.has_ended || self.budget == 0 {
            return false;
        }
        // 2. Reading. Work came while the transport was away: all that was pending may have changed, too. After a
        //    failed write, everybody reads: the answers that have arrived end with the client.
        let was_asked = state.must_poll && !is_first;
        self.reads |= was_asked || state.failing().is_some();
        if self.reads && (is_first || was_asked) {
            state.must_poll = false;
            self.blocked = Blocked::default();
            // Cleared before the polls of this round: a wake that comes during them is for the next round.
            if state.flag.is_set() {
                state.flag.clear();
            }
        }
        // 3. Writing. Only the oldest request is taken out of the state, so that a call that is dropped meanwhile finds
        //    all others there.
        if self.is_running && !self.blocked.writing {
            self.in_hand = state.calls.next_unsent();
            self.round.has_more = state.calls.has_unsent();
        }
        // 4. Flushing. A promise is only made once this call's own request is with the transport (not in the first
        //    round), is unflushed, and no other call depends on this task.
        let has_fed = std::mem::take(&mut self.has_fed);
        if !is_first
            && std::mem::take(&mut self.may_promise)
            && is_dirty
            && !self.has_fed_others
            && state.flush == Flush::AtOnce
            && let Some(Task::Call(key)) = waits
        {
            state.flush = Flush::Promised(key);
            self.has_promised = true;
        } else if has_fed && !self.has_fed_others {
            state.await_flush(waits);
        }
        // A call that still may promise does not flush in this round: the next one makes the promise or flushes.
        let is_due = state.flush == Flush::AtOnce || is_flushing || std::mem::take(&mut self.has_fed_others);
        self.round.flushes = self.is_running && !self.blocked.flushing && !self.may_promise && is_due;
        if self.reads && !self.blocked.reading {
            self.round.reads = state.wanted().min(BATCH).min(self.budget);
        }
        // 5. Closing, by a driver alone, once everything that has arrived is read.
        let is_driver = matches!(self.me, Some(Task::Driver(_)));
        self.round.closes = is_driver && self.round.reads == 0 && !self.blocked.closing && self.shared.is_left(state);
        // A round that reads pays for each answer. One that does not pays here, or it could go on forever.
        self.budget -= usize::from(self.round.reads == 0);
        let writes = self.in_hand.is_some() || (self.round.flushes && is_dirty);
        writes || self.round.reads > 0 || self.round.closes
    }

    /// Puts the transport back. If the client has ended, the transport stays here and is dropped without the lock.
    pub(super) fn put_back(&mut self, state: &mut ClientState<T, Req, Res, C>) {
        // The budget has ended before the last requests were left to the flush that a call has promised, which
        // therefore nobody checks.
        if (self.has_fed || self.has_fed_others) && matches!(state.flush, Flush::Promised(_)) {
            state.flush = Flush::AtOnce;
            state.must_poll = true;
        }
        // Where the transport was not pending, it does not wake for the rest.
        state.must_poll |= self.budget == 0 || (self.reads && !self.blocked.reading);
        state.must_poll |= !matches!(self.me, Some(Task::Driver(_))) && self.shared.is_left(state);
        state.holder = None;
        if state.ended().is_none() {
            state.io = self.io.take();
        }
        self.has_ended = state.ended().is_some();
    }

    pub(super) fn has_garbage(&self) -> bool {
        self.withdrawn.is_some() || self.io.as_ref().is_some_and(|io| !io.read.is_empty())
    }

    /// Drops what nobody wants. It may call the client, so the lock must be free.
    pub(super) fn drop_garbage(&mut self) {
        self.withdrawn = None;
        if let Some(io) = &mut self.io {
            io.as_mut().project().read.clear();
        }
    }

    /// Looks at the state within a round, for what concerns other calls.
    fn locked<R>(&mut self, change: impl FnOnce(&mut ClientState<T, Req, Res, C>) -> R) -> R {
        let shared = self.shared;
        let mut state = shared.state.lock();
        self.report(&mut state);
        let result = change(&mut state);
        self.is_running = state.is_running();
        self.has_ended = state.ended().is_some();
        let old = state.settle();
        drop(state);
        drop(old);
        self.drop_garbage();
        result
    }

    /// Takes the next request in hand.
    fn fetch(&mut self) {
        let (in_hand, has_more) = self.locked(|state| {
            let next = if state.is_running() { state.calls.next_unsent() } else { None };
            (next, state.calls.has_unsent())
        });
        (self.in_hand, self.round.has_more) = (in_hand, has_more);
    }

    fn end(&mut self, cause: Error, is_clean: bool) {
        drop(self.locked(|state| state.end(cause, is_clean)));
    }

    /// Checks the signals after a poll of the transport: the calls that were sent before fail if the connection was
    /// lost in it.
    fn look(&mut self, mark: Mark) {
        if !mark.has_lost() {
            return;
        }
        let lost = Error::closed(
            "the connection was lost while the call waited for its answer: the request may have been executed; the \
             client continues with the next connection",
        )
        .into_rejection();
        // An answer is identified only by its position. Requests that a layer kept may be answered on the next
        // connection, and those answers would be given to other calls.
        let ambiguous = Error::closed(
            "the connection was lost while calls waited for in-order answers: requests that were sent may have been \
             executed, and the client has ended",
        );
        drop(self.locked(|state| {
            state.calls.oldest_sent()?;
            state.lose_sent(&lost, ambiguous)
        }));
    }

    /// Handles a rejection of a request that the transport had accepted, and the transport goes on.
    fn rejected(&mut self, error: Error) {
        // The calls that were lost with a connection have failed already.
        if error.is_closed() {
            return self.locked(|state| state.must_poll = true);
        }
        let error = error
            .context("the transport rejected a request that it had accepted, and the call it belongs to is unknown")
            .into_uncertain();
        drop(self.locked(|state| {
            state.must_poll = true;
            state.lose_sent(&error, error.clone())
        }));
    }
}

impl<T, Req, Res, C> Held<'_, T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    /// Does what was planned. Runs without the lock.
    pub(super) fn work(&mut self) {
        let shared = self.shared;
        let mut cx = Context::from_waker(&shared.waker);
        self.at_stake = AtStake::Sent;
        // Writing first, so that the peer has work while the answers are read.
        self.write(&mut cx);
        if self.round.flushes {
            self.flush(&mut cx);
        }
        self.read(&mut cx);
        if self.round.closes && !self.has_ended {
            self.close(&mut cx);
        }
        self.at_stake = AtStake::Nothing;
    }

    /// Hands requests to the transport, the oldest first, as long as it accepts them.
    fn write(&mut self, cx: &mut Context<'_>) {
        while self.in_hand.is_some() {
            let Some(io) = &mut self.io else { return };
            let mark = Mark::now();
            let ready = io.as_mut().project().transport.poll_ready(cx).map_err(Into::into);
            self.look(mark);
            match ready {
                Poll::Pending => return self.blocked.writing = true,
                Poll::Ready(Ok(())) => {
                    if self.in_hand.is_none() {
                        // A loss has put the request back.
                        self.fetch();
                    }
                    self.send();
                }
                Poll::Ready(Err(error)) if error.is_rejection() => return self.rejected(error),
                Poll::Ready(Err(error)) => return self.locked(|state| state.fail(&error)),
            }
        }
    }

    /// Hands the request in hand to the transport, which is ready, and takes the next.
    fn send(&mut self) {
        let (Some(io), Some((key, tag, request))) = (&mut self.io, self.in_hand.take()) else { return };
        let io = io.as_mut().project();
        let mark = Mark::now();
        self.at_stake = AtStake::Call(key);
        let sent = io.transport.start_send(io.correlate.request(tag, request)).map_err(Into::into);
        self.at_stake = AtStake::Sent;
        match sent {
            Ok(()) => {
                *io.is_dirty = true;
                self.has_fed = true;
                self.has_fed_others |= self.me != Some(Task::Call(key));
            }
            // The transport rejects this message and is otherwise intact. It need not mark a message that is too large
            // as a rejection: its own failures come from its other methods.
            Err(error) if error.is_rejection() || error.is_too_large() => {
                let error = error.into_unsent();
                self.locked(|state| state.refuse(key, &error));
            }
            Err(error) => self.locked(|state| state.fail(&error)),
        }
        self.look(mark);
        if self.round.has_more {
            self.fetch();
        }
    }

    /// Flushes everything that was fed so far.
    fn flush(&mut self, cx: &mut Context<'_>) {
        let Some(io) = &mut self.io else { return };
        let io = io.as_mut().project();
        if !*io.is_dirty || !self.is_running {
            return;
        }
        let mark = Mark::now();
        let flushed = io.transport.poll_flush(cx).map_err(Into::into);
        *io.is_dirty = !matches!(flushed, Poll::Ready(Ok(())));
        *io.is_flushing = flushed.is_pending();
        self.look(mark);
        match flushed {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) if error.is_rejection() => self.rejected(error),
            Poll::Ready(Err(error)) => self.locked(|state| state.fail(&error)),
            Poll::Pending => self.blocked.flushing = true,
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        for _ in 0..self.round.reads {
            if self.has_ended {
                return;
            }
            let Some(io) = &mut self.io else { return };
            let mark = Mark::now();
            let polled = io.as_mut().project().transport.poll_next(cx);
            self.look(mark);
            let (Some(io), false) = (&mut self.io, self.has_ended) else { return };
            let io = io.as_mut().project();
            let answer = match polled {
                Poll::Pending => {
                    self.blocked.reading = true;
                    if let Some(error) = self.failing() {
                        self.end(error, false);
                    }
                    return;
                }
                Poll::Ready(None) => {
                    return match self.failing() {
                        Some(error) => self.end(error, false),
                        None => {
                            let cause = self.end_of_transport(cx);
                            self.end(cause, true);
                        }
                    };
                }
                Poll::Ready(Some(answer)) => answer.map_err(Into::into),
            };
            self.budget -= 1;
            match answer {
                Ok(message) => {
                    let (tag, answer) = io.correlate.answer(message);
                    io.read.push_back((tag, Ok(answer)));
                }
                Err(error) if error.is_rejection() && (error.is_closed() || !error.may_have_been_executed()) => {
                    self.rejected(error);
                }
                // In order, the call whose answer could not be read is known.
                Err(error) if C::IN_ORDER && (error.is_rejection() || error.is_codec()) => {
                    io.read.push_back((None, Err(error)));
                }
                // By tag, it is unknown.
                Err(error) if error.is_rejection() => {
                    let error = error.context("an answer could not be read, and the call it belongs to is unknown");
                    self.locked(|state| state.fail_sent(&error));
                }
                Err(error) => self.end(error, false),
            }
        }
    }

    /// Returns the error of the write that failed, if the client has not ended.
    fn failing(&mut self) -> Option<Error> {
        if self.is_running { None } else { self.locked(|state| state.failing().cloned()) }
    }

    /// Returns why the stream of the transport has ended. The sink's error is the most specific: it may hold the peer's
    /// close frame.
    fn end_of_transport(&mut self, cx: &mut Context<'_>) -> Error {
        match self.io.as_mut().map(|io| io.as_mut().project().transport.poll_ready(cx)) {
            Some(Poll::Ready(Err(error))) => error.into().into_fatal().into_uncertain(),
            _ => Error::closed("the transport under the client has ended"),
        }
    }

    fn close(&mut self, cx: &mut Context<'_>) {
        let Some(io) = &mut self.io else { return };
        match io.as_mut().project().transport.poll_close(cx).map_err(Into::into) {
            Poll::Pending => self.blocked.closing = true,
            Poll::Ready(Ok(())) => self.end(Error::closed("this end of the transport was closed"), true),
            // The call that it concerns is no longer waiting; the close goes on.
            Poll::Ready(Err(error)) if error.is_rejection() => self.locked(|state| state.must_poll = true),
            Poll::Ready(Err(error)) => self.end(error, false),
        }
    }
}

impl<T, Req, Res, C> Drop for Held<'_, T, Req, Res, C> {
    fn drop(&mut self) {
        // The normal end: `put_back` has returned the transport, or it is dropped here with the client that has ended.
        if self.io.is_none() || (self.has_ended && !std::thread::panicking()) {
            return;
        }
        // Only after a panic of user code, which reports itself.
        let at_stake = std::mem::replace(&mut self.at_stake, AtStake::Nothing);
        let panicked = |what: &str| {
            format!("the client's transport or correlation panicked {what}: the request may have been executed")
        };
        let before: Option<Life> = self.locked(|state| {
            state.must_poll = true;
            match at_stake {
                AtStake::Nothing => None,
                AtStake::Call(key) if !state.in_order => {
                    state.refuse(key, &Error::other(panicked("while it sent the request")).into_rejection());
                    None
                }
                AtStake::Call(_) | AtStake::Sent => state.lose_sent(
                    &Error::other(panicked("while the call waited for its answer")).into_rejection(),
                    Error::closed(panicked("and its answers come in order")),
                ),
            }
        });
        let shared = self.shared;
        let mut state = shared.state.lock();
        self.put_back(&mut state);
        let old = state.settle();
        if shared.flag.resume() {
            state.wake_leaders();
        }
        shared.unlock(state);
        drop((old, before));
    }
}
