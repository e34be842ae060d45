//! The server's side of the opening exchange.

#[cfg(feature = "optimized")]
use std::net::IpAddr;
use std::{future::poll_fn, sync::Arc};

use super::{
    Session, SessionStore,
    registry::Key,
    slot::{Offer, Outcome, Slot},
    wire::{self, Hello, Own, Read, Welcome},
};
use crate::{CloseCode, CloseFrame, Error, Message, Text, Transport, TransportExt, rt, transport::wakers::WakerPair};

/// How many control messages may come before the opening message.
const PINGS: usize = 16;

/// What became of a connection.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a connection, and it is moved once")]
#[must_use = "a session that is dropped is over"]
pub enum Accepted<T> {
    /// A session begins: its transport, for the handler.
    New(Session<T>),
    /// The connection was handed over to the session that it belongs to, whose handler goes on. Here is nothing left to do.
    Resumed,
}

impl<T: Transport<Message, In = Message> + Unpin> SessionStore<T> {
    /// Opens a session on a connection, or hands the connection over to the session that its client comes back to.
    ///
    /// A transport does not say who its client is, so one client may fill the store with sessions that have a connection,
    /// and end the lost sessions of others. Use [`accept_as`](Self::accept_as) or [`accept_from`](Self::accept_from) where
    /// you know the client, and limit the connections of one client with a
    /// [`ConnectionLimitLayer`](crate::handshake::limit::ConnectionLimitLayer).
    ///
    /// A session is taken up by its handler: [`Accepted::Resumed`] comes when the [`Session`] was polled and has the
    /// connection.
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](Error::is_timeout): the client did not open a session, or the session's handler did not poll it,
    ///   within [`deadline`](Self::deadline).
    /// - [`is_protocol`](Error::is_protocol): the first message opens no session (closed with 1002), or what it says of the
    ///   session cannot be. The session stays as it was, on its connection if it has one.
    /// - [`is_full`](Error::is_full): there are too many sessions (closed with 1013).
    /// - [`is_closed`](Error::is_closed): the connection ended, or the client has a newer one already.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is dropped, unless its session has taken it.
    pub async fn accept(&self, transport: T) -> Result<Accepted<T>, Error> {
        self.accept_for(transport, Key::Anyone).await
    }

    /// Opens a session as [`accept`](Self::accept) does, and counts it for `key`: the peer's address, say, where clients do not prove who they
    /// are. [`sessions_per_key`](Self::sessions_per_key) bounds how many sessions one key has.
    ///
    /// A client finds its session again whatever its key is then. Behind a proxy, take the address that the proxy tells.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// As [`accept`](Self::accept).
    pub async fn accept_from(&self, transport: T, key: impl AsRef<[u8]>) -> Result<Accepted<T>, Error> {
        self.accept_for(transport, Key::Group(key.as_ref().into())).await
    }

    /// [`accept`](Self::accept), for a client that has proved who it is: the session is found again by the same `owner` only, and counted for
    /// it ([`sessions_per_key`](Self::sessions_per_key)).
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Self::accept). With another owner's session, whoever holds its secret, a new one begins.
    ///
    /// # Cancel safety
    ///
    /// As [`accept`](Self::accept).
    pub async fn accept_as(&self, transport: T, owner: impl AsRef<[u8]>) -> Result<Accepted<T>, Error> {
        self.accept_for(transport, Key::Owner(owner.as_ref().into())).await
    }

    /// Accepts a client of this address. In a full store, the addresses with the most lost sessions lose them first.
    #[cfg(feature = "optimized")]
    pub(crate) async fn accept_at(&self, transport: T, address: IpAddr) -> Result<Accepted<T>, Error> {
        self.accept_for(transport, Key::of_address(address)).await
    }

    async fn accept_for(&self, transport: T, key: Key) -> Result<Accepted<T>, Error> {
        let limit = self.config.deadline;
        match rt::timeout(limit, self.open(transport, key)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(Error::timeout(format!(
                "resume: a connection did not get a session within {limit:?} (SessionStore::deadline)"
            ))),
        }
    }

    async fn open(&self, mut link: T, key: Key) -> Result<Accepted<T>, Error> {
        let hello = match hello(&mut link).await {
            Ok(hello) => hello,
            Err(error) => return refuse(link, error).await,
        };
        let Some((id, token, position)) = hello.session else { return self.begin(link, &hello, key).await };
        let Some(slot) = self.find(&id, &token, key.owner()) else { return self.begin(link, &hello, key).await };
        let offer = Offer { link, epoch: hello.epoch, window: hello.window, position };
        let link = match slot.offer(offer) {
            Ok(ticket) => {
                let wait = Wait { slot, ticket };
                match poll_fn(|cx| wait.slot.poll_outcome(ticket, cx)).await? {
                    Outcome::Taken => return Ok(Accepted::Resumed),
                    Outcome::Refused(link, error) => return refuse(link, error).await,
                    Outcome::Free(link) => link,
                }
            }
            Err(link) => link,
        };
        self.begin(link, &hello, key).await
    }

    async fn begin(&self, mut link: T, hello: &Hello, key: Key) -> Result<Accepted<T>, Error> {
        let (halves, both) = WakerPair::new();
        let (seat, token) = match self.add(key, both) {
            Ok(added) => added,
            Err(error) => return refuse(link, error).await,
        };
        let welcome =
            Welcome { is_resumed: false, id: seat.id, token, window: self.config.window, position: Default::default() };
        link.send_message(Own::Welcome(welcome).into_message()).await.map_err(Into::into)?;
        Ok(Accepted::New(Session::new(link, seat, halves, self, hello)))
    }
}

async fn hello<T: Transport<Message, In = Message> + Unpin>(link: &mut T) -> Result<Hello, Error> {
    for _ in 0..=PINGS {
        match link.receive_message().await {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(frame))) => {
                let error = Error::closed("resume: the client closed before it opened a session");
                return Err(error.with_close_frame(frame));
            }
            Some(Ok(message)) => match wire::read(message)? {
                Read::Own(Own::Hello(hello)) => return Ok(hello),
                _ => break,
            },
            Some(Err(error)) => return Err(error.into()),
            None => return Err(Error::closed("resume: the connection ended before a session was opened")),
        }
    }
    Err(Error::protocol("resume: the first message does not open a session: the client has no ResumeLayer"))
}

/// Tells the client why, if it listens.
async fn refuse<T, R>(mut link: T, error: Error) -> Result<R, Error>
where
    T: Transport<Message, In = Message> + Unpin,
{
    let (code, reason) = match () {
        () if error.is_protocol() => (CloseCode::PROTOCOL, "resume: no such opening message"),
        () if error.is_full() => (CloseCode::TRY_AGAIN, "resume: too many sessions"),
        () => return Err(error),
    };
    let frame = CloseFrame::new(code, Text::from_static(reason));
    let _ = link.send_message(Message::Close(Some(frame))).await;
    Err(error)
}

/// An offer that is taken back when nobody waits for it any more.
struct Wait<T> {
    slot: Arc<Slot<T>>,
    ticket: u64,
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        self.slot.withdraw(self.ticket);
    }
}
