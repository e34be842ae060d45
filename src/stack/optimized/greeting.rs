//! How two ends learn of each other, after a handshake that has chosen the stack's subprotocol.
//!
//! The server says hello first, and the client waits for it. So a server that chose the name without knowing it, as some take whichever is
//! offered first, never gets a message that it did not ask for.

use std::time::Duration;

use futures_util::SinkExt;

use crate::{
    CloseCode, CloseFrame, Error, Message, Transport, TransportExt,
    rt::{self, Instant},
    stack::hello::{First, Hello},
};

/// How many control messages may come before the peer's hello.
const CONTROLS: usize = 16;

/// A ping that asks whether the server lives, while its hello does not come. The heartbeat's pings begin with the number 1, and it takes the
/// pong of this one for its own, should it be late.
const ASK: &[u8] = b"ttxh\0\0\0\0";

/// What a client has learned of a server that chose the stack's subprotocol.
pub(super) enum Met {
    /// It knows it.
    Known(Hello),
    /// It does not: this is its first message, and nothing was sent to it. The connection is good for plain messages.
    Plain(Message),
    /// It does not, as far as one can tell. It is to be asked again, without the subprotocol.
    Stranger(Stranger),
}

/// Why a server is taken for one that does not know the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stranger {
    /// It answers pings, or sends them, and does not say hello.
    Talks,
    /// It closed the connection.
    Closed,
    /// Nothing came at all. This may be the path's fault.
    Silent,
}

/// How long a client waits for the hello, as parts of the handshake's time.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    limit: Duration,
    /// A server that said hello lately is not taken for a stranger, unless it talks like one.
    is_trusted: bool,
    /// Silence is the path's fault, and the caller has another path.
    has_other_way: bool,
}

impl Patience {
    pub(super) const fn new(limit: Duration, is_trusted: bool, has_other_way: bool) -> Self {
        Self { limit, is_trusted, has_other_way }
    }

    /// When the server is asked whether it lives: a hello comes right behind the handshake's answer, usually.
    fn ask(&self) -> Duration {
        self.limit / 64
    }

    /// When a server that answered is taken for a stranger. Something between may answer for it, so it has more time than one answer
    /// takes.
    fn answered(&self) -> Duration {
        if self.is_trusted { self.limit } else { self.limit / 16 }
    }

    fn silent(&self) -> Duration {
        if self.is_trusted || self.has_other_way { self.limit } else { self.limit / 4 }
    }
}

/// A client's part.
///
/// # Errors
///
/// Those of the transport; [`is_closed`](Error::is_closed) where the server closed for a reason of its own, [`is_timeout`](Error::is_timeout)
/// where nothing came from a server that may not be a stranger, [`is_protocol`](Error::is_protocol) for a hello that is broken.
pub(super) async fn meet<T>(transport: &mut T, ours: Hello, patience: Patience) -> Result<Met, Error>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let met = rt::timeout(patience.limit, listen(transport, patience)).await.unwrap_or_else(|_| {
        let limit = patience.limit;
        Err(Error::timeout(format!("the peer did not say hello within {limit:?} (Limits::handshake)")))
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
    // A layer of the caller's may have something to say first: a token, without which the server does not begin.
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

/// The server closed in place of a hello. Some close codes say that the subprotocol has nothing to do with it.
fn closed(frame: Option<CloseFrame>, patience: Patience) -> Result<Met, Error> {
    const UNAUTHORIZED: u16 = 4401;
    const FORBIDDEN: u16 = 4403;

    let is_of_another_cause = frame.as_ref().is_some_and(|frame| {
        let code = frame.code();
        [CloseCode::AWAY, CloseCode::RESTART, CloseCode::TRY_AGAIN].contains(&code)
            || [UNAUTHORIZED, FORBIDDEN].contains(&code.get())
    });
    if is_of_another_cause || patience.is_trusted {
        return Err(Error::closed("the peer closed before it said hello").with_close_frame(frame));
    }
    Ok(Met::Stranger(Stranger::Closed))
}

/// A server's part: it says hello, and hears the client's.
///
/// # Errors
///
/// As [`meet`]; a first message that is not a hello is [`is_protocol`](Error::is_protocol), for the client has offered the subprotocol.
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
        Err(Error::protocol(format!("the peer sent more than {CONTROLS} pings and no hello")))
    };
    rt::timeout(limit, exchange).await.unwrap_or_else(|_| {
        Err(Error::timeout(format!("the peer did not say hello within {limit:?} (Limits::handshake)")))
    })
}

/// Tells a client why it is not taken, if that is for what it said or did not say.
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

/// Ends a connection on which a stranger has not been told anything.
pub(super) async fn leave<T>(mut transport: T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    /// For a close message to get out; its answer is not waited for.
    const TIME: Duration = Duration::from_secs(1);

    let frame = CloseFrame::new(CloseCode::NORMAL, "");
    let _ = rt::timeout(TIME, transport.send_message(Message::Close(Some(frame)))).await;
}
