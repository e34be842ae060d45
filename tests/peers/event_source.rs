//! An event stream of Node.js's own `http`, read by our client below the reconnect layer: an `EventSource`.

use std::{convert::Infallible, process::Stdio, time::Duration};

use futures_util::StreamExt;
use http::StatusCode;
use tokio::io::{AsyncBufReadExt, BufReader};
use tower::ServiceBuilder;
use tower_transport::{
    ServiceBuilderExt,
    layer::reconnect::{Backoff, Reconnect},
    transport::sse::SseConnector,
};

use crate::{
    process::{Language, command},
    within,
};

#[tokio::test]
async fn nodes_event_stream_is_read_over_cuts_and_redirects_to_its_end() {
    within(async {
        let Some(mut command) = command(Language::Node, "sse_server.cjs", "eventsource") else { return };
        let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("the peer prints its port");

        let connector = SseConnector::new();
        let events: Reconnect<_, Infallible> = ServiceBuilder::new()
            .reconnect(format!("http://127.0.0.1:{port}/redirect"), Backoff::fixed(Duration::from_millis(10)))
            .service(connector.clone());
        let mut events = Box::pin(events);
        for n in 1..=9 {
            let event = events.next().await.unwrap().unwrap();
            let name = if n % 2 == 0 { "note" } else { "message" };
            assert_eq!(event.data(), &*format!("event {n}\n\u{e9}\u{6f22}\u{1f389}"));
            assert_eq!((event.event_type(), event.last_event_id()), (name, &*n.to_string()));
        }
        let end = events.next().await.unwrap().unwrap_err();
        assert_eq!(end.status(), Some(StatusCode::NO_CONTENT));
        assert_eq!(events.handle().connections(), 5);
        assert_eq!(connector.retry(), Some(Duration::from_millis(10)));
    })
    .await;
}
