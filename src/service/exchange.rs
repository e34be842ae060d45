//! The state that the handles and calls of a client share, and the work that the leader does for all of them.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::{
    calls::{Calls, Delivered},
    correlate::Correlate,
    list::List,
    permits::Permits,
    wake_flag::Deferred,
};
use crate::{Error, Transport, transport::signal::Mark};

/// The number of answers that one poll delivers before it lets other tasks run.
pub(super) const BUDGET: usize = 128;

/// The task that reads for all, and is woken when the transport can make progress. Later variants take over from
/// earlier ones.
///
/// A handle that waits for a place can lead, too: in order, all places may belong to dropped calls whose answers nobody
/// else would read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leader {
    Nobody,
    /// A handle that waits for a place.
    Waiter(usize),
    Call(usize),
    Driver(usize),
}

impl Leader {
    fn rank(self) -> u8 {
        match self {
            Self::Nobody => 0,
            Self::Waiter(_) => 1,
            Self::Call(_) => 2,
            Self::Driver(_) => 3,
        }
    }
}

/// The leader's waker in the wake flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    /// None: there is no leader, or a wake of the transport has taken its waker.
    Empty,
    /// The waker of this leader, as it is now.
    With(Leader),
    /// An outdated waker, or none: the leader has changed, or has moved to another task.
    Stale,
}

/// ```text
///            a write fails              the stream is pending or ends
///   Running --------------> Failing ---------------------------------> Ended
///      \______ the stream fails or ends, the client closes __________/
/// ```
///
/// While `Failing`, nothing is written, and answers that have arrived are still read: their calls succeed.
enum Life {
    Running,
    Failing(Error),
    Ended(Ended),
}

/// The exchange of requests and answers over the transport, for all handles and calls of a client.
///
/// # Flushing
///
/// | `dirty` | `flusher` | who flushes |
/// |---|---|---|
/// | no | none | nobody: nothing was fed |
/// | yes | none | the next call that writes or leads, because the transport was pending or the call was alone |
/// | yes | a call | that call, when it is polled again. The leader leaves it to that call, so calls that run before share the flush |
/// | no | a call | does not occur before the end; a call that is dropped passes its promise to the leader (`todo`) |
///
/// `burst` only decides whether a call makes that promise although no other call is in flight yet.
///
/// # Who is woken
///
/// Each section under the lock ends with [`settle`](Self::settle): there is a leader as long as anyone waits, and the
/// wake flag holds its waker. If the transport was pending, it wakes the flag. If it was not, for example because the
/// budget was used up, it will not wake for the rest: `todo` then makes the section wake the leader. `wakes` collects
/// the wakers of other tasks until the lock is free.
pub(super) struct Exchange<T, Req, Res, C> {
    /// `None` once the client has ended.
    transport: Option<Pin<Box<T>>>,
    correlate: C,
    pub(super) in_order: bool,
    pub(super) calls: Calls<Req, Res>,
    pub(super) permits: Permits,
    pub(super) drivers: List<Waker>,
    leader: Leader,
    armed: Armed,
    /// Whether the leader must be woken although the transport wakes nobody.
    pub(super) todo: bool,
    /// Whether something was fed and is not flushed.
    dirty: bool,
    /// The call that has promised to flush when it is polled again, after the calls that run before it have fed theirs.
    pub(super) flusher: Option<usize>,
    /// Whether the last answers came several at a time, as the next requests then will.
    burst: bool,
    life: Life,
    pub(super) unknown: u64,
    /// The wakers to wake as soon as the lock is free.
    pub(super) wakes: VecDeque<Waker>,
    /// The transport of a client that has ended, to be dropped as soon as the lock is free.
    pub(super) old_transport: Option<Pin<Box<T>>>,
}

#[derive(Clone)]
pub(super) struct Ended {
    pub(super) cause: Error,
    /// Whether the transport was closed by either side, and not cut.
    pub(super) clean: bool,
}

impl<T, Req, Res, C> Exchange<T, Req, Res, C> {
    pub(super) fn new(transport: T, correlate: C, in_order: bool, limit: usize) -> Self {
        Self {
            transport: Some(Box::pin(transport)),
            correlate,
            in_order,
            calls: Calls::new(limit),
            permits: Permits::new(limit),
            drivers: List::new(),
            leader: Leader::Nobody,
            armed: Armed::Empty,
            todo: false,
            dirty: false,
            flusher: None,
            burst: false,
            life: Life::Running,
            unknown: 0,
            wakes: VecDeque::new(),
            old_transport: None,
        }
    }

    /// Returns whether `me` must read now: as the leader, in place of a lesser one, or in place of one that was woken
    /// and has not come yet (it might never come, because its future may be kept and not polled).
    pub(super) fn leads(&mut self, me: Leader, flag: &Deferred<'_>) -> bool {
        let leads = self.leader == me || me.rank() > self.leader.rank();
        // A leader of the same rank keeps the lead unless it was woken and has not come: then the one who is here reads.
        let steals = !leads && (self.todo || flag.is_set());
        if leads || steals && me.rank() == self.leader.rank() {
            self.leader = me;
            // Also if it led before. A wake on another thread may take the waker at any time, for example after the
            // flag was cleared and armed again. It then wakes the leader, which arms the flag whenever it comes.
            self.disarm();
        }
        leads || steals
    }

    /// Records that the flag may have another waker than the leader's, or none at all.
    pub(super) fn disarm(&mut self) {
        if self.armed != Armed::Empty {
            self.armed = Armed::Stale;
        }
    }

    /// Returns why the client has ended, if it has.
    pub(super) fn ended(&self) -> Option<&Ended> {
        match &self.life {
            Life::Ended(ended) => Some(ended),
            _ => None,
        }
    }

    pub(super) fn is_failing(&self) -> bool {
        matches!(self.life, Life::Failing(_))
    }

    fn is_running(&self) -> bool {
        matches!(self.life, Life::Running)
    }

    /// Records the error of a failed write.
    fn fail(&mut self, error: Error) {
        if self.is_running() {
            self.life = Life::Failing(error);
        }
    }

    /// Returns whether the call that is about to wait flushes later, together with the calls that run before it.
    pub(super) fn can_flush_later(&self) -> bool {
        self.dirty && (self.burst || self.calls.waiting() > 1)
    }

    /// Makes sure that there is a leader as long as any call waits, and that the flag has its waker. Returns a waker
    /// that must be dropped outside the lock.
    pub(super) fn settle(&mut self, flag: &Deferred<'_>) -> Option<Waker> {
        if self.leader_waker().is_none() {
            // The newest call, because in order it waits longest: the lead passes on as rarely as possible.
            let driver = self.drivers.first().map(Leader::Driver);
            let call = || self.calls.newest().map(Leader::Call);
            let waiter = || self.permits.first().map(Leader::Waiter);
            self.leader = driver.or_else(call).or_else(waiter).unwrap_or(Leader::Nobody);
            // A new leader may have the key of an old one.
            self.disarm();
        }
        let target = match self.leader {
            Leader::Nobody => Armed::Empty,
            leader => Armed::With(leader),
        };
        if self.armed == target {
            return None;
        }
        self.armed = target;
        flag.arm(self.leader_waker())
    }

    pub(super) fn leader_waker(&self) -> Option<&Waker> {
        match self.leader {
            Leader::Nobody => None,
            Leader::Waiter(key) => self.permits.waker(key),
            Leader::Call(key) => self.calls.waker(key),
            Leader::Driver(key) => self.drivers.get(key),
        }
    }

    /// Releases the place of a call.
    pub(super) fn release(&mut self) {
        self.wakes.extend(self.permits.release());
    }

    /// Ends the client: every waiting call is woken and finds the cause.
    pub(super) fn end(&mut self, cause: Error, clean: bool) {
        if self.ended().is_some() {
            return;
        }
        self.life = Life::Ended(Ended { cause, clean });
        self.old_transport = self.transport.take();
        self.dirty = false;
        while let Some(waker) = self.calls.next_waker() {
            self.wakes.push_back(waker);
        }
        while let Some(waker) = self.permits.dissolve() {
            self.wakes.push_back(waker);
        }
        while let Some(key) = self.drivers.first() {
            self.wakes.extend(self.drivers.remove(key));
        }
    }

    fn is_wanted(&self) -> bool {
        self.calls.waiting() > 0 || self.permits.first().is_some() || self.drivers.first().is_some()
    }
}

impl<T, Req, Res, C> Exchange<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    /// Does what the transport allows: writes, flushes, and reads until the transport is pending or no call wants more.
    /// Returns an unwanted answer, to be dropped outside the lock; there may be more to do after that.
    pub(super) fn pump(
        &mut self,
        flag: &Deferred<'_>,
        cx: &mut Context<'_>,
        me: Option<usize>,
        budget: &mut usize,
    ) -> Option<Result<Res, Error>> {
        self.todo = false;
        if flag.is_set() {
            // The wake has taken the waker.
            self.armed = Armed::Empty;
            flag.clear();
        }
        self.write(cx);
        if self.flusher.is_none() {
            self.flush(cx);
        }
        self.read(cx, me, budget)
    }

    /// Hands requests to the transport, the oldest first, as long as it accepts them.
    pub(super) fn write(&mut self, cx: &mut Context<'_>) {
        while self.is_running() && self.calls.has_unsent() {
            let Some(transport) = &mut self.transport else { return };
            let mark = Mark::now();
            let ready = transport.as_mut().poll_ready(cx).map_err(Into::into);
            self.look(mark);
            match ready {
                Poll::Pending => return,
                Poll::Ready(Err(error)) if error.is_rejection() => return self.rejected(error),
                Poll::Ready(Err(error)) => self.fail(error),
                Poll::Ready(Ok(())) => self.write_next(),
            }
        }
    }

    /// Hands the oldest request to the transport, which is ready.
    fn write_next(&mut self) {
        let Some(transport) = &mut self.transport else { return };
        let Some((key, tag, request)) = self.calls.next_unsent() else { return };
        let mark = Mark::now();
        match transport.as_mut().start_send(self.correlate.request(tag, request)).map_err(Into::into) {
            Ok(()) => self.dirty = true,
            // A transport need not mark a message that is too large as a rejection: its own failures come from its other
            // methods.
            // The transport rejects this message and is otherwise intact.
            Err(error) if error.is_rejection() || error.is_too_large() => {
                if let Delivered::To(_, Some(waker)) = self.calls.answer(key, Err(error.into_unsent())) {
                    self.wakes.push_back(waker);
                }
            }
            Err(error) => self.fail(error),
        }
        self.look(mark);
    }

    /// Flushes everything that was fed so far.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) {
        if !self.dirty || !self.is_running() {
            return;
        }
        let Some(transport) = &mut self.transport else { return };
        let mark = Mark::now();
        let flushed = transport.as_mut().poll_flush(cx).map_err(Into::into);
        self.look(mark);
        match flushed {
            Poll::Ready(Ok(())) => self.dirty = false,
            Poll::Ready(Err(error)) if error.is_rejection() => self.rejected(error),
            Poll::Ready(Err(error)) => self.fail(error),
            Poll::Pending => {}
        }
    }

    /// Checks the signals after a poll of the transport: the calls that were sent before fail if the connection was
    /// lost in it.
    fn look(&mut self, mark: Mark) {
        if !mark.has_lost() {
            return;
        }
        if !self.in_order {
            return self.fail_sent(&lost());
        }
        if self.calls.oldest_sent().is_some() {
            // An answer is identified only by its position. Requests that a layer kept may be answered on the next
            // connection, and those answers would be given to other calls.
            self.end(
                Error::closed(
                    "the connection was lost while calls waited for in-order answers: requests that were sent may \
                     have been executed, and the client has ended",
                ),
                false,
            );
        }
    }

    /// By tag: fails every call whose request was sent.
    fn fail_sent(&mut self, error: &Error) {
        while let Some(key) = self.calls.oldest_sent() {
            match self.calls.answer(key, Err(error.clone())) {
                Delivered::To(_, waker) => self.wakes.extend(waker),
                Delivered::Abandoned(_) => self.release(),
                Delivered::Unknown(_) => return,
            }
        }
    }

    /// Handles a rejection of a request that the transport had accepted, and the transport goes on.
    fn rejected(&mut self, error: Error) {
        self.todo = true;
        // The calls that were lost with a connection have failed already.
        if error.is_closed() {
            return;
        }
        let error = error
            .context("the transport rejected a request that it had accepted, and the call it belongs to is unknown")
            .into_uncertain();
        match self.in_order {
            true => self.end(error, false),
            false => self.fail_sent(&error),
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, me: Option<usize>, budget: &mut usize) -> Option<Result<Res, Error>> {
        let mut delivered = 0;
        // Nothing is read that nobody waits for: this is the backpressure on a peer that sends unasked.
        while *budget > 0 && self.is_wanted() {
            let transport = self.transport.as_mut()?;
            let mark = Mark::now();
            let polled = transport.as_mut().poll_next(cx);
            self.look(mark);
            let answer = match polled {
                Poll::Pending => {
                    if let Life::Failing(error) = &self.life {
                        let error = error.clone();
                        self.end(error, false);
                    }
                    return None;
                }
                Poll::Ready(None) => {
                    let (cause, clean) = match &self.life {
                        Life::Failing(error) => (error.clone(), false),
                        _ => (self.end_of_transport(cx), true),
                    };
                    self.end(cause, clean);
                    return None;
                }
                Poll::Ready(Some(answer)) => answer,
            };
            *budget -= 1;
            let outcome = match answer.map_err(Into::into) {
                Ok(message) => {
                    let (tag, answer) = self.correlate.answer(message);
                    match tag {
                        _ if self.in_order => self.calls.answer_oldest(Ok(answer)),
                        Some(tag) => self.calls.answer_tag(tag, Ok(answer)),
                        None => Delivered::Unknown(Ok(answer)),
                    }
                }
                Err(error) if error.is_rejection() && (error.is_closed() || !error.may_have_been_executed()) => {
                    self.rejected(error);
                    continue;
                }
                // In order, the call whose answer could not be read is known.
                Err(error) if self.in_order && (error.is_rejection() || error.is_codec()) => {
                    self.calls.answer_oldest(Err(error))
                }
                // By tag, it is unknown.
                Err(error) if error.is_rejection() => {
                    self.fail_sent(
                        &error.context("an answer could not be read, and the call it belongs to is unknown"),
                    );
                    continue;
                }
                Err(error) => {
                    self.end(error, false);
                    return None;
                }
            };
            match outcome {
                Delivered::To(key, waker) => {
                    delivered += 1;
                    self.burst = delivered > 1;
                    if Some(key) != me {
                        self.wakes.extend(waker);
                    }
                }
                Delivered::Abandoned(answer) => {
                    self.release();
                    self.todo = true;
                    return Some(answer);
                }
                Delivered::Unknown(answer) => {
                    self.unknown += 1;
                    self.todo = true;
                    return Some(answer);
                }
            }
        }
        self.todo = true;
        None
    }

    /// Returns why the stream of the transport has ended. The sink's error is the most specific: it may hold the peer's
    /// close frame.
    fn end_of_transport(&mut self, cx: &mut Context<'_>) -> Error {
        match self.transport.as_mut().map(|transport| transport.as_mut().poll_ready(cx)) {
            Some(Poll::Ready(Err(error))) => error.into().into_fatal().into_uncertain(),
            _ => Error::closed("the transport under the client has ended"),
        }
    }

    /// Closes the transport; `Ready` when the client has ended.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(transport) = &mut self.transport else { return Poll::Ready(()) };
        match transport.as_mut().poll_close(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => self.end(Error::closed("this end of the transport was closed"), true),
            Poll::Ready(Err(error)) => match error.into() {
                // The call that it concerns is no longer waiting; the close goes on.
                error if error.is_rejection() => {
                    self.todo = true;
                    return Poll::Pending;
                }
                error => self.end(error, false),
            },
        }
        Poll::Ready(())
    }
}

/// Returns the error of a call whose connection was lost.
fn lost() -> Error {
    Error::closed(
        "the connection was lost while the call waited for its answer: the request may have been executed; the client \
         continues with the next connection",
    )
    .into_rejection()
}
