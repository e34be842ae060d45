//! A network of channels with a `SessionStore` at its end.

use std::{future::Ready, task::Context};

use futures_util::{FutureExt, Sink, SinkExt, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::{Layer, Service, ServiceExt, util::ServiceFn};
use tower_transport::{
    Channel, Error, Message, Transport, channel,
    layer::resume::{Accepted, Resume, ResumeLayer, ResumedTransport, Session, SessionStore, Verdict},
    test_util::fault::{Fault, Faults},
};

pub(super) type Near = Fault<Channel>;
pub(super) type Dial =
    ServiceFn<Box<dyn FnMut(http::Request<()>) -> Ready<Result<http::Response<Near>, Error>> + Send>>;

/// A connector of channels with faults; the far ends come out of the receiver.
pub(super) fn dial(capacity: usize, faults: &Faults) -> (Dial, UnboundedReceiver<Channel>) {
    let (dialed, incoming) = unbounded_channel();
    let layer = faults.layer();
    let dial = Box::new(move |_: http::Request<()>| {
        let (near, far) = channel::<Message, Message>(capacity);
        dialed.send(far).unwrap();
        std::future::ready(Ok(http::Response::new(layer.layer(near))))
    });
    (tower::service_fn(dial as _), incoming)
}

/// A server that accepts everyone, with the outcomes.
pub(super) struct Server {
    pub(super) store: SessionStore<Channel>,
    pub(super) sessions: UnboundedReceiver<Session<Channel>>,
    pub(super) resumed: UnboundedReceiver<Result<(), Error>>,
}

pub(super) fn serve(store: SessionStore<Channel>, mut incoming: UnboundedReceiver<Channel>) -> Server {
    let ((to_sessions, sessions), (to_resumed, resumed)) = (unbounded_channel(), unbounded_channel());
    let accepting = store.clone();
    tokio::spawn(async move {
        while let Some(far) = incoming.recv().await {
            let (store, sessions, resumed) = (accepting.clone(), to_sessions.clone(), to_resumed.clone());
            tokio::spawn(async move {
                match store.accept(far).await {
                    Ok(Accepted::New(session)) => drop(sessions.send(session)),
                    Ok(Accepted::Resumed) => drop(resumed.send(Ok(()))),
                    Err(error) => drop(resumed.send(Err(error))),
                }
            });
        }
    });
    Server { store, sessions, resumed }
}

/// A client with its server.
pub(super) struct World {
    pub(super) client: Resume<Dial>,
    pub(super) server: Server,
    pub(super) faults: Faults,
}

pub(super) fn world(layer: ResumeLayer, store: SessionStore<Channel>) -> World {
    let faults = Faults::new();
    let (dial, incoming) = dial(64, &faults);
    World { client: layer.layer(dial), server: serve(store, incoming), faults }
}

impl World {
    pub(super) async fn connect(&mut self) -> (ResumedTransport<Near>, Verdict) {
        connect(&mut self.client).await.unwrap()
    }

    /// The first connection and its session.
    pub(super) async fn open(&mut self) -> (ResumedTransport<Near>, Session<Channel>) {
        let (near, verdict) = self.connect().await;
        assert_eq!(verdict, Verdict::New);
        (near, self.server.sessions.recv().await.unwrap())
    }

    /// Connects again while the handler polls the session.
    pub(super) async fn reopen(&mut self, session: &mut Session<Channel>) -> (ResumedTransport<Near>, Verdict) {
        let mut connecting = std::pin::pin!(connect(&mut self.client));
        loop {
            tokio::select! {
                connected = &mut connecting => return connected.unwrap(),
                // The handler looks after its session, and takes nothing from it.
                () = flushing(session) => {}
            }
        }
    }
}

async fn flushing(session: &mut Session<Channel>) {
    let _ = std::future::poll_fn(|cx| session.poll_ready_unpin(cx)).await;
    tokio::task::yield_now().await;
}

pub(super) async fn connect<S, T>(client: &mut Resume<S>) -> Result<(ResumedTransport<T>, Verdict), Error>
where
    Resume<S>: Service<http::Request<()>, Response = http::Response<ResumedTransport<T>>, Error = Error>,
{
    let response = client.ready().await?.call(http::Request::new(())).await?;
    let verdict = *response.extensions().get::<Verdict>().unwrap();
    Ok((response.into_body(), verdict))
}

pub(super) fn message(number: usize) -> Message {
    Message::text(format!("n{number}"))
}

/// Accepts messages, which must all have room, and flushes as far as that goes.
pub(super) fn put<T: Sink<Message, Error = Error> + Unpin>(transport: &mut T, numbers: std::ops::Range<usize>) {
    for number in numbers {
        transport.feed(message(number)).now_or_never().expect("there is room").unwrap();
    }
    let _ = transport.poll_flush_unpin(&mut Context::from_waker(std::task::Waker::noop()));
}

/// Receives exactly these.
pub(super) async fn take<T>(transport: &mut T, numbers: std::ops::Range<usize>)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    for number in numbers {
        assert_eq!(transport.next().await.expect("not the end").unwrap(), message(number));
    }
}

/// Nothing can be received now.
pub(super) fn quiet<T>(transport: &mut T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let item = transport.next().now_or_never();
    assert!(item.is_none(), "{item:?}");
}
