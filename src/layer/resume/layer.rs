use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    ResumeHandle, ResumedTransport, Verdict,
    cell::SessionCell,
    wire::{self, Own, Parsed, Welcome, Window},
};
use crate::{Error, Message, Transport, layer::stall::Patience, log, rt::Timer, transport::wakers::WakerPair};

/// A layer for connectors that lets sessions outlive connections. See the [module](super) for the complete
/// documentation.
///
/// | setting | default |
/// |---|---|
/// | [`replay_messages`](Self::replay_messages) | 1024 |
/// | [`replay_bytes`](Self::replay_bytes) | 1 MiB |
/// | [`max_stalled_connections`](Self::max_stalled_connections) | 1000 |
/// | [`max_stalled_time`](Self::max_stalled_time) | 10 min |
/// | [`ack_delay`](Self::ack_delay) | 100 ms |
/// | [`deadline`](Self::deadline) | 10 s |
#[derive(Clone, Debug)]
pub struct ResumeLayer {
    config: Config,
    handle: Option<ResumeHandle>,
}

/// The settings that both ends of a session have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) window: Window,
    pub(super) patience: Patience,
    pub(super) ack_delay: Duration,
    pub(super) deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Window::default(),
            patience: Patience::default(),
            ack_delay: Duration::from_millis(100),
            deadline: Duration::from_secs(10),
        }
    }
}

/// Defines the setters of a type with a [`Config`] in its field `config`.
macro_rules! session_settings {
    () => {
        /// Sets how many messages of a session may be accepted and not yet acknowledged, at least 1. Defaults to 1024.
        /// The sink is not ready while that many are.
        ///
        /// It also bounds the messages of the peer that this end holds while its user waits to write and does not read.
        /// That bound never goes below 1024 messages, whatever is set: a peer may rely on it.
        #[must_use]
        pub fn replay_messages(mut self, messages: usize) -> Self {
            self.config.window.messages = u32::try_from(messages.max(1)).unwrap_or(u32::MAX);
            self
        }

        /// Sets how many bytes of payload of a session may be accepted and not yet acknowledged, at least 1. Defaults
        /// to 1 MiB (1,048,576 bytes). The last message may exceed it.
        ///
        /// It also bounds the bytes of the peer that this end holds while its user waits to write and does not read.
        /// That bound never goes below 1 MiB, whatever is set: a peer may rely on it.
        #[must_use]
        pub fn replay_bytes(mut self, bytes: usize) -> Self {
            self.config.window.bytes = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
            self
        }

        /// Sets how many connections in a row may end without progress before the session is given up, at least 1.
        /// Defaults to 1000.
        ///
        /// A connection makes progress if a message was acknowledged, or if no message waits for its acknowledgement
        /// when the connection ends. Incoming messages are no progress while one waits. Progress resets all counts. A
        /// connection that is cut while the user of either end does not read does not count either.
        ///
        /// Fewer connections are enough if a message is to blame for their end, however many others end in between:
        ///
        /// - three that ended with close code 1003, 1007 or 1009, or with an error for which
        ///   [`is_too_large`](crate::Error::is_too_large) is true
        /// - 16 that ended in one of these ways or with code 1011
        ///
        /// The stream of the transport then returns an error that names the last cause.
        /// [`is_too_large`](crate::Error::is_too_large) is true for it if the cause was the size of a message. The next
        /// connection begins a new session.
        #[must_use]
        pub fn max_stalled_connections(mut self, connections: u32) -> Self {
            self.config.patience.connections = connections.max(1);
            self
        }

        /// Sets how long connections may end without progress before the session is given up. Defaults to 10 minutes.
        ///
        /// The time counts from the end of the first of them, and only once 16 have ended: after a long outage, a few
        /// that are cut prove nothing. See [`max_stalled_connections`](Self::max_stalled_connections).
        #[must_use]
        pub fn max_stalled_time(mut self, time: Duration) -> Self {
            self.config.patience.time = time;
            self
        }

        /// Sets how long a received message may stay without an acknowledgement. Defaults to 100 ms. Once a quarter of
        /// the peer's bounds is used, the acknowledgement goes with the next message that is sent; once half is used,
        /// it goes at once.
        #[must_use]
        pub fn ack_delay(mut self, time: Duration) -> Self {
            self.config.ack_delay = time;
            self
        }
    };
}

#[cfg(not(target_arch = "wasm32"))]
pub(super) use session_settings;

impl ResumeLayer {
    /// Creates a layer with the defaults. Each connector that it is applied to has its own session.
    #[must_use]
    pub fn new() -> Self {
        Self { config: Config::default(), handle: None }
    }

    /// Shows the session through `handle`. One handle belongs to one connector: two connectors with the same handle
    /// would share one session, and take it from each other.
    #[must_use]
    pub fn handle(mut self, handle: ResumeHandle) -> Self {
        self.handle = Some(handle);
        self
    }

    session_settings!();

    /// Sets how long the opening exchange may take after the inner connector has connected. Defaults to 10 s.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Self {
        self.config.deadline = time;
        self
    }

    /// Opens the session on a transport that is already connected, or resumes it there.
    /// [`SessionStore::accept`](super::SessionStore::accept) is the server's side.
    ///
    /// The session is that of this layer's [`handle`](Self::handle). Without one, each call begins a new session. A
    /// connector that calls this reports the verdict with [`ResumedTransport::insert_into`].
    ///
    /// # Errors
    ///
    /// Returns an error for which one of these is true:
    ///
    /// - [`is_timeout`](Error::is_timeout): the session was not opened within [`deadline`](Self::deadline).
    /// - [`is_closed`](Error::is_closed): the server closed the connection instead, the connection ended, or a newer
    ///   connection took the session.
    /// - [`is_protocol`](Error::is_protocol): the server does not use a [`SessionStore`](super::SessionStore), or
    ///   breaks the protocol.
    ///
    /// Errors of the transport are returned unchanged.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection. The session stays with the handle.
    pub async fn open<T>(&self, transport: T) -> Result<ResumedTransport<T>, Error>
    where
        T: Transport<Message, In = Message> + Unpin,
    {
        // Without a handle there is nothing that could resume it: a session of this connection alone.
        let handle = self.handle.clone().unwrap_or_default();
        let mut opening = Opening::new(transport, self.config, handle.cell);
        poll_fn(|cx| opening.poll(cx)).await
    }
}

impl Default for ResumeLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ResumeLayer {
    type Service = Resume<S>;

    fn layer(&self, connector: S) -> Resume<S> {
        Resume { connector, config: self.config, handle: self.handle.clone().unwrap_or_default() }
    }
}

/// A connector whose connections belong to one session, created by [`ResumeLayer`].
///
/// The extensions of its response hold the [`Verdict`](super::Verdict). A clone is a connector of the same session.
#[derive(Clone, Debug)]
pub struct Resume<S> {
    connector: S,
    config: Config,
    handle: ResumeHandle,
}

impl<S> Resume<S> {
    /// Returns a handle of the session.
    #[must_use]
    pub fn handle(&self) -> ResumeHandle {
        self.handle.clone()
    }

    accessors! {
        connector: S, "connector",
        get_mut: "Transports that it makes directly have no session.",
        into_inner: ", and gives the session up.",
    }
}

impl<S, R, T> Service<R> for Resume<S>
where
    S: Service<R, Response = http::Response<T>>,
    S::Error: Into<Error>,
    T: Transport<Message, In = Message> + Unpin,
{
    type Response = http::Response<ResumedTransport<T>>;
    type Error = Error;
    type Future = ResponseFuture<S::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        ResponseFuture {
            connect: self.connector.call(request),
            head: http::Response::default(),
            opening: None,
            config: self.config,
            cell: self.handle.cell.clone(),
        }
    }
}

pin_project! {
    /// The future of [`Resume`]: connects, and opens the session.
    ///
    /// Dropping it drops the connection. The session stays with the connector.
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F, T> {
        #[pin]
        connect: F,
        // The head of the inner connector's response, until the session is open.
        head: http::Response<()>,
        opening: Option<Opening<T>>,
        config: Config,
        cell: Arc<SessionCell>,
    }
}

impl<F, T, E> Future for ResponseFuture<F, T>
where
    F: Future<Output = Result<http::Response<T>, E>>,
    E: Into<Error>,
    T: Transport<Message, In = Message> + Unpin,
{
    type Output = Result<http::Response<ResumedTransport<T>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let opening = match this.opening {
            Some(opening) => opening,
            None => {
                let (head, transport) = ready!(this.connect.poll(cx)).map_err(Into::into)?.into_parts();
                *this.head = http::Response::from_parts(head, ());
                this.opening.insert(Opening::new(transport, *this.config, this.cell.clone()))
            }
        };
        let transport = ready!(opening.poll(cx))?;
        let mut response = std::mem::take(this.head);
        transport.insert_into(response.extensions_mut());
        let response = response.map(|()| transport);
        Poll::Ready(Ok(response))
    }
}

debug_fields!([F, T] ResponseFuture<F, T>, |this| { is_connected: this.opening.is_some() });

/// The maximum number of control messages before the server's answer.
const MAX_CONTROL: usize = 16;

/// The client's side of the opening exchange.
#[derive(Debug)]
struct Opening<T> {
    /// The connection, until the session has it.
    link: Option<T>,
    config: Config,
    cell: Arc<SessionCell>,
    epoch: u64,
    step: Step,
    deadline: Timer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    /// An older transport has the session.
    Fetch,
    Flush,
    Wait {
        control: usize,
    },
}

impl<T> Opening<T> {
    fn new(link: T, config: Config, cell: Arc<SessionCell>) -> Self {
        Self { link: Some(link), config, cell, epoch: 0, step: Step::Begin, deadline: Timer::new() }
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Opening<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResumedTransport<T>, Error>> {
        if self.step == Step::Begin {
            // Not earlier: the older transport is good until there is a newer one.
            self.epoch = self.cell.supersede();
            self.deadline.set(self.config.deadline);
            self.step = Step::Fetch;
        }
        match self.poll_exchange(cx) {
            Poll::Ready(Ok(welcome)) => Poll::Ready(self.finish(&welcome)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(self.deadline.poll(cx));
                Poll::Ready(Err(self.late()))
            }
        }
    }

    fn late(&self) -> Error {
        let limit = self.config.deadline;
        if self.step == Step::Fetch {
            self.cell.abandon();
            return Error::timeout(format!(
                "resume: an older transport of the session was neither polled nor dropped within {limit:?} \
                 (ResumeLayer::deadline); the next connection begins a new session"
            ));
        }
        Error::timeout(format!("resume: the server did not open the session within {limit:?} (ResumeLayer::deadline)"))
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<Welcome, Error>> {
        let Some(link) = &mut self.link else { return Poll::Pending };
        let mut link = Pin::new(link);
        loop {
            match self.step {
                Step::Begin | Step::Fetch => {
                    // Asked again with each poll until it is sent: the position is that of the moment, and a newer
                    // connection may have come.
                    let hello = ready!(self.cell.poll_hello(self.epoch, self.config.window, cx))?;
                    // A new connection has room at once or soon. Until then the session stays in its cell.
                    ready!(link.as_mut().poll_ready(cx)).map_err(Into::into)?;
                    link.as_mut().start_send(Own::Hello(hello).into_message()).map_err(Into::into)?;
                    self.step = Step::Flush;
                }
                Step::Flush => {
                    ready!(link.as_mut().poll_flush(cx)).map_err(Into::into)?;
                    self.step = Step::Wait { control: 0 };
                }
                Step::Wait { control } => match ready!(link.as_mut().poll_next(cx)) {
                    Some(message) => match message.map_err(Into::into)? {
                        Message::Close(frame) => {
                            let error = Error::closed("resume: the server closed instead of opening a session");
                            return Poll::Ready(Err(error.with_close_frame(frame)));
                        }
                        // From layers below that begin at once. Bounded, as the deadline alone would let a peer keep
                        // this loop busy.
                        Message::Ping(_) | Message::Pong(_) if control < MAX_CONTROL => {
                            self.step = Step::Wait { control: control + 1 };
                        }
                        message => return Poll::Ready(welcome(message)),
                    },
                    None => {
                        let error = Error::closed("resume: the connection ended before the session was opened");
                        return Poll::Ready(Err(error));
                    }
                },
            }
        }
    }

    fn finish(&mut self, welcome: &Welcome) -> Result<ResumedTransport<T>, Error> {
        let Some(link) = self.link.take() else {
            return Err(Error::closed("resume: the connection was opened already"));
        };
        let (wakers, both) = WakerPair::new();
        // Only now does the session leave its cell. Whatever failed before has cost the connection alone.
        let (ledger, verdict) =
            self.cell.welcomed(self.epoch, (self.config.window, self.config.patience), welcome, both)?;
        match verdict {
            Verdict::New => {}
            Verdict::Resumed { replayed } => log::resume_resumed(replayed),
            Verdict::Fresh { lost } => log::resume_fresh(lost),
        }
        let opened = (self.epoch, verdict);
        Ok(ResumedTransport::new(link, wakers, ledger, self.cell.clone(), opened, self.config.ack_delay))
    }
}

fn welcome(message: Message) -> Result<Welcome, Error> {
    match wire::read(message)? {
        Parsed::Own(Own::Welcome(welcome)) => Ok(welcome),
        _ => Err(Error::protocol(
            "resume: the server's first message is not the answer of a session: it does not use a SessionStore",
        )),
    }
}
