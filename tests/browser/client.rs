//! A client that is compiled for both targets from this source: the server runs it natively, a test runs it in the
//! page.

#[path = "../suite/mod.rs"]
pub mod suite;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tower::{ServiceBuilder, ServiceExt};
use tower_transport::{
    BoxError, QueueConfig, ServiceBuilderExt, TransportExt,
    codec::JsonCodec,
    layer::{batch::BatchPolicy, compression::Deflate},
    transport::websocket::WebSocketConnector,
};

/// Calls a macro with the cases of the suite that run in a page.
#[macro_export]
macro_rules! cases {
    ($call:ident! { $($given:tt)* }) => {
        $call! {
            $($given)*;
            values_arrive_in_order_both_ways,
            messages_from_empty_to_large_arrive_as_they_were_sent,
            a_close_brings_its_code_and_reason_after_all_that_was_sent,
            a_server_that_closes_brings_its_code_and_reason,
            a_client_that_is_dropped_ends_the_server,
            a_server_that_is_dropped_ends_the_client,
            a_session_that_its_client_closes_is_over_at_the_server,
            many_senders_lose_none_of_thousands_of_messages,
            the_recommended_stack_agrees_on_all_it_has,
            a_peer_that_knows_nothing_gets_plain_messages,
            a_service_answers_calls_in_order,
            a_service_answers_many_calls_at_once_as_they_finish,
            wherever_connections_are_cut_nothing_is_lost_or_doubled,
            a_batch_that_was_cut_in_two_comes_whole,
            the_recommended_stack_loses_nothing_where_it_is_cut,
        }
    };
}

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
