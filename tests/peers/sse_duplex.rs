//! A client that is not ours, against our server of SSE and POST.

use std::process::Stdio;

use axum::Router;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tower_transport::{TransportExt, transport::sse::SseDuplexServer};

use crate::{
    process::{Language, command},
    within,
};

#[tokio::test]
async fn node_eventsource_and_fetch_are_echoed_and_close_with_their_own_code() {
    let Some(mut client) = command(Language::Node, "duplex.cjs", "eventsource") else { return };
    let (ended, mut ends) = tokio::sync::mpsc::channel(1);
    let echo = SseDuplexServer::new(move |mut session, _| async move {
        while let Some(Ok(message)) = session.receive_message().await {
            if message.is_data() {
                session.send_message(message).await.unwrap();
            }
        }
        let _ = ended.send(session.close_frame().cloned()).await;
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/sse", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route_service("/sse", echo)).await });

    let messages = json!(["", "h\u{e9}llo \u{2713} \u{1d11e}", "two\nlines\n", [], [0, 127, 255], "x".repeat(100_000)]);
    client.arg(url).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut process = client.spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(messages.to_string().as_bytes()).await.unwrap();
    drop(input);
    let output = within(process.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report, json!({ "came": messages, "end": "4000 that is all" }));
    assert_eq!(within(ends.recv()).await.unwrap().unwrap().to_string(), "4000 \"that is all\"");
}
