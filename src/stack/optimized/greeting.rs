//! The exchange of hellos, after a handshake that has chosen the stack's subprotocol.
//!
//! The server says hello first, and the client waits for it. Some servers choose whichever name is offered first
//! without knowing it. Such a server never gets a message that it did not ask for.
//!
//! A server that has stored the hello of another connection may send it. So the client's hello has a nonce, which the
//! server repeats in its next message. If a session follows, its opening message goes out with the client's hello, and
//! the proof costs no time.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::SinkExt;
use http::StatusCode;

use crate::{
    CloseCode, CloseFrame, Error, Message, Transport, TransportExt,
    rt::{self, Instant},
    stack::hello::{First, Hello},
};

/// The number of control messages that may come before the peer's hello.
const CONTROLS: usize = 16;

/// A ping that checks whether the server is alive while its hello is missing. The heartbeat's pings start with the
/// number 1, and the heartbeat treats a late pong to this ping as its own.
const ASK: &[u8] = b"ttxh\0\0\0\0";

/// The result of the exchange with a server that chose the stack's subprotocol.
pub(super) enum Greeting {
    /// The server knows the subprotocol.
    Hello(Hello),
    /// The server does not know it. This is its first message, and nothing was sent to it. The connection can be used
    /// for plain messages.
    Plain(Message),
    /// No hello came. The error is what this connection fails with, unless another one is made.
    Missing(Doubt, Error),
}

/// The reason to suspect that a connection failed because the stack's subprotocol was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// The server refused the handshake with a status that an unknown subprotocol may have caused.
    Refused,
    /// The server answers pings, or sends them, and does not say hello.
    Talks,
    /// The server closed the connection with a code that gives no other cause.
    Closed,
    /// A server that said hello before sent a message with the stack's mark that is not a valid hello. It may be newer,
    /// or another server may be in its place. Or a server's hello was not made for this connection.
    Malformed,
    /// Nothing came. The network may be the cause.
    Silent,
    /// The connection was cut, or the server closed it with a code of a restart. Network or server may be the cause.
    Cut,
}

impl Doubt {
    /// Returns the doubt about a handshake that failed with `error`.
    ///
    /// Python's `websockets` and Go's `x/net/websocket` answer 400 to names that they do not accept. 401 and 403 are
    /// left out, because rejected credentials that are sent twice may lock an account. 404 and other 5xx have more
    /// likely causes.
    ///
    /// A page learns no status. Its browser also fails the connection if the server accepts the handshake and chooses
    /// no name, so any failure may have that cause.
    pub(super) fn about_refusal(error: &Error) -> Option<Self> {
        if cfg!(target_arch = "wasm32") && error.is_io() {
            return Some(Self::Refused);
        }
        let status = error.status()?;
        [StatusCode::BAD_REQUEST, StatusCode::NOT_ACCEPTABLE, StatusCode::NOT_IMPLEMENTED]
            .contains(&status)
            .then_some(Self::Refused)
    }
}

impl Doubt {
    /// Returns the doubt about a hello after which the connection failed with `error`, before the server proved that
    /// the hello was its own. A connection that was merely cut raises none.
    pub(super) fn about_hello(error: &Error) -> Option<Self> {
        match () {
            () if error.is_protocol() => Some(Self::Malformed),
            () if error.is_timeout() => Some(Self::Silent),
            () => None,
        }
    }
}

/// Waits for the proof that the server's hello is its own.
pub(super) async fn proved(
    limit: Duration,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<(), Error>>,
) -> Result<(), Error> {
    rt::timeout(limit, poll_fn(|cx| poll(cx))).await.unwrap_or_else(|_| {
        Err(Error::timeout(format!("the peer did not answer this end's hello within {limit:?} (Limits::handshake)")))
    })
}

/// How long a client waits for the hello, as fractions of the handshake time.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    limit: Duration,
    /// Whether the server said hello recently. Such a server is treated as a stranger only if it behaves like one.
    is_trusted: bool,
    /// Whether the connector has another route, so that silence is attributed to this one.
    has_other_route: bool,
}

impl Patience {
    pub(super) const fn new(limit: Duration, is_trusted: bool, has_other_route: bool) -> Self {
        Self { limit, is_trusted, has_other_route }
    }

    /// Returns when to ping the server to check that it is alive: a hello usually comes right after the handshake's
    /// answer.
    fn ask(&self) -> Duration {
        self.limit / 64
    }

    /// Returns when a server that answered is treated as a stranger. An intermediary may have answered for it, so it
    /// gets more time than one answer takes.
    fn answered(&self) -> Duration {
        if self.is_trusted { self.limit } else { self.limit / 16 }
    }

    fn silent(&self) -> Duration {
        if self.is_trusted || self.has_other_route { self.limit } else { self.limit / 4 }
    }
}

/// Runs the client's part.
///
/// # Errors
///
/// Returns the errors of the transport. Returns an error for which [`is_closed`](Error::is_closed) is true if the
/// server rejected the client's credentials with a close code.
pub(super) async fn meet<T>(transport: &mut T, ours: Hello, patience: Patience) -> Result<Greeting, Error>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let limit = patience.limit;
    let greeting = rt::timeout(limit, listen(transport, patience)).await.unwrap_or_else(|_| Ok(silent(limit)))?;
    // Sent only now: a server that chose the name without knowing it must not get a message that it did not ask for.
    if let Greeting::Hello(_) = greeting {
        transport.send_message(ours.encode()).await?;
    }
    Ok(greeting)
}

async fn listen<T>(transport: &mut T, patience: Patience) -> Result<Greeting, Error>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let since = Instant::now();
    // A layer of the caller may have to send something first, such as a token that the server requires before it
    // begins.
    if let Err(error) = SinkExt::<Message>::flush(transport).await {
        return failed(error);
    }
    let (mut has_asked, mut has_answered) = (false, false);
    let mut controls = 0;
    loop {
        let until = match (has_asked, has_answered) {
            (false, _) => patience.ask(),
            (true, true) => patience.answered(),
            (true, false) => patience.silent(),
        };
        let left = until.saturating_sub(since.elapsed());
        match rt::timeout(left, transport.receive_message()).await {
            Ok(Some(Ok(Message::Close(frame)))) => return closed(frame),
            Ok(Some(Ok(message @ (Message::Ping(_) | Message::Pong(_))))) => {
                has_answered |= matches!(message, Message::Pong(payload) if payload == ASK);
                // Bounded, because each control message starts another wait: a peer that only pings would hold up the
                // client.
                controls += 1;
                if controls > CONTROLS {
                    return Ok(talks());
                }
            }
            Ok(Some(Ok(message))) => {
                return Ok(match Hello::first(message) {
                    First::Hello(hello) => Greeting::Hello(hello),
                    First::Marked(_) if patience.is_trusted => Greeting::Missing(Doubt::Malformed, Hello::not_valid()),
                    // The mark alone proves nothing: a stranger may send any bytes.
                    First::Marked(message) | First::Other(message) => Greeting::Plain(message),
                });
            }
            Ok(Some(Err(error))) => return failed(error),
            Ok(None) => {
                return Ok(Greeting::Missing(
                    Doubt::Cut,
                    Error::closed("the connection ended before the peer said hello"),
                ));
            }
            Err(_) if !has_asked => {
                has_asked = true;
                match transport.send_message(Message::Ping(ASK.into())).await {
                    Ok(()) => {}
                    // A WebSocket in a page cannot ping. The time for an answer passes without one.
                    Err(error) if error.is_rejection() => {}
                    Err(error) => return failed(error),
                }
            }
            // The timeout around this future is at the same time, and it decides.
            Err(_) if patience.limit <= until => std::future::pending().await,
            Err(_) if has_answered => return Ok(talks()),
            Err(_) => return Ok(silent(until)),
        }
    }
}

fn talks() -> Greeting {
    Greeting::Missing(
        Doubt::Talks,
        Error::protocol(
            "the server chooses the subprotocol `tower-transport.v1` and does not speak it: \
             do not offer it to this server",
        ),
    )
}

fn silent(limit: Duration) -> Greeting {
    Greeting::Missing(Doubt::Silent, no_hello(limit))
}

fn no_hello(limit: Duration) -> Error {
    Error::timeout(format!("the peer did not say hello within {limit:?} (Limits::handshake)"))
}

/// Handles a connection that failed in place of a hello.
fn failed(error: Error) -> Result<Greeting, Error> {
    match error.close_frame() {
        Some(frame) => closed(Some(frame.clone())),
        None if error.is_closed() || error.is_io() => Ok(Greeting::Missing(Doubt::Cut, error)),
        None => Err(error),
    }
}

/// Handles a server that closed in place of a hello. Rejected credentials are not sent again.
fn closed(frame: Option<CloseFrame>) -> Result<Greeting, Error> {
    const CREDENTIALS: [u16; 4] = [3000, 3003, 4401, 4403];
    const RESTART: [CloseCode; 3] = [CloseCode::AWAY, CloseCode::RESTART, CloseCode::TRY_AGAIN];

    let code = frame.as_ref().map(CloseFrame::code);
    let error = Error::closed("the peer closed before it said hello").with_close_frame(frame);
    match code {
        // A second connection would present the same credentials, which may lock an account.
        Some(code) if CREDENTIALS.contains(&code.get()) => Err(error),
        Some(code) if RESTART.contains(&code) => Ok(Greeting::Missing(Doubt::Cut, error)),
        _ => Ok(Greeting::Missing(Doubt::Closed, error)),
    }
}

/// Runs the server's part: says hello and receives the client's hello.
///
/// # Errors
///
/// Returns the errors of [`meet`]. Returns an error for which [`is_protocol`](Error::is_protocol) is true if the first
/// message is not a hello, because the client has offered the subprotocol, or [`is_timeout`](Error::is_timeout) if none
/// came in time.
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
pub(super) async fn welcome<T>(transport: &mut T, ours: Hello, limit: Duration) -> Result<Hello, Error>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let exchange = async {
        transport.send_message(ours.encode()).await?;
        for _ in 0..=CONTROLS {
            match transport.receive_message().await.transpose()? {
                Some(Message::Ping(_) | Message::Pong(_)) => {}
                Some(Message::Close(frame)) => {
                    return Err(Error::closed("the peer closed before it said hello").with_close_frame(frame));
                }
                Some(message) => {
                    let hello = Hello::decode(message)?;
                    // A recorded hello could say all the rest.
                    if let Some(nonce) = hello.nonce {
                        transport.send_message(Hello::proof(nonce)).await?;
                    }
                    return Ok(hello);
                }
                None => return Err(Error::closed("the connection ended before the peer said hello")),
            }
        }
        Err(Error::protocol(format!("the peer sent more than {CONTROLS} control messages and no hello")))
    };
    rt::timeout(limit, exchange).await.unwrap_or_else(|_| Err(no_hello(limit)))
}

/// Tells a client why it is refused, if the reason is what it sent or did not send.
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
pub(super) async fn refuse<T>(mut transport: T, error: &Error, limit: Duration)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let frame = if error.is_protocol() {
        CloseFrame::new(CloseCode::PROTOCOL, "expected the hello of the subprotocol tower-transport.v1")
    } else if error.is_timeout() {
        CloseFrame::new(CloseCode::TRY_AGAIN, "no hello of the subprotocol tower-transport.v1 came in time")
    } else {
        return;
    };
    let closed = async {
        transport.send_message(Message::Close(Some(frame))).await?;
        SinkExt::<Message>::close(&mut transport).await
    };
    // A client that is gone needs no reason.
    let _ = rt::timeout(limit, closed).await;
}

/// Closes a connection to a stranger that has not been sent anything.
pub(super) async fn close<T>(mut transport: T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    /// The time for a close message to leave; its answer is not awaited.
    const TIME: Duration = Duration::from_secs(1);

    let frame = CloseFrame::new(CloseCode::NORMAL, "");
    let _ = rt::timeout(TIME, transport.send_message(Message::Close(Some(frame)))).await;
}
