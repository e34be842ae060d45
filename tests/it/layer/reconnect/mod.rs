//! A server that a test scripts, connection by connection, and what the layer makes of it.

mod connect;
mod contract;
mod driven;
mod lost;
mod observe;
mod peer;
mod refused;
mod socket;

use std::{
    collections::VecDeque,
    future::{Pending, Ready, pending, ready},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::Either;
use http::{Request, Response};
use tower::{Layer, Service};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Error, Message, TransportExt, channel,
    layer::reconnect::{Backoff, Reconnect, ReconnectLayer, State},
    test_util::fault::{Fault, Faults},
};

/// A server's reaction to the next attempt. With an empty script it accepts.
enum Step {
    Accept(Response<()>),
    Refuse(Error),
    /// Never answers.
    Hang,
}

/// One connection, as the server has it: the far end, and what can be done to the near one.
struct Peer {
    channel: Channel,
    faults: Faults,
}

#[derive(Clone, Default)]
struct Server(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    script: VecDeque<Step>,
    accepted: VecDeque<Peer>,
    requests: Vec<Request<()>>,
    capacity: Option<usize>,
}

type Connecting =
    Either<Ready<Result<Response<Fault<Channel>>, Error>>, Pending<Result<Response<Fault<Channel>>, Error>>>;

impl Server {
    fn new(script: impl IntoIterator<Item = Step>) -> Self {
        let server = Self::default();
        server.lock().script.extend(script);
        server
    }

    fn refusing(errors: impl IntoIterator<Item = Error>) -> Self {
        Self::new(errors.into_iter().map(Step::Refuse))
    }

    fn capacity(self, messages: usize) -> Self {
        self.lock().capacity = Some(messages);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The oldest connection that the test has not taken.
    fn accept(&self) -> Peer {
        self.lock().accepted.pop_front().expect("nobody connected")
    }

    fn attempts(&self) -> usize {
        self.lock().requests.len()
    }

    fn will(&self, step: Step) {
        self.lock().script.push_back(step);
    }
}

impl Service<Request<()>> for Server {
    type Response = Response<Fault<Channel>>;
    type Error = Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Connecting {
        let mut inner = self.lock();
        inner.requests.push(request);
        let step = inner.script.pop_front().unwrap_or_else(|| Step::Accept(Response::new(())));
        let answer = match step {
            Step::Hang => return Either::Right(pending()),
            Step::Refuse(error) => Err(error),
            Step::Accept(response) => {
                let (near, far) = channel(inner.capacity.unwrap_or(64));
                let faults = Faults::new();
                inner.accepted.push_back(Peer { channel: far, faults: faults.clone() });
                Ok(response.map(|()| near.layer(faults.layer())))
            }
        };
        Either::Left(ready(answer))
    }
}

impl Peer {
    fn put(&mut self, message: impl Into<Message>) {
        use futures_util::FutureExt;
        self.channel.send_message(message.into()).now_or_never().unwrap().unwrap();
    }

    /// The messages that have arrived, as text.
    fn take(&mut self) -> Vec<String> {
        use futures_util::FutureExt;
        let next = || self.channel.receive_message().now_or_never().flatten();
        std::iter::from_fn(next).map(|message| message.unwrap().as_text().unwrap().to_owned()).collect()
    }
}

type Stack = Reconnect<Server, Message>;

fn layer() -> ReconnectLayer {
    ReconnectLayer::new("ws://example.com/feed", Backoff::fixed(Duration::from_secs(1)))
}

fn stack(server: &Server) -> Stack {
    layer().layer(server.clone())
}

fn closed(code: u16) -> Message {
    Message::Close(Some(CloseFrame::new(CloseCode::new(code).unwrap(), "why")))
}

/// A state in one word.
fn word(state: &State) -> String {
    match state {
        State::Disconnected => "disconnected".into(),
        State::Connecting { attempt, .. } => format!("connecting {attempt}"),
        State::Connected => "connected".into(),
        State::Reconnecting { attempt, after, .. } => format!("reconnecting {attempt} after {after:?}"),
        State::Failed { cause, .. } => format!("failed: {cause}"),
        other => format!("{other:?}"),
    }
}
