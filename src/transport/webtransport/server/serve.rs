use std::future::Future;

use http::request;

use super::{Incoming, WebTransportServer};
use crate::{CloseCode, CloseFrame, rt, transport::webtransport::WebTransportStream};

impl WebTransportServer {
    /// Accepts every session, and runs `handler` for each in its own task. The handler gets the session's first
    /// bidirectional stream (which [contains](WebTransportStream::session) the session) and the request's parts. A
    /// client that does not open a stream within [`Limits::handshake`](crate::Limits::handshake) is closed with 1002.
    ///
    /// It continues until the server's socket is gone. Race it against a shutdown condition, and then
    /// [`close`](Self::close) the server.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no session: handlers continue, and requests wait for the next `serve` or
    /// [`accept`](Self::accept).
    pub async fn serve<H, F>(&mut self, handler: H)
    where
        H: FnOnce(WebTransportStream, request::Parts) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(incoming) = self.accept().await {
            let handler = handler.clone();
            rt::spawn(async move {
                if let Some((stream, parts)) = first_stream(incoming).await {
                    handler(stream, parts).await;
                }
            });
        }
    }
}

async fn first_stream(incoming: Incoming) -> Option<(WebTransportStream, request::Parts)> {
    let (session, parts) = incoming.accept_with_parts().await.ok()?;
    match rt::timeout(session.limits().handshake, session.accept()).await {
        Ok(stream) => Some((stream.ok()?, parts)),
        Err(_) => {
            session.close(CloseFrame::new(CloseCode::PROTOCOL, "no stream was opened in time"));
            None
        }
    }
}
