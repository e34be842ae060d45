//! Clients that others wrote, against our event stream: they read events of every shape, come back after a cut by
//! `Last-Event-ID`, and stay away after a 204.

use std::process::Stdio;

use serde_json::Value;
use tokio::{net::TcpListener, process::Command};

use crate::{
    feed::{End, all_asked, expected, feed},
    process::{Language, command},
    within,
};

async fn read_by(client: Option<Command>, arguments: &[&str], end: End, expected: Value) {
    let Some(mut client) = client else { return };
    let (app, asked) = feed(end);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let output = client.args(arguments).arg(url).stderr(Stdio::inherit()).output();
    let output = within(output).await.unwrap();
    assert!(output.status.success(), "{}", output.status);
    let came: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(came, expected);
    assert_eq!(*asked.lock().unwrap(), all_asked());
}

/// It leaves `lastEventId` empty where the event itself has no id, and keeps the id to come back with.
#[tokio::test]
async fn node_eventsource_reads_it_comes_back_and_stays_away() {
    read_by(command(Language::Node, "sse.cjs", "eventsource"), &["eventsource"], End::Cut, expected("")).await;
}

/// It does not come back from a cut, only from an end.
#[tokio::test]
async fn undici_reads_it_comes_back_and_stays_away() {
    read_by(command(Language::Node, "sse.cjs", "undici"), &["undici"], End::Good, expected("h\u{e9} 3")).await;
}

#[tokio::test]
async fn python_httpx_sse_reads_it_comes_back_and_stays_away() {
    read_by(command(Language::Python, "httpx_sse_peer.py", "httpx_sse"), &[], End::Cut, expected("h\u{e9} 3")).await;
}
