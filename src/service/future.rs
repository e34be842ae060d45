//! The futures of a [`Client`](super::Client).

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    correlate::Correlate,
    shared::{Shared, Stage},
};
use crate::{Error, Transport};

/// The future of a call of a [`Client`](super::Client). Nothing is sent before it is first polled. Dropping it abandons
/// the call.
#[must_use = "futures do nothing unless awaited"]
pub struct Call<T, Req, Res, C> {
    shared: Arc<Shared<T, Req, Res, C>>,
    stage: Stage<Req>,
}

// A request is moved out of the call, never pinned in it.
impl<T, Req, Res, C> Unpin for Call<T, Req, Res, C> {}

impl<T, Req, Res, C> Call<T, Req, Res, C> {
    pub(super) fn new(shared: Arc<Shared<T, Req, Res, C>>, stage: Stage<Req>) -> Self {
        Self { shared, stage }
    }
}

impl<T, Req, Res, C> Future for Call<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    type Output = Result<Res, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.shared.poll_call(&mut this.stage, cx)
    }
}

impl<T, Req, Res, C> Drop for Call<T, Req, Res, C> {
    fn drop(&mut self) {
        self.shared.forget(std::mem::replace(&mut self.stage, Stage::Done));
    }
}

impl<T, Req, Res, C> fmt::Debug for Call<T, Req, Res, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::New(_) => "not polled yet",
            Stage::Waiting(_) => "waiting",
            Stage::Refused | Stage::Done => "done",
        };
        f.debug_struct("Call").field("stage", &stage).finish_non_exhaustive()
    }
}

/// The future of [`Client::drive`](super::Client::drive).
#[must_use = "futures do nothing unless awaited"]
pub struct Drive<T, Req, Res, C> {
    shared: Arc<Shared<T, Req, Res, C>>,
    key: Option<usize>,
}

impl<T, Req, Res, C> Drive<T, Req, Res, C> {
    pub(super) fn new(shared: Arc<Shared<T, Req, Res, C>>) -> Self {
        Self { shared, key: None }
    }
}

impl<T, Req, Res, C> Future for Drive<T, Req, Res, C>
where
    C: Correlate<Req, Res>,
    T: Transport<C::Out, In = C::In>,
{
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.shared.poll_drive(&mut this.key, cx)
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
