//! Messages as datagrams of a session: fast, but without guaranteed delivery.

#[cfg(target_arch = "wasm32")]
mod page;
#[cfg(not(target_arch = "wasm32"))]
mod quic;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;

use super::Session;
use crate::{Error, Message, threads::dyn_shared, transport::burst::Burst};

/// The datagrams of a session as a transport. Each message is one datagram, unordered, and lost if the network loses
/// it.
///
/// Use it for data that is soon outdated: positions, samples, voice. No message waits for a lost one, and a stalled
/// stream stalls no datagram.
///
/// # Format
///
/// Only the payload is sent ([RFC 9297](https://www.rfc-editor.org/rfc/rfc9297)'s HTTP datagram): there is no room for
/// a kind. Text is sent as UTF-8 and **arrives as binary**. `JsonCodec` and `RkyvCodec` support that. Codecs that
/// distinguish text and binary (`HybridCodec`) and layers that depend on every message (compression with a context,
/// batches, resume) do not. Pings, pongs and closes have no form here: the sink rejects them, and the session
/// determines the end ([`Session::close`](super::Session::close)).
///
/// # Backpressure
///
/// `poll_ready` waits for room in QUIC's send buffer, that is, for the congestion control of the path. Nothing is
/// dropped here silently, and a fast sender is paced. `poll_flush` is ready when QUIC has all accepted messages, and
/// sends them without another poll. The stream waits for the peer. Unread datagrams are kept up to a bound, the newest
/// of them. If several handles read the datagrams of one session, each message goes to one of them.
///
/// # Limit
///
/// A message is at most [`max_size`](Self::max_size) bytes, a little over a kilobyte. The limit follows the path and
/// may change at any time, so it is read again for each message. A larger message is rejected with an error for which
/// [`is_too_large`](Error::is_too_large) is true. The error concerns that message only; the transport remains usable.
///
/// # Errors
///
/// Returns an error for which [`is_closed`](Error::is_closed) is true once the session is over, with the peer's code
/// and reason. The stream yields these as [`Message::Close`] before it ends. If the peer is lost, the stream yields the
/// error; only after a close of this end does it end without one. Returns an error for which
/// [`is_config`](Error::is_config) is true for a message that has no form as a datagram; it concerns that message only.
///
/// # Closing
///
/// `poll_close` ends this handle's sink. The peer is not told, and the session continues with its streams. The stream
/// of this handle ends with the session.
///
/// # Cancel safety
///
/// Dropping a future that reads or sends loses nothing: see [`TransportExt`](crate::TransportExt).
///
/// ```
/// # #[cfg(feature = "dev-certificate")]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use tower_transport::{Message, TransportExt};
/// use tower_transport::transport::webtransport::{Certificate, WebTransportConnector, WebTransportServer};
///
/// let certificate = Certificate::development(&[])?;
/// let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
/// let mut server = WebTransportServer::bind("127.0.0.1:0".parse()?, certificate)?;
/// let request = http::Request::get(format!("https://{}/", server.local_addr()?)).body(())?;
/// let accept = async { server.accept().await.unwrap().accept().await };
/// let (response, there) = tokio::join!(connector.connect_session(request), accept);
/// let (here, there) = (response?.into_body(), there?);
///
/// let (mut here, mut there) = (here.datagrams(), there.datagrams());
/// here.send_message(Message::text("x=3 y=4")).await?;
/// assert_eq!(there.receive_message().await.unwrap()?, Message::binary("x=3 y=4"));
///
/// let large = Message::binary(vec![0; here.max_size() + 1_000]);
/// assert!(here.send_message(large).await.unwrap_err().is_too_large());
/// assert_eq!((here.counts().sent(), here.counts().refused()), (1, 1));
/// # Ok::<_, tower_transport::BoxError>(()) })?;
/// # Ok::<_, tower_transport::BoxError>(())
/// ```
pub struct Datagrams {
    session: Session,
    /// Each of the two waits in a future that borrows. Both are boxed once, and hold every message's future in place.
    outgoing: Pin<Box<Outgoing>>,
    incoming: Pin<Box<Incoming>>,
    counts: DatagramCounts,
    /// Whether `poll_ready` reserved a place that is not used yet.
    has_room: bool,
    is_closed: bool,
    has_ended: bool,
    burst: Burst,
}

/// The sending direction below. It counts each message.
type Outgoing = dyn_shared!(Sink<Bytes, Error = Infallible>);

/// The receiving direction below.
type Incoming = dyn_shared!(Stream<Item = Received>);

/// The next event of the receiving direction.
enum Received {
    Datagram(Bytes),
    /// A datagram of an unknown session.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a browser skips them"))]
    Foreign,
    /// The last item of the stream before `None`.
    End(Option<Result<Message, Error>>),
}

impl Session {
    /// Returns the datagrams of the session as a transport: lossy, unordered, and fast. Call it once: if several
    /// handles read, each message goes to one of them.
    #[must_use]
    pub fn datagrams(&self) -> Datagrams {
        Datagrams::new(self.clone())
    }
}

impl Datagrams {
    fn new(session: Session) -> Self {
        let counts = DatagramCounts::default();
        Self {
            outgoing: session.outgoing_datagrams(counts.clone()),
            incoming: session.incoming_datagrams(),
            session,
            counts,
            has_room: false,
            is_closed: false,
            has_ended: false,
            burst: Burst::default(),
        }
    }

    /// Returns the maximum payload that can be sent now, in bytes; 0 if the peer accepts no datagrams. It depends on
    /// the path: 1,100 to 1,500 is usual.
    #[must_use]
    pub fn max_size(&self) -> usize {
        self.session.max_datagram()
    }

    /// Returns the counts of this handle's datagrams.
    #[must_use]
    pub fn counts(&self) -> DatagramCounts {
        self.counts.clone()
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.is_closed {
            return Err(Error::closed("the sink of datagrams was closed here"));
        }
        self.session.end().map_or(Ok(()), Err)
    }

    /// Returns the bytes of `message`, if it may be sent.
    fn payload(&self, message: Message) -> Result<Bytes, Error> {
        let payload = match message {
            Message::Text(text) => text.into_bytes(),
            Message::Binary(payload) => payload,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {
                return Err(Error::config(
                    "a datagram carries data only: send pings on a stream, and close the session by Session::close",
                )
                .into_rejection());
            }
        };
        match (payload.len(), self.max_size()) {
            (length, limit) if length <= limit && limit > 0 => Ok(payload),
            (_, 0) => Err(Error::too_large("the peer accepts no datagrams: send on a stream").into_rejection()),
            (length, limit) => Err(Error::too_large(format!(
                "an outgoing datagram of {length} bytes is over the path's limit of {limit} (Datagrams::max_size): \
                 send it on a stream"
            ))
            .into_rejection()),
        }
    }
}

impl Sink<Message> for Datagrams {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Err(never) = ready!(self.outgoing.as_mut().poll_ready(cx)) {
            match never {}
        }
        self.check_open()?;
        self.has_room = true;
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.check_open()?;
        if !self.has_room {
            return Err(Error::full("start_send on datagrams without room; wait for poll_ready first"));
        }
        let payload = self.payload(message).map_err(|error| {
            self.counts.count_refused();
            error.into_rejection()
        })?;
        self.has_room = false;
        self.outgoing.as_mut().start_send(payload).map_err(Error::from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Err(never) = ready!(self.outgoing.as_mut().poll_flush(cx)) {
            match never {}
        }
        Poll::Ready(self.session.end().map_or(Ok(()), Err))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Err(never) = ready!(self.outgoing.as_mut().poll_flush(cx)) {
            match never {}
        }
        self.is_closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Stream for Datagrams {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        // A peer may send datagrams of foreign sessions as fast as they are skipped.
        while !self.burst.is_over(cx) {
            let polled = self.incoming.as_mut().poll_next(cx);
            self.burst.record(polled.is_ready());
            match ready!(polled) {
                Some(Received::Datagram(payload)) => {
                    self.counts.count_received();
                    return Poll::Ready(Some(Ok(Message::Binary(payload))));
                }
                Some(Received::Foreign) => self.counts.count_foreign(),
                Some(Received::End(last)) => {
                    self.has_ended = true;
                    return Poll::Ready(last);
                }
                None => {
                    self.has_ended = true;
                    return Poll::Ready(None);
                }
            }
        }
        Poll::Pending
    }
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagrams")
            .field("max_size", &self.max_size())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// The outcomes of a session's datagrams at this end. The handle can be cloned and read anywhere, also while a layer or
/// a driver owns the [`Datagrams`](Datagrams).
///
/// Losses in the network are not included. [`Session::stats`] reports
/// lost packets, and the difference between one end's `sent` and the other's `received` is the number of lost messages.
#[derive(Clone, Debug, Default)]
pub struct DatagramCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    foreign: AtomicU64,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident $count:ident)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(&self) -> u64 {
            self.0.$name.load(Relaxed)
        }

        fn $count(&self) {
            self.0.$name.fetch_add(1, Relaxed);
        }
    )*};
}

impl DatagramCounts {
    counts! {
        /// Returns the number of messages that QUIC accepted for sending.
        sent count_sent

        /// Returns the number of messages that the stream yielded.
        received count_received

        /// Returns the number of messages that the sink rejected because they were too large or had no form as a
        /// datagram.
        refused count_refused

        /// Returns the number of accepted messages that were not sent: the path's limit fell below their size while
        /// they waited for room, or the session ended first.
        dropped count_dropped

        /// Returns the number of incoming datagrams of unknown sessions. A peer that follows the protocol sends none.
        foreign count_foreign
    }
}
