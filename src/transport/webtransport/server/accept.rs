use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll};

use futures_util::{
    StreamExt,
    future::{Either, select},
};
use web_transport_quinn as wtq;

use super::{Accept, Incoming, WebTransportServer, registry::Registry};
use crate::{log, rt};

/// The maximum number of clients that one poll rejects before it lets other tasks run.
const AT_ONCE: usize = 64;

impl WebTransportServer {
    /// Waits for the next session request. Returns `None` once the server's socket is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no request.
    pub async fn accept(&mut self) -> Option<Incoming> {
        let mut passed_over = 0;
        loop {
            if passed_over == AT_ONCE {
                // Nothing below waits while clients arrive that are rejected immediately.
                passed_over = 0;
                give_way().await;
            }
            passed_over += 1;
            let done = {
                let handshakes = &mut self.handshakes;
                // An empty set of handshakes is not the end.
                let done = poll_fn(|cx| match handshakes.poll_next_unpin(cx) {
                    Poll::Ready(Some(done)) => Poll::Ready(done),
                    _ => Poll::Pending,
                });
                match select(done, pin!(self.endpoint.accept())).await {
                    Either::Left((done, _)) => Either::Left(done),
                    Either::Right((arrival, _)) => Either::Right(arrival?),
                }
            };
            match done {
                Either::Left(Some(incoming)) => return Some(incoming),
                Either::Left(None) => {}
                Either::Right(arrival) => self.admit(arrival),
            }
        }
    }

    fn admit(&mut self, arrival: quinn::Incoming) {
        let under_way = self.handshakes.len();
        if under_way >= self.max_handshakes || self.endpoint.open_connections() >= self.max_sessions {
            log::full(
                "webtransport",
                "WebTransportServer::max_handshakes or max_sessions is reached",
                arrival.remote_address(),
            );
            return arrival.refuse();
        }
        if under_way >= self.max_handshakes / 2 && !arrival.remote_address_validated() {
            // This fails for clients that have already validated their address.
            let _ = arrival.retry();
            return;
        }
        let (quic, accept, sessions) = (self.quic.clone(), self.accept.clone(), self.sessions.clone());
        self.handshakes.push(Box::pin(async move {
            let time = accept.limits.handshake;
            rt::timeout(time, handshake(arrival, quic, accept, sessions)).await.ok().flatten()
        }));
    }
}

/// Lets other tasks run.
async fn give_way() {
    let mut has_given_way = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_given_way, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Performs QUIC with TLS, HTTP/3's settings, and the request. Returns `None` for a client that does not complete them.
async fn handshake(
    arrival: quinn::Incoming,
    quic: Arc<quinn::ServerConfig>,
    accept: Arc<Accept>,
    sessions: Arc<Registry>,
) -> Option<Incoming> {
    let connection = arrival.accept_with(quic).ok()?.await.ok()?;
    let request = wtq::Request::accept(connection).await.ok()?;
    Incoming::new(request, accept, sessions)
}
