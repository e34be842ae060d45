//! The interface of a tested transport.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
};

use futures_util::FutureExt;
use tokio::sync::{
    Barrier,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use tower::{Service, ServiceExt, util::BoxCloneSyncService};
use tower_transport::{Error, Message, Transport, TransportExt, stack::OptimizedAcceptor};

pub(crate) use crate::suite::{Wire, server::Arrival};
use crate::{
    suite::{Pings, client::Target, server::Host},
    transports::proxy::Proxy,
};

pub(crate) type Dial = BoxCloneSyncService<http::Request<()>, http::Response<Wire>, Error>;

pub(crate) const SUBPROTOCOL: &str = OptimizedAcceptor::SUBPROTOCOL;

/// A transport under test: a client's connector, a server, and a link between them that is cut.
pub(crate) trait Carrier {
    /// Whether the transport answers no pings itself.
    const NEEDS_ANSWERS: bool = false;

    /// How many units of [`open`](Self::open)'s budgets 100 messages take, about: bytes, datagrams, or messages (which
    /// are batches).
    const UNITS: usize;

    /// How many connections of a test are cut, at most.
    const CUTS: usize = 8;

    /// Each connection is cut after its number of units; later ones are never cut.
    fn open(budgets: Vec<usize>) -> impl Future<Output = Route> + Send;
}

/// From a client to a server.
pub(crate) struct Route {
    pub(crate) dial: Dial,
    pub(crate) url: String,
    pub(crate) arrivals: UnboundedReceiver<Arrival>,
    pub(crate) cuts: Cuts,
}

/// How many connections were cut.
pub(crate) type Cuts = Arc<AtomicUsize>;

/// The server's door: what its handlers are given goes to the test.
#[derive(Clone)]
pub(crate) struct Door(UnboundedSender<Arrival>);

impl Door {
    pub(crate) fn new() -> (Self, UnboundedReceiver<Arrival>) {
        let (sender, arrivals) = unbounded_channel();
        (Self(sender), arrivals)
    }

    pub(crate) fn enter<T>(&self, transport: T, is_known: bool)
    where
        T: Transport<Message, In = Message, TransportError = Error> + Send + 'static,
    {
        // A test that is over takes no more.
        let _ = self.0.send(Arrival { wire: transport.into_boxed(), is_known });
    }
}

/// Any connector as the suite takes it.
pub(crate) fn dial<C, T>(connector: C) -> Dial
where
    C: Service<http::Request<()>, Response = http::Response<T>, Error = Error>,
    C: Clone + Send + Sync + 'static,
    C::Future: Send + 'static,
    T: Transport<Message, In = Message, TransportError = Error> + Send + 'static,
{
    BoxCloneSyncService::new(
        connector.map_response(|response: http::Response<T>| response.map(TransportExt::into_boxed)),
    )
}

/// The way to a server over TCP.
pub(crate) async fn link(server: SocketAddr, budgets: Vec<usize>) -> (SocketAddr, Cuts) {
    // The proxy carries one direction at a time: what is to be held up by the peer must not pass it.
    if budgets.is_empty() {
        return (server, Cuts::default());
    }
    let proxy = Proxy::start(server, budgets).await;
    (proxy.address, proxy.cuts)
}

impl Route {
    /// The two halves of a case.
    pub(crate) fn halves<C: Carrier>(self) -> (Target<Dial>, Host, Cuts) {
        let pings = if C::NEEDS_ANSWERS { Pings::Answered } else { Pings::Its };
        let meet = Arc::new(Barrier::new(2));
        let met = meet.clone();
        let met = async move {
            met.wait().await;
        }
        .boxed_local();
        let target = Target { dial: self.dial, url: self.url, pings, meet: met };
        (target, Host { arrivals: self.arrivals, pings, meet }, self.cuts)
    }

    /// Connects as a client that offers nothing.
    pub(crate) async fn connect(&mut self) -> (Wire, Wire) {
        let request = http::Request::get(&self.url).body(()).unwrap();
        let near = self.dial.clone().oneshot(request).await.unwrap().into_body();
        (near, self.arrivals.recv().await.unwrap().wire)
    }
}
