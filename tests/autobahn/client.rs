//! Our client before Autobahn's fuzzing server: asks how many cases there are, echoes through each, asks for the
//! report.
//!
//! `cargo run --release --example autobahn_client SERVER [LIMIT [deflate]]`; `tests/autobahn/run` does it all.

use std::time::Duration;

use tower::ServiceExt;
use tower_transport::{
    BoxError, Error, Limits, TransportExt,
    transport::websocket::{PerMessageDeflate, WebSocket, WebSocketConnector},
};

/// The agent's name in the report.
const AGENT: &str = "client";

/// No case takes longer; one that does is left, and fails in the report.
const CASE_TIME: Duration = Duration::from_secs(600);

struct Server {
    base: String,
    connector: WebSocketConnector,
}

impl Server {
    async fn open(&self, path: &str) -> Result<WebSocket, BoxError> {
        let request = http::Request::get(format!("{}{path}", self.base)).body(())?;
        Ok(self.connector.clone().oneshot(request).await?.into_body())
    }

    async fn case_count(&self) -> Result<usize, BoxError> {
        let mut socket = self.open("/getCaseCount").await?;
        let count = socket.receive_message().await.ok_or("the server says no number of cases")??;
        Ok(count.as_text().ok_or("the number of cases is not text")?.parse()?)
    }

    /// Echoes until the end; many cases end in an error, by intent, which is the report's to judge.
    async fn run(&self, case: usize) -> Result<(), BoxError> {
        let mut socket = self.open(&format!("/runCase?case={case}&agent={AGENT}")).await?;
        let _ = tokio::time::timeout(CASE_TIME, echo(&mut socket)).await;
        Ok(())
    }
}

async fn echo(socket: &mut WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.receive_message().await {
        let message = message?;
        if message.is_data() {
            socket.send_message(message).await?;
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: autobahn_client SERVER [LIMIT]")?;
    let limits = match arguments.next() {
        Some(bytes) => Limits::new().message(bytes.parse()?).frame(bytes.parse()?),
        None => Limits::new(),
    };
    let mut connector = WebSocketConnector::new().limits(limits);
    if arguments.next().as_deref() == Some("deflate") {
        connector = connector.per_message_deflate(PerMessageDeflate::new().min_size(0));
    }
    let server = Server { base: format!("ws://{address}"), connector };
    for case in 1..=server.case_count().await? {
        server.run(case).await?;
    }
    server.open(&format!("/updateReports?agent={AGENT}")).await?.close(None).await?;
    Ok(())
}
