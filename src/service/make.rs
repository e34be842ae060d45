//! One service per connection.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::{correlate::Respond, server::Server};
use crate::{Error, Transport};

pin_project! {
    /// Makes a service for a connection, then serves the connection with it. [`serve`] creates it.
    #[must_use = "futures do nothing unless awaited"]
    // The bounds are needed to name the futures.
    pub struct Serve<T, M, Target, Req, R>
    where
        M: Service<Target>,
        M::Response: Service<Req>,
        R: Respond<Req, <M::Response as Service<Req>>::Response>,
    {
        make: M,
        target: Option<Target>,
        start: Option<(T, R)>,
        #[pin]
        making: Option<M::Future>,
        #[pin]
        server: Option<Server<T, M::Response, Req, R>>,
        request: PhantomData<fn(Req)>,
    }
}

/// Serves one connection with a service that is made for it. `make` is called with `target`, which is any value that
/// distinguishes connections (an address, the parts of the handshake request, or `()`).
///
/// It waits for `make` to be ready and for the service, and reads nothing meanwhile. After that it is a [`Server`] with
/// its defaults. For other settings, make the service first and configure the server with it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use tower::{ServiceExt, service_fn};
/// use tower_transport::{Error, channel, service::{self, Client, InOrder}};
///
/// let greeter = service_fn(async |name: &'static str| {
///     Ok::<_, Error>(service_fn(move |hello: &str| std::future::ready(Ok::<_, Error>(format!("{hello}, {name}")))))
/// });
/// let (here, there) = channel(8);
/// tokio::spawn(service::serve(greeter, "Ada", there, InOrder));
/// assert_eq!(Client::in_order(here).oneshot("Hello").await?, "Hello, Ada");
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
///
/// # Errors
///
/// The future completes with the error of `make`, or as a [`Server`] does.
pub fn serve<T, M, Target, Req, R>(make: M, target: Target, transport: T, respond: R) -> Serve<T, M, Target, Req, R>
where
    M: Service<Target>,
    M::Response: Service<Req>,
    R: Respond<Req, <M::Response as Service<Req>>::Response>,
{
    Serve {
        make,
        target: Some(target),
        start: Some((transport, respond)),
        making: None,
        server: None,
        request: PhantomData,
    }
}

impl<T, M, Target, Req, R> Future for Serve<T, M, Target, Req, R>
where
    M: Service<Target>,
    M::Error: Into<Error>,
    M::Response: Service<Req>,
    <M::Response as Service<Req>>::Error: Into<Error>,
    R: Respond<Req, <M::Response as Service<Req>>::Response>,
    T: Transport<R::Out, In = R::In>,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            if let Some(server) = this.server.as_mut().as_pin_mut() {
                return server.poll(cx);
            }
            if let Some(making) = this.making.as_mut().as_pin_mut() {
                let service = ready!(making.poll(cx)).map_err(Into::into)?;
                this.making.set(None);
                if let Some((transport, respond)) = this.start.take() {
                    this.server.set(Some(Server::new(transport, service, respond)));
                }
                continue;
            }
            ready!(this.make.poll_ready(cx)).map_err(Into::into)?;
            match this.target.take() {
                Some(target) => this.making.set(Some(this.make.call(target))),
                None => return Poll::Pending,
            }
        }
    }
}

impl<T, M, Target, Req, R> fmt::Debug for Serve<T, M, Target, Req, R>
where
    M: Service<Target>,
    M::Response: Service<Req>,
    R: Respond<Req, <M::Response as Service<Req>>::Response>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("made", &self.server.is_some()).finish_non_exhaustive()
    }
}
