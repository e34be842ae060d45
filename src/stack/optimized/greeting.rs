//! How two ends learn about each other, after a handshake that has chosen the stack's subprotocol.
//!
//! The server says hello first, and the client waits for it. Some servers choose whichever name is offered first
//! without knowing it. Such a server never gets a message that it did not ask for.

use std::time::Duration;

use futures_util::SinkExt;

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
pub(super) enum Met {
    /// The server knows the subprotocol.
    Known(Hello),
    /// The server does not know it. This is its first message, and nothing was sent to it. The connection can be used
    /// for plain messages.
    Plain(Message),
    /// The server does not know it, as far as the client can tell. The client connects again, without the subprotocol.
    Stranger(Stranger),
    /// The server said hello on an earlier connection, and closed or stayed silent in place of a hello on this one. This
    /// connection fails with the error. A stranger may have replaced the server, so the next connection does not trust it.
    Changed(Error),
}

/// The reason for treating a server as one that does not know the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// The server answers pings, or sends them, and does not say hello.
    Talks,
    /// The server closed the connection.
    Closed,
    /// Nothing came at all. The network path may be the cause.
    Silent,
}

/// How long a client waits for the hello, as fractions of the handshake time.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    limit: Duration,
    /// Whether the server said hello recently. Such a server is treated as a stranger only if it behaves like one.
    is_trusted: bool,
    /// Whether the caller has another path, so that silence is attributed to this path.
    has_other_way: bool,
}

impl Patience {
    pub(super) const fn new(limit: Duration, is_trusted: bool, has_other_way: bool) -> Self {
        Self { limit, is_trusted, has_other_way }
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
        if self.is_trusted || self.has_other_way { self.limit } else { self.limit / 4 }
    }
}

/// Runs the client's part.
///
/// # Errors
///
/// Returns the errors of the transport. Returns an error for which [`is_closed`](Error::is_closed) is true if the
/// server closed for a reason of its own, [`is_timeout`](Error::is_timeout) if nothing came and silence does not show a
/// stranger, or [`is_protocol`](Error::is_protocol) if the hello is malformed.
pub(super) async fn meet<T>(transport: &mut T, ours: Hello, patience: Patience) -> Result<Met, Error>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let met = rt::timeout(patience.limit, listen(transport, patience)).await.unwrap_or_else(|_| {
        let limit = patience.limit;
        let error = Error::timeout(format!("the peer did not say hello within {limit:?} (Limits::handshake)"));
        if patience.is_trusted { Ok(Met::Changed(error)) } else { Err(error) }
    })?;
    if let Met::Known(_) = met {
        transport.send_message(ours.encode()).await?;
    }
    Ok(met)
}

async fn listen<T>(transport: &mut T, patience: Patience) -> Result<Met, Error>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let since = Instant::now();
    // A layer of the caller may have to send something first, such as a token that the server requires before it
    // begins.
    SinkExt::<Message>::flush(transport).await?;
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
            Ok(Some(Ok(Message::Close(frame)))) => return closed(frame, patience),
            Ok(Some(Ok(message @ (Message::Ping(_) | Message::Pong(_))))) => {
                has_answered |= matches!(message, Message::Pong(payload) if payload == ASK);
                controls += 1;
                if controls > CONTROLS {
                    return Ok(Met::Stranger(Stranger::Talks));
                }
            }
            Ok(Some(Ok(message))) => {
                return Ok(match Hello::first(message)? {
                    First::Hello(hello) => Met::Known(hello),
                    First::Other(message) => Met::Plain(message),
                });
            }
            Ok(Some(Err(error))) => return Err(error),
            Ok(None) => return Err(Error::closed("the connection ended before the peer said hello")),
            Err(_) if !has_asked => {
                has_asked = true;
                transport.send_message(Message::Ping(ASK.into())).await?;
            }
            Err(_) if patience.limit <= until => std::future::pending().await,
            Err(_) if has_answered => return Ok(Met::Stranger(Stranger::Talks)),
            Err(_) => return Ok(Met::Stranger(Stranger::Silent)),
        }
    }
}

/// Handles a server that closed in place of a hello. Some close codes show that the subprotocol is not the cause.
fn closed(frame: Option<CloseFrame>, patience: Patience) -> Result<Met, Error> {
    const UNAUTHORIZED: u16 = 4401;
    const FORBIDDEN: u16 = 4403;

    let is_of_another_cause = frame.as_ref().is_some_and(|frame| {
        let code = frame.code();
        [CloseCode::AWAY, CloseCode::RESTART, CloseCode::TRY_AGAIN].contains(&code)
            || [UNAUTHORIZED, FORBIDDEN].contains(&code.get())
    });
    if !is_of_another_cause && !patience.is_trusted {
        return Ok(Met::Stranger(Stranger::Closed));
    }
    let error = Error::closed("the peer closed before it said hello").with_close_frame(frame);
    if is_of_another_cause { Err(error) } else { Ok(Met::Changed(error)) }
}

/// Runs the server's part: says hello and receives the client's hello.
///
/// # Errors
///
/// Returns the errors of [`meet`]. Returns an error for which [`is_protocol`](Error::is_protocol) is true if the first
/// message is not a hello, because the client has offered the subprotocol.
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
                Some(message) => return Hello::decode(message),
                None => return Err(Error::closed("the connection ended before the peer said hello")),
            }
        }
        Err(Error::protocol(format!("the peer sent more than {CONTROLS} control messages and no hello")))
    };
    rt::timeout(limit, exchange).await.unwrap_or_else(|_| {
        Err(Error::timeout(format!("the peer did not say hello within {limit:?} (Limits::handshake)")))
    })
}

/// Tells a client why it is refused, if the reason is what it sent or did not send.
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
    let told = async {
        transport.send_message(Message::Close(Some(frame))).await?;
        SinkExt::<Message>::close(&mut transport).await
    };
    // A client that is gone needs no reason.
    let _ = rt::timeout(limit, told).await;
}

/// Ends a connection to a stranger that has not been sent anything.
pub(super) async fn leave<T>(mut transport: T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    /// The time for a close message to leave; its answer is not awaited.
    const TIME: Duration = Duration::from_secs(1);

    let frame = CloseFrame::new(CloseCode::NORMAL, "");
    let _ = rt::timeout(TIME, transport.send_message(Message::Close(Some(frame)))).await;
}
