//! Clients that others wrote, against our event stream: they read events of every shape, come back after a cut by `Last-Event-ID`, and
//! stay away after a 204.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{net::TcpListener, process::Command};
use tower_transport::{
    Error,
    transport::sse::{Event, EventStream, LastEventId},
};

use crate::{
    process::{Language, command},
    within,
};

/// The ids that clients came with.
type Asked = Arc<Mutex<Vec<Option<String>>>>;

/// What goes out until the cut, and after it.
fn events() -> [Vec<Event>; 2] {
    let event = |id: &str, data: &str| Event::new(data).id(id).unwrap();
    [
        vec![
            event("1", "hello"),
            event("2", "two\nlines, and an empty one:\n"),
            event("h\u{e9} 3", "h\u{e9}llo \u{2713} \u{1d11e}").event("note").unwrap(),
            Event::new("it keeps the id").event("\u{e9}v\u{e9}nement").unwrap(),
            event("5", " {\"kept\": \"space\"}: "),
            event("6", &"x".repeat(20_000)),
        ],
        vec![event("7", "back again").event("note").unwrap(), event("8", "id: 9\n\ndata: forged")],
    ]
}

/// The same, as a client has to see it; `kept` is the last event id of the one that has no id.
fn expected(kept: &str) -> Value {
    json!([
        ["message", "hello", "1"],
        ["message", "two\nlines, and an empty one:\n", "2"],
        ["note", "h\u{e9}llo \u{2713} \u{1d11e}", "h\u{e9} 3"],
        ["\u{e9}v\u{e9}nement", "it keeps the id", kept],
        ["message", " {\"kept\": \"space\"}: ", "5"],
        ["message", "x".repeat(20_000), "6"],
        ["note", "back again", "7"],
        ["message", "id: 9\n\ndata: forged", "8"],
    ])
}

/// How the first response ends. Either is to be come back from.
#[derive(Clone, Copy)]
enum End {
    /// By a cut.
    Cut,
    /// As a response should.
    Good,
}

async fn serve(State((asked, end)): State<(Asked, End)>, last: Option<LastEventId>) -> Response {
    asked.lock().unwrap().push(last.as_ref().map(|id| id.to_string()));
    let [first, second] = events().map(|events| events.into_iter().map(Ok));
    match (last.as_deref(), end) {
        (None, End::Cut) => respond(first.chain([Err(Error::other("cut"))])),
        (None, End::Good) => respond(first),
        (Some("6"), _) => respond(second),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

fn respond(events: impl Iterator<Item = Result<Event, Error>> + Send + 'static) -> Response {
    IntoResponse::into_response(EventStream::new(stream::iter(events)).retry(Duration::from_millis(20)))
}

async fn read_by(client: Option<Command>, arguments: &[&str], end: End, expected: Value) {
    let Some(mut client) = client else { return };
    let asked = Asked::default();
    let app = Router::new().route("/events", get(serve)).with_state((asked.clone(), end));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/events", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let output = client.args(arguments).arg(url).stderr(Stdio::inherit()).output();
    let output = within(output).await.unwrap();
    assert!(output.status.success(), "{}", output.status);
    let came: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(came, expected);
    assert_eq!(*asked.lock().unwrap(), [None, Some("6".to_owned()), Some("8".to_owned())]);
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
