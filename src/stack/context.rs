//! A simple client: one object that connects, sends, receives and closes.
//!
//! # Why
//!
//! For a program that wants a WebSocket and no stack: [`WebSocketContext`] is [`OptimizedTransport`] with its defaults, in JSON, behind
//! `&self`. Each method is a line or two over the stack; when you need more of it, take the stack.
//!
//! # Coming from another library
//!
//! The names are those that users of Leptos's WebSocket contexts know: `new_with_url`, `connect`, `send_message`,
//! `receive_message`, `state`, `reconnect_with_backoff`, `close`. What is different: `connect` is done when there is a connection, a message
//! that could not be sent is an error, and `receive_message` gives what the peer sent.
//!
//! # Where it waits
//!
//! [`connect`](WebSocketContext::connect) for the handshake; sending for a place in the queue; receiving for a message.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # use hyper_util::{rt::TokioIo, service::TowerToHyperService};
//! # use tower_transport::{TransportExt, transport::{accept, websocket::WebSocketUpgrade}};
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("ws://{}/", listener.local_addr()?);
//! # tokio::spawn(async move {
//! #     let echo = WebSocketUpgrade::new(|mut socket, _| async move {
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

use std::{
    fmt,
    sync::{Arc, Mutex as Lock, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::lock::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use super::{Capabilities, OptimizedBuilder, OptimizedHandle, OptimizedTransport};
use crate::{
    Codec, Error, Message, Receiver, Sender, Text,
    codec::JsonCodec,
    layer::reconnect::{ReconnectHandle, State},
};

/// A WebSocket client in one object. See the [module](self) for the whole story.
///
/// It needs a tokio runtime, on which [`connect`](Self::connect) spawns the task that drives the connection.
pub struct WebSocketContext {
    url: String,
    builder: OptimizedBuilder,
    connection: Lock<Option<Connection>>,
    incoming: Lock<Option<Incoming>>,
}

/// Behind an async lock of its own, so that a task that receives holds up no other method.
type Incoming = Arc<Mutex<Receiver<Message>>>;

struct Connection {
    sender: Sender<Message>,
    handle: OptimizedHandle,
}

impl WebSocketContext {
    /// A context for this URL, with the defaults of [`OptimizedTransport`]. Nothing is connected yet.
    #[must_use]
    pub fn new_with_url(url: &str) -> Self {
        Self::new(url, OptimizedTransport::builder())
    }

    /// A context for this URL, with settings of your own.
    #[must_use]
    pub fn new(url: &str, builder: OptimizedBuilder) -> Self {
        Self { url: url.to_owned(), builder, connection: Lock::default(), incoming: Lock::default() }
    }

    /// The URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connects, and replaces the connection that there was: that one closes once what was sent by it has left. From then on a
    /// connection that is lost is made again by itself.
    ///
    /// # Errors
    ///
    /// Why the attempt failed: see [`OptimizedBuilder::connect`]. The context is as it was before.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the attempt is.
    pub async fn connect(&self) -> Result<(), Error> {
        let transport = self.builder.clone().connect(&self.url).await?;
        let handle = transport.handle();
        let (sender, receiver) = transport.split();
        // First what a task goes on with that still receives from the connection before, which ends with its last sender.
        let incoming = lock(&self.incoming).replace(Arc::new(Mutex::new(receiver)));
        let connection = lock(&self.connection).replace(Connection { sender, handle });
        // Dropping them wakes the tasks of the connection before: not under the locks.
        drop((incoming, connection));
        Ok(())
    }

    /// Sends a value as JSON text: it is accepted when there is a place in the queue.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) where there is no connection, and will be none; [`is_codec`](Error::is_codec) for a value
    /// that is no JSON.
    ///
    /// # Cancel safety
    ///
    /// Dropped before there was a place, the message is not sent.
    pub async fn send_message<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Error> {
        let message = JsonCodec::<&T, ()>::new().encode(&value)?;
        self.send(message).await
    }

    /// Receives a value as JSON, text or binary; pings, pongs and close messages are passed over.
    ///
    /// # Errors
    ///
    /// [`is_codec`](Error::is_codec) for a message that is no `T`, which is lost; [`is_closed`](Error::is_closed) at the end.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is lost.
    pub async fn receive_message<T: DeserializeOwned>(&self) -> Result<T, Error> {
        JsonCodec::<(), T>::new().decode(self.receive().await?)
    }

    /// Sends text.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    pub async fn send_text(&self, text: impl Into<Text>) -> Result<(), Error> {
        self.send(Message::text(text)).await
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// Those of [`send`](Self::send).
    pub async fn send_binary(&self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.send(Message::binary(bytes)).await
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) where there is no connection, and will be none.
    ///
    /// # Cancel safety
    ///
    /// As [`send_message`](Self::send_message).
    pub async fn send(&self, message: Message) -> Result<(), Error> {
        let sender = lock(&self.connection).as_ref().map(|connection| connection.sender.clone());
        sender.ok_or_else(not_connected)?.send(message).await
    }

    /// Receives the next data message as it is. Where several tasks receive, each message goes to one of them. A task that waits
    /// while [`connect`](Self::connect) replaces the connection goes on with the new one, when the old one has closed.
    ///
    /// # Errors
    ///
    /// Those of the stack; [`is_closed`](Error::is_closed) at the end, and where there was no [`connect`](Self::connect).
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is lost.
    pub async fn receive(&self) -> Result<Message, Error> {
        let mut incoming = lock(&self.incoming).clone().ok_or_else(not_connected)?;
        loop {
            while let Some(message) = incoming.lock().await.receive().await.transpose()? {
                if message.is_data() {
                    return Ok(message);
                }
            }
            let newest = lock(&self.incoming).clone();
            match newest {
                Some(newer) if !Arc::ptr_eq(&newer, &incoming) => incoming = newer,
                _ => return Err(Error::closed("the connection has ended: call `connect` for another")),
            }
        }
    }

    /// Where the connection stands.
    #[must_use]
    pub fn state(&self) -> State {
        lock(&self.connection).as_ref().map_or(State::Disconnected, |connection| connection.handle.state())
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state().is_connected()
    }

    /// What is on between the two ends.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        lock(&self.connection).as_ref().map_or(Capabilities::NONE, |connection| connection.handle.capabilities())
    }

    /// Everything that can be seen of the connection; `None` before [`connect`](Self::connect).
    #[must_use]
    pub fn handle(&self) -> Option<OptimizedHandle> {
        lock(&self.connection).as_ref().map(|connection| connection.handle.clone())
    }

    /// Makes the connection anew, now: replaces one that stands, ends the wait for the next attempt, or connects where there was
    /// none. Attempts that fail are followed by others, as the backoff says; this waits until there is a connection, or
    /// none will be.
    ///
    /// # Errors
    ///
    /// Why there will be none. Where nothing was connected before, why the first attempt failed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the attempts go on.
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

    /// Closes the connection, once what was sent has left. Without a connection it does nothing. What the peer has sent before it
    /// closes too can still be received.
    ///
    /// # Errors
    ///
    /// The error that ended the connection before all had left.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the close goes on.
    pub async fn close(&self) -> Result<(), Error> {
        let connection = lock(&self.connection).take();
        // With its last sender, the driver closes the connection.
        let Some(Connection { mut sender, .. }) = connection else { return Ok(()) };
        sender.flush().await
    }

    /// As [`close`](Self::close).
    ///
    /// # Errors
    ///
    /// Those of [`close`](Self::close).
    pub async fn disconnect(&self) -> Result<(), Error> {
        self.close().await
    }
}

fn lock<T>(place: &Lock<T>) -> MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_not_ended(handle: &ReconnectHandle) -> bool {
    !matches!(handle.state(), State::Failed { .. } | State::Disconnected)
}

fn not_connected() -> Error {
    Error::closed("there is no connection: call `connect` first")
}

impl fmt::Debug for WebSocketContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URL: it may hold a secret.
        f.debug_struct("WebSocketContext").field("state", &self.state()).finish_non_exhaustive()
    }
}
