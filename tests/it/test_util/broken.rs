//! A layer that breaks one rule, chosen by name.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
};

use futures_util::{Sink, SinkExt, Stream, StreamExt, task::AtomicWaker};
use tower_transport::{Channel, Error};

/// The rule that is broken, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    Nothing,
    ForgetsAPlaceItGave,
    LetsAFlushUseThePlace,
    IsReadyWithoutRoom,
    HasNoBound,
    LosesOne,
    SwapsTwo,
    RepeatsOne,
    ChangesOne,
    ClaimsToHaveFlushed,
    RepeatsASendThatWasDropped,
    SwallowsTheClose,
    LosesTheLastAtTheClose,
    IsReadyWhenClosed,
    SwallowsWhatNobodyReads,
    HidesThatItIsClosed,
    ForgetsTheReader,
    ForgetsTheWriter,
    WakesTheFirstWaker,
    HasOneWakerForBothHalves,
    ReadsOnlyWhenItMayWrite,
    ForgetsTheEnd,
}

use Fault::*;

/// The message at which the faults of the order show: so late that only the check of the order gets there.
const LATE: usize = 150;

pub(crate) struct Broken {
    inner: Channel<usize>,
    fault: Fault,
    held: VecDeque<usize>,
    taken: usize,
    forgot: bool,
    flushing: bool,
    closed: bool,
    ended: bool,
    first: Option<Waker>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared(AtomicWaker);

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

impl Broken {
    pub(crate) fn new(inner: Channel<usize>, fault: Fault) -> Self {
        Self {
            inner,
            fault,
            held: VecDeque::new(),
            taken: 0,
            forgot: false,
            flushing: false,
            closed: false,
            ended: false,
            first: None,
            shared: Arc::default(),
        }
    }

    /// Whether all that is held was given on.
    fn pass_on(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.held.is_empty() {
            ready!(self.inner.poll_ready_unpin(cx))?;
            let message = self.held.pop_front().unwrap();
            self.inner.start_send_unpin(message)?;
        }
        Poll::Ready(Ok(()))
    }

    /// The waker that a half of the inner transport gets to see.
    fn waker(&mut self, cx: &Context<'_>, reading: bool) -> Waker {
        match self.fault {
            ForgetsTheReader if reading => Waker::noop().clone(),
            ForgetsTheWriter if !reading => Waker::noop().clone(),
            WakesTheFirstWaker if reading => self.first.get_or_insert_with(|| cx.waker().clone()).clone(),
            HasOneWakerForBothHalves => {
                self.shared.0.register(cx.waker());
                self.shared.clone().into()
            }
            _ => cx.waker().clone(),
        }
    }
}

impl Stream for Broken {
    type Item = Result<usize, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.fault == ReadsOnlyWhenItMayWrite && self.inner.poll_ready_unpin(cx).is_pending() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let waker = self.waker(cx, true);
        let item = ready!(self.inner.poll_next_unpin(&mut Context::from_waker(&waker)));
        self.first = None;
        if self.fault == ForgetsTheEnd && item.is_none() && std::mem::replace(&mut self.ended, true) {
            return Poll::Pending;
        }
        Poll::Ready(item)
    }
}

impl Sink<usize> for Broken {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let fault = self.fault;
        match fault {
            ForgetsAPlaceItGave => {
                self.forgot = !self.forgot;
                if !self.forgot {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            LetsAFlushUseThePlace if std::mem::take(&mut self.forgot) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            HasNoBound => {
                let _ = self.pass_on(cx)?;
                if self.taken > 0 && !self.closed && self.inner_is_open() {
                    return Poll::Ready(Ok(()));
                }
            }
            ClaimsToHaveFlushed | LosesTheLastAtTheClose => ready!(self.pass_on(cx))?,
            RepeatsASendThatWasDropped if self.flushing => {
                ready!(self.pass_on(cx))?;
                self.flushing = false;
            }
            IsReadyWithoutRoom if self.inner_is_open() => return Poll::Ready(Ok(())),
            IsReadyWhenClosed if self.closed => return Poll::Ready(Ok(())),
            _ => {}
        }
        let waker = self.waker(cx, false);
        let ready = ready!(self.inner.poll_ready_unpin(&mut Context::from_waker(&waker)));
        match (fault, ready) {
            (SwallowsWhatNobodyReads, Err(_)) if !self.closed => Poll::Ready(Ok(())),
            (HidesThatItIsClosed, Err(error)) if !self.closed => {
                Poll::Ready(Err(Error::other("something went wrong").with_source(error)))
            }
            (_, ready) => Poll::Ready(ready),
        }
    }

    fn start_send(mut self: Pin<&mut Self>, mut message: usize) -> Result<(), Error> {
        self.taken += 1;
        match self.fault {
            HasNoBound | ClaimsToHaveFlushed | LosesTheLastAtTheClose => {
                self.held.push_back(message);
                return Ok(());
            }
            LosesOne if self.taken == LATE => return Ok(()),
            SwapsTwo if self.taken == LATE => {
                self.held.push_back(message);
                return Ok(());
            }
            SwapsTwo if self.taken == LATE + 1 => {
                self.inner.start_send_unpin(message)?;
                message = self.held.pop_front().unwrap();
            }
            RepeatsOne if self.taken == LATE => self.inner.start_send_unpin(message)?,
            ChangesOne if self.taken == LATE => message += 100_000,
            RepeatsASendThatWasDropped => {
                self.held.clear();
                self.held.push_back(message);
                self.flushing = false;
            }
            LetsAFlushUseThePlace => self.flushing = true,
            SwallowsWhatNobodyReads => {
                let _ = self.inner.start_send_unpin(message);
                return Ok(());
            }
            _ => {}
        }
        self.inner.start_send_unpin(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.fault {
            HasNoBound | LosesTheLastAtTheClose => ready!(self.pass_on(cx))?,
            RepeatsASendThatWasDropped if !self.held.is_empty() => {
                if !std::mem::replace(&mut self.flushing, true) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                self.flushing = false;
                self.held.clear();
            }
            LetsAFlushUseThePlace => self.forgot = std::mem::take(&mut self.flushing),
            _ => {}
        }
        self.inner.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.fault {
            LosesTheLastAtTheClose | RepeatsASendThatWasDropped => self.held.clear(),
            _ => ready!(self.pass_on(cx))?,
        }
        self.closed = true;
        match self.fault {
            SwallowsTheClose => Poll::Ready(Ok(())),
            _ => self.inner.poll_close_unpin(cx),
        }
    }
}

impl Broken {
    fn inner_is_open(&mut self) -> bool {
        !matches!(self.inner.poll_ready_unpin(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }
}
