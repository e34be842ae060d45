use super::Session;
use crate::{
    Error,
    transport::webtransport::{ReceiveStream, SendStream, WebTransportStream, fault},
};

impl Session {
    /// Opens a bidirectional stream, as a transport of its own.
    ///
    /// It waits while the peer allows no more streams ([`SessionLimits::streams`](super::super::SessionLimits::streams) of the peer).
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) once the session is over.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no stream is open; the peer may see one that was reset at once.
    pub async fn open(&self) -> Result<WebTransportStream, Error> {
        let (send, receive) = self.quic().open_bi().await.map_err(fault::session)?;
        let mut stream = WebTransportStream::new(self.clone(), send, receive, true);
        stream.opened().await?;
        Ok(stream)
    }

    /// Waits for the next bidirectional stream that the peer opens. Streams may come in another order than they were opened in.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) once the session is over.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no stream is lost.
    pub async fn accept(&self) -> Result<WebTransportStream, Error> {
        let (send, receive) = self.quic().accept_bi().await.map_err(fault::session)?;
        Ok(WebTransportStream::new(self.clone(), send, receive, false))
    }

    /// Opens `count` bidirectional streams: messages in one do not wait for those in another.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); then none of them stays open.
    ///
    /// # Cancel safety
    ///
    /// Dropped, those that were opened are reset.
    pub async fn create_multiplexed_streams(&self, count: usize) -> Result<Vec<WebTransportStream>, Error> {
        let mut streams = Vec::new();
        for _ in 0..count {
            streams.push(self.open().await?);
        }
        Ok(streams)
    }

    /// Opens a unidirectional stream, to send.
    ///
    /// It waits while the peer allows no more ([`SessionLimits::uni_streams`](super::super::SessionLimits::uni_streams) of the peer).
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) once the session is over.
    ///
    /// # Cancel safety
    ///
    /// As [`open`](Self::open).
    pub async fn open_uni(&self) -> Result<SendStream, Error> {
        let send = self.quic().open_uni().await.map_err(fault::session)?;
        let mut stream = SendStream::new(self.clone(), send);
        stream.opened().await?;
        Ok(stream)
    }

    /// Waits for the next unidirectional stream that the peer opens, to receive.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) once the session is over.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no stream is lost.
    pub async fn accept_uni(&self) -> Result<ReceiveStream, Error> {
        let receive = self.quic().accept_uni().await.map_err(fault::session)?;
        Ok(ReceiveStream::new(self.clone(), receive))
    }
}
