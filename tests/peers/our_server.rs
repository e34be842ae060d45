//! Our server as the foreign clients meet it: `/echo`, and `/close`, which closes at once.

use tokio::sync::mpsc;
use tower_transport::{
    CloseCode, CloseFrame, Error, Limits, Message, TransportExt,
    transport::websocket::{WebSocket, WebSocketService},
};

use crate::{
    LIMIT,
    serve::{serve, serve_both},
};

/// How a connection ended: with the peer's close frame, or an error.
pub(crate) type End = Result<Option<CloseFrame>, Error>;

pub(crate) struct OurServer {
    pub(crate) base: String,
    ends: mpsc::Receiver<End>,
}

impl OurServer {
    pub(crate) async fn start() -> Self {
        Self::start_over(false).await
    }

    /// Over HTTP/2, too.
    pub(crate) async fn start_over(http2: bool) -> Self {
        let (ended, ends) = mpsc::channel(1);
        let upgrade = WebSocketService::new(move |socket, parts| async move {
            let end = session(socket, parts.uri.path()).await;
            let _ = ended.send(end).await;
        });
        let upgrade = upgrade.limits(Limits::new().message(LIMIT));
        let address = if http2 { serve_both(upgrade).await } else { serve(upgrade).await };
        Self { base: format!("ws://{address}"), ends }
    }

    /// Waits for the end of the next connection that ends.
    pub(crate) async fn end(&mut self) -> End {
        self.ends.recv().await.unwrap()
    }
}

async fn session(mut socket: WebSocket, path: &str) -> End {
    if path == "/close" {
        return socket.close(Some(CloseFrame::new(CloseCode::new(4001).unwrap(), "enough"))).await;
    }
    while let Some(message) = socket.receive_message().await {
        match message? {
            Message::Close(_) | Message::Ping(_) | Message::Pong(_) => {}
            data => socket.send_message(data).await?,
        }
    }
    Ok(socket.close_frame().cloned())
}
