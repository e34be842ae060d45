use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    correlate::Correlate,
    exchange::Task,
    poll_task::{Step, poll_task},
    shared_exchange::{SharedExchange, Want},
};
use crate::{
    Error, Transport, log,
    transport::{
        close_deadline::{CLOSE_WITHIN, CloseDeadline, WaitsFor},
        signal::Mark,
        wakers::PreparedWaker,
    },
};

/// The future of [`Client::drive`](super::Client::drive).
#[must_use = "futures do nothing unless awaited"]
pub struct Drive<T, Req, Res, C> {
    shared: Arc<SharedExchange<T, Req, Res, C>>,
    key: Option<usize>,
    deadline: CloseDeadline,
}

impl<T, Req, Res, C> Drive<T, Req, Res, C> {
    pub(super) fn new(shared: Arc<SharedExchange<T, Req, Res, C>>) -> Self {
        Self { shared, key: None, deadline: CloseDeadline::new(CLOSE_WITHIN) }
    }

    /// Sets the maximum time of the close, once every handle and call is gone. Defaults to 10 seconds.
    /// [`Duration::MAX`] disables the limit.
    ///
    /// The time counts from the last bytes that [move](crate::transport::signal::moved), and is at most 16 times this
    /// value in all. The transport is then dropped, and the future completes with an error for which
    /// [`is_timeout`](Error::is_timeout) is true. It needs timers as
    /// [`QueueConfig::close_within`](crate::QueueConfig::close_within) does, and does not apply without them.
    pub fn close_within(mut self, time: Duration) -> Self {
        self.deadline.set_limit(time);
        self
    }

    /// Returns how many dropped calls have had their place in flight freed late, by their answer. The driver is woken
    /// for each.
    #[cfg(all(feature = "pool", not(target_arch = "wasm32")))]
    pub(crate) fn discarded(&self) -> u64 {
        self.shared.state.lock().discarded
    }
}

impl<T, Req, Res, C> Future for Drive<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shared, key: driver, deadline } = &mut *self;
        let mark = Mark::now();
        let polled = poll_task(shared, cx, PreparedWaker::new(cx.waker()), |state, _| {
            if let Some(ended) = state.ended() {
                *driver = None;
                return Step::Done(ended.clone());
            }
            let again = driver.is_some();
            let key = *driver.get_or_insert_with(|| state.drivers.push_back(None));
            Step::Wait(Task::Driver(key), Want::Read { again })
        });
        if let Poll::Ready(ended) = polled {
            return Poll::Ready(if ended.clean { Ok(()) } else { Err(ended.cause) });
        }
        if !shared.is_closing() {
            return Poll::Pending;
        }
        ready!(deadline.poll(mark.has_moved(), WaitsFor::Transport.unless_client(mark), cx));
        let error = Error::timeout(format!(
            "the connection was cut: it could not be closed within {:?} without progress (Drive::close_within)",
            deadline.limit()
        ));
        log::close_cut(&error, 0);
        shared.give_up(error.clone());
        Poll::Ready(Err(error))
    }
}

impl<T, Req, Res, C> Drop for Drive<T, Req, Res, C> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.shared.leave(key);
        }
    }
}

impl<T, Req, Res, C> fmt::Debug for Drive<T, Req, Res, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drive").finish_non_exhaustive()
    }
}
