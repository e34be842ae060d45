use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tower_service::Service;

use super::{
    connection,
    shared::Shared,
    shelf::{Admission, Ticket},
};
use crate::{
    Error, Transport,
    rt::Timer,
    service::{Call, Correlate},
};

/// The future of a call of a [`Pool`](super::Pool): waits for a connection, then for the answer. Dropping it abandons
/// the call.
#[must_use = "futures do nothing unless awaited"]
pub struct PoolCall<T, Req, Res, C> {
    shared: Arc<Shared<T, Req, Res, C>>,
    request: Option<Req>,
    ticket: Option<Ticket>,
    patience: Option<Timer>,
    /// The connection in use, and the call on it.
    call: Option<(u64, Call<T, Req, Res, C>)>,
}

// The request is moved, never pinned; a client's call is `Unpin`.
impl<T, Req, Res, C> Unpin for PoolCall<T, Req, Res, C> {}

impl<T, Req, Res, C> PoolCall<T, Req, Res, C> {
    pub(super) fn new(shared: Arc<Shared<T, Req, Res, C>>, request: Req) -> Self {
        Self { shared, request: Some(request), ticket: None, patience: None, call: None }
    }

    /// Removes the call from the connection's load or from the line.
    fn leave(&mut self) {
        let call = self.call.take();
        let ticket = self.ticket.take();
        if call.is_none() && ticket.is_none() {
            return;
        }
        let mut shelf = self.shared.shelf();
        let mut next = None;
        if let Some((id, _)) = &call {
            next = shelf.release(*id);
        }
        if let Some(ticket) = ticket {
            next = shelf.leave(ticket);
        }
        drop(shelf);
        drop(call);
        next.into_iter().for_each(Waker::wake);
    }
}

impl<T, Req, Res, C> PoolCall<T, Req, Res, C>
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    fn poll_connection(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let (admission, opens) = self.shared.shelf().admit(self.ticket, cx.waker());
            if opens {
                connection::open(&self.shared);
            }
            let (id, mut client) = match admission {
                Admission::Use(id, client) => (id, client),
                Admission::Refuse(error) => return Poll::Ready(Err(error.into_unsent())),
                Admission::Wait(ticket) => {
                    self.ticket = Some(ticket);
                    return self.poll_patience(cx).map(Err);
                }
            };
            if let Some(ticket) = self.ticket.take() {
                let next = self.shared.shelf().leave(ticket);
                next.into_iter().for_each(Waker::wake);
            }
            // By the pool's own count there is room; only a connection that has ended is not ready here.
            match client.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(request) = self.request.take() {
                        self.call = Some((id, client.call(request)));
                    }
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(_)) | Poll::Pending => {
                    drop(client);
                    self.shared.retire(id);
                }
            }
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let limit = self.shared.max_wait;
        let timer = self.patience.get_or_insert_with(|| {
            let mut timer = Timer::new();
            timer.set(limit);
            timer
        });
        ready!(timer.poll(cx));
        Poll::Ready(out_of_patience(limit))
    }
}

fn out_of_patience(limit: Duration) -> Error {
    Error::timeout(format!("no connection of the pool was free within {limit:?} (PoolBuilder::max_wait)")).into_unsent()
}

impl<T, Req, Res, C> Future for PoolCall<T, Req, Res, C>
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    type Output = Result<Res, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.call.is_none() {
            ready!(this.poll_connection(cx))?;
        }
        let Some((_, call)) = &mut this.call else { return Poll::Pending };
        let answer = ready!(Pin::new(call).poll(cx));
        this.leave();
        Poll::Ready(answer)
    }
}

impl<T, Req, Res, C> Drop for PoolCall<T, Req, Res, C> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T, Req, Res, C> fmt::Debug for PoolCall<T, Req, Res, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolCall").field("has_connection", &self.call.is_some()).finish_non_exhaustive()
    }
}
