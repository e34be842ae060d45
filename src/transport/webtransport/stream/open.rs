//! The streams of a session.

use super::{ReceiveStream, SendStream, WebTransportStream};
use crate::{
    Error,
    transport::{setters::in_time, webtransport::Session},
};

impl Session {
    /// Opens a bidirectional stream, as a transport of its own.
    ///
    /// It waits while the peer allows no more streams ([`SessionLimits::streams`](super::super::SessionLimits::streams)
    /// of the peer), at most [`Limits::handshake`](crate::Limits::handshake).
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true once the session is over. Returns one for
    /// which [`is_timeout`](Error::is_timeout) is true if the peer has not allowed the stream in that time; the session
    /// remains usable.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, no stream is open. The peer may see one that was reset immediately.
    pub async fn open(&self) -> Result<WebTransportStream, Error> {
        let opening = async {
            let (send, receive) = self.open_bi_raw().await?;
            let mut stream = WebTransportStream::new(self.clone(), send, receive, true);
            stream.opened().await?;
            Ok(stream)
        };
        // Limited, because a peer may never allow another stream.
        let failure = "the peer did not allow another bidirectional stream (SessionLimits::streams of the peer)";
        in_time(self.limits().handshake, failure, opening).await
    }

    /// Waits for the next bidirectional stream that the peer opens. Streams may arrive in another order than they were
    /// opened in.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true once the session is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn accept(&self) -> Result<WebTransportStream, Error> {
        let (send, receive) = self.accept_bi_raw().await?;
        Ok(WebTransportStream::new(self.clone(), send, receive, false))
    }

    /// Opens `count` bidirectional streams: messages in one do not wait for those in another. For each it waits as
    /// [`open`](Self::open) does.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open). A `count` over the number that the peer allows is therefore a
    /// timeout; then none of the streams stays open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future resets the streams that were opened.
    pub async fn create_multiplexed_streams(&self, count: usize) -> Result<Vec<WebTransportStream>, Error> {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(self.open().await?);
        }
        Ok(streams)
    }

    /// Opens a unidirectional stream, to send.
    ///
    /// It waits while the peer allows no more ([`SessionLimits::uni_streams`](super::super::SessionLimits::uni_streams)
    /// of the peer), at most [`Limits::handshake`](crate::Limits::handshake).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// This method is as cancel safe as [`open`](Self::open).
    pub async fn open_uni(&self) -> Result<SendStream, Error> {
        let opening = async {
            let send = self.open_uni_raw().await?;
            let mut stream = SendStream::new(self.clone(), send);
            stream.opened().await?;
            Ok(stream)
        };
        let failure = "the peer did not allow another unidirectional stream (SessionLimits::uni_streams of the peer)";
        in_time(self.limits().handshake, failure, opening).await
    }

    /// Waits for the next unidirectional stream that the peer opens, to receive.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true once the session is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub async fn accept_uni(&self) -> Result<ReceiveStream, Error> {
        let receive = self.accept_uni_raw().await?;
        Ok(ReceiveStream::new(self.clone(), receive))
    }
}
