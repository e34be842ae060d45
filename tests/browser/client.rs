//! A client that is compiled for both targets from this source: the server runs it natively, a test runs it in the
//! page.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower::{ServiceBuilder, ServiceExt};
use tower_transport::{
    BoxError, QueueConfig, ServiceBuilderExt, TransportExt,
    codec::JsonCodec,
    layer::{batch::BatchPolicy, compression::Deflate},
    transport::websocket::WebSocketConnector,
};

/// The values that the client and the server at `/stack` exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    pub symbol: String,
    pub price: u32,
}

/// The layers of both ends.
pub fn batch() -> BatchPolicy {
    BatchPolicy::new(64, Duration::from_millis(2))
}

/// Sends typed values through a codec, batches and compression, with a driver, and compares what comes back.
pub async fn talk(url: &str) -> Result<usize, BoxError> {
    let connector = ServiceBuilder::new()
        .per_connection(ServiceBuilder::new().codec(JsonCodec::<Quote>::new()).batch(batch()).compress(Deflate::new()))
        .service(WebSocketConnector::new());
    let transport = connector.oneshot(http::Request::get(url).body(())?).await?.into_body();
    let (sender, mut receiver) = transport.drive(QueueConfig::values()).spawn();
    let quotes: Vec<_> = (0..500).map(|price| Quote { symbol: "TWR".to_owned(), price }).collect();
    for quote in &quotes {
        sender.send(quote.clone()).await?;
    }
    let mut came = 0;
    while came < quotes.len() {
        let quote = receiver.receive().await.ok_or("the stream ended")??;
        if quote != quotes[came] {
            return Err(format!("{quote:?} came in place of {:?}", quotes[came]).into());
        }
        came += 1;
    }
    Ok(came)
}
