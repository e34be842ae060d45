//! The datagrams of QUIC. In a page, `page.rs` has methods of the same names.

use std::{convert::Infallible, pin::Pin};

use futures_util::{sink, stream};
use web_transport_quinn::{SessionError, WebTransportError, quinn};

use super::{DatagramCounts, Incoming, Outgoing, Received};
use crate::{
    Error, Message,
    transport::webtransport::{Session, error},
};

impl Session {
    pub(super) fn outgoing_datagrams(&self, counts: DatagramCounts) -> Pin<Box<Outgoing>> {
        let state = (self.quic().clone(), counts);
        Box::pin(sink::unfold(state, |(session, counts), payload| async move {
            match session.send_datagram_wait(payload).await {
                Ok(()) => counts.count_sent(),
                Err(_) => counts.count_dropped(),
            }
            Ok::<_, Infallible>((session, counts))
        }))
    }

    pub(super) fn incoming_datagrams(&self) -> Pin<Box<Incoming>> {
        Box::pin(stream::unfold(self.clone(), |session| async move {
            let received = match session.quic().read_datagram().await {
                Ok(payload) => Received::Datagram(payload),
                Err(reason) => match session.found(reason).await {
                    SessionError::WebTransportError(WebTransportError::UnknownSession) => Received::Foreign,
                    reason => Received::End(last(reason, session.is_closed_here())),
                },
            };
            Some((received, session))
        }))
    }

    /// Returns the maximum payload of a datagram, in bytes.
    pub(super) fn max_datagram(&self) -> usize {
        self.quic().max_datagram_size()
    }

    /// Returns the error of a session that is over.
    pub(super) fn end(&self) -> Option<Error> {
        self.quic().close_reason().map(closed)
    }
}

/// Creates the error of a session that is over. It is closed, whatever ended it.
fn closed(reason: SessionError) -> Error {
    let error = error::session(reason);
    match error.is_closed() {
        true => error,
        false => Error::closed("the session failed").with_source(error),
    }
}

/// Returns the last item of the stream before `None`.
fn last(reason: SessionError, is_closed_here: bool) -> Option<Result<Message, Error>> {
    match &reason {
        SessionError::WebTransportError(WebTransportError::Closed(..)) => {
            Some(Ok(Message::Close(error::session(reason).close_frame().cloned())))
        }
        // The layer below also reports this for a lost peer, an end that must not be silent.
        SessionError::ConnectionError(quinn::ConnectionError::LocallyClosed) if is_closed_here => None,
        _ => Some(Err(closed(reason))),
    }
}
