//! A simple client: one object that connects, sends, receives and closes.
//!
//! # Why
//!
//! [`WebSocketContext`] is for a program that wants a WebSocket and no stack. It is an [`OptimizedTransport`] with its
//! defaults, in JSON, behind `&self`. Each method is a line or two over the stack. When you need more, use the stack
//! directly.
//!
//! # Coming from another library
//!
//! The names are those that users of Leptos's WebSocket contexts know: `new_with_url`, `connect`, `send_message`,
//! `receive_message`, `state`, `reconnect_with_backoff`, `close`. Three things differ: `connect` completes when there
//! is a connection, a message that could not be sent is an error, and `receive_message` returns the messages that the
//! peer sent.
//!
//! # Backpressure
//!
//! [`connect`](WebSocketContext::connect) waits for the handshake, sending waits for a place in the queue, and
//! receiving waits for a message.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # use hyper_util::{rt::TokioIo, service::TowerToHyperService};
//! # use tower_transport::{TransportExt, transport::{accept, websocket::WebSocketService}};
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("ws://{}/", listener.local_addr()?);
//! # tokio::spawn(async move {
//! #     let echo = WebSocketService::new(|mut socket, _| async move {
//! #         while let Some(Ok(message)) = socket.receive_message().await {
//! #             let _ = socket.send_message(message).await;
//! #         }
//! #     });
//! #     loop {
//! #         let (tcp, _) = accept(|| listener.accept()).await;
//! #         let service = TowerToHyperService::new(echo.clone());
//! #         let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
//! #         tokio::spawn(http.with_upgrades());
//! #     }
//! # });
//! use tower_transport::stack::WebSocketContext;
//!
//! let context = WebSocketContext::new_with_url(&url); // an echo server
//! context.connect().await?;
//! context.send_message(&("order", 17)).await?;
//! let (name, number): (String, u32) = context.receive_message().await?;
//! assert_eq!((name.as_str(), number), ("order", 17));
//! context.close().await?;
//! assert!(!context.is_connected());
//! # Ok::<(), tower_transport::Error>(()) }).unwrap();
//! ```

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::lock::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use super::{Capabilities, OptimizedBuilder, OptimizedHandle, OptimizedTransport};
use crate::{
    Codec, Error, Message, Receiver, Sender, Text,
    codec::JsonCodec,
    layer::reconnect::{ReconnectHandle, State},
    sync::Mutex as Lock,
};

/// A WebSocket client in one object. See the [module](self) for the complete documentation.
///
/// Natively it requires a tokio runtime, on which [`connect`](Self::connect) spawns the task that drives the
/// connection.
pub struct WebSocketContext {
    url: String,
    builder: OptimizedBuilder,
    connection: Lock<Option<Connection>>,
    incoming: Lock<Option<Incoming>>,
}

/// Behind its own async lock, so that a receiving task does not block other methods.
type Incoming = Arc<Mutex<Receiver<Message>>>;

struct Connection {
    sender: Sender<Message>,
    handle: OptimizedHandle,
}

impl WebSocketContext {
    /// Creates a context for this URL, with the defaults of [`OptimizedTransport`]. It does not connect yet.
    #[must_use]
    pub fn new_with_url(url: &str) -> Self {
        Self::new(url, OptimizedTransport::builder())
    }

    /// Creates a context for this URL, with the settings of `builder`.
    #[must_use]
    pub fn new(url: &str, builder: OptimizedBuilder) -> Self {
        Self { url: url.to_owned(), builder, connection: Lock::default(), incoming: Lock::default() }
    }

    /// Returns the URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connects, replacing any existing connection. The old one closes after its queued messages are sent. A connection
    /// that is lost later is reconnected automatically.
    ///
    /// # Errors
    ///
    /// Returns the error of the failed attempt: see [`OptimizedBuilder::connect`]. The context is then unchanged.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future cancels the connection attempt.
    pub async fn connect(&self) -> Result<(), Error> {
        let transport = self.builder.clone().connect(&self.url).await?;
        let handle = transport.handle();
        let (sender, receiver) = transport.split();
        // The receiver is replaced first: a task that still receives from the old connection continues with it. The old
        // connection ends with its last sender.
        let incoming = self.incoming.lock().replace(Arc::new(Mutex::new(receiver)));
        let connection = self.connection.lock().replace(Connection { sender, handle });
        // Dropping them wakes the tasks of the old connection, which must not happen under the locks.
        drop((incoming, connection));
        Ok(())
    }

    /// Sends a value as JSON text. It completes when the message has a place in the queue.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true if there is no connection and there will be
    /// none. Returns an error for which [`is_codec`](Error::is_codec) is true if the value cannot be serialized as
    /// JSON.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future before there is a place in the queue means that the message is not sent.
    pub async fn send_message<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Error> {
        let message = JsonCodec::<&T, ()>::new().encode(&value)?;
        self.send(message).await
    }

    /// Receives a value as JSON, from a text or a binary message. Pings, pongs and close messages are skipped.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_codec`](Error::is_codec) is true if a message is not a valid `T`; the message is
    /// lost. Returns an error for which [`is_closed`](Error::is_closed) is true at the end.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future loses no message.
    pub async fn receive_message<T: DeserializeOwned>(&self) -> Result<T, Error> {
        JsonCodec::<(), T>::new().decode(self.receive().await?)
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send).
    pub async fn send_text(&self, text: impl Into<Text>) -> Result<(), Error> {
        self.send(Message::text(text)).await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`send`](Self::send).
    pub async fn send_binary(&self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.send(Message::binary(bytes)).await
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true if there is no connection and there will be
    /// none.
    ///
    /// # Cancel safety
    ///
    /// The same as that of [`send_message`](Self::send_message).
    pub async fn send(&self, message: Message) -> Result<(), Error> {
        let sender = self.connection.lock().as_ref().map(|connection| connection.sender.clone());
        sender.ok_or_else(not_connected)?.send(message).await
    }

    /// Receives the next data message as it is. If several tasks receive, each message goes to one of them. A task that
    /// is waiting when [`connect`](Self::connect) replaces the connection continues with the new one after the old one
    /// has closed.
    ///
    /// # Errors
    ///
    /// Returns the errors of the stack. Returns an error for which [`is_closed`](Error::is_closed) is true at the end,
    /// and if [`connect`](Self::connect) was never called.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future loses no message.
    pub async fn receive(&self) -> Result<Message, Error> {
        let mut incoming = self.incoming.lock().clone().ok_or_else(not_connected)?;
        loop {
            while let Some(message) = incoming.lock().await.receive().await.transpose()? {
                if message.is_data() {
                    return Ok(message);
                }
            }
            let newest = self.incoming.lock().clone();
            match newest {
                Some(newer) if !Arc::ptr_eq(&newer, &incoming) => incoming = newer,
                _ => return Err(Error::closed("the connection has ended: call `connect` to make another")),
            }
        }
    }

    /// Returns the state of the connection.
    #[must_use]
    pub fn state(&self) -> State {
        self.connection.lock().as_ref().map_or(State::Disconnected, |connection| connection.handle.state())
    }

    /// Returns whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state().is_connected()
    }

    /// Returns the capabilities that both ends have on.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.connection.lock().as_ref().map_or(Capabilities::NONE, |connection| connection.handle.capabilities())
    }

    /// Returns a handle to the status of the connection. Returns `None` before [`connect`](Self::connect).
    #[must_use]
    pub fn handle(&self) -> Option<OptimizedHandle> {
        self.connection.lock().as_ref().map(|connection| connection.handle.clone())
    }

    /// Reconnects immediately: replaces a live connection, skips a pending backoff delay, or makes the first
    /// connection. Failed attempts are retried with the backoff. This method waits until there is a connection, or
    /// until reconnecting has given up.
    ///
    /// # Errors
    ///
    /// Returns the reason why reconnecting has given up. If there was no connection before, returns the error of the
    /// first attempt.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future does not stop the attempts.
    pub async fn reconnect_with_backoff(&self) -> Result<(), Error> {
        use futures_util::StreamExt;

        let handle = self.handle().and_then(|handle| handle.reconnect().cloned());
        let Some(handle) = handle.filter(has_not_ended) else { return self.connect().await };
        let before = handle.connections();
        handle.reconnect_now();
        let mut states = handle.states();
        while let Some(state) = states.next().await {
            match state {
                State::Connected if handle.connections() > before => return Ok(()),
                State::Failed { cause } => return Err(cause),
                _ => {}
            }
        }
        Err(Error::closed("the context was closed while it reconnected"))
    }

    /// Closes the connection after its queued messages are sent. Without a connection it does nothing. Messages that
    /// the peer sends before it closes can still be received.
    ///
    /// # Errors
    ///
    /// Returns the error that ended the connection before all messages were sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future does not stop the close.
    pub async fn close(&self) -> Result<(), Error> {
        let connection = self.connection.lock().take();
        // The driver closes the connection when the last sender is dropped.
        let Some(Connection { mut sender, .. }) = connection else { return Ok(()) };
        sender.flush().await
    }

    /// The same as [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`close`](Self::close).
    pub async fn disconnect(&self) -> Result<(), Error> {
        self.close().await
    }
}

fn has_not_ended(handle: &ReconnectHandle) -> bool {
    !matches!(handle.state(), State::Failed { .. } | State::Disconnected)
}

fn not_connected() -> Error {
    Error::closed("there is no connection: call `connect` first")
}

impl fmt::Debug for WebSocketContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is omitted: it may contain a secret.
        f.debug_struct("WebSocketContext").field("state", &self.state()).finish_non_exhaustive()
    }
}
