//! An event stream of ours as clients that others wrote meet it: events of every shape, an end, what was missed, and a
//! 204; for the test crates that have such clients.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};
use tower_transport::{
    Error,
    transport::sse::{Event, EventStream, LastEventId},
};

/// The ids that clients came with.
pub type Asked = Arc<Mutex<Vec<Option<String>>>>;

/// The events that are sent before the cut, and after it.
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
pub fn expected(kept: &str) -> Value {
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
pub enum End {
    /// By a cut.
    Cut,
    /// As a response should.
    Good,
}

/// The feed at `/events`, and the ids that it is asked with.
pub fn feed(end: End) -> (Router, Asked) {
    let asked = Asked::default();
    (Router::new().route("/events", get(serve)).with_state((asked.clone(), end)), asked)
}

/// With which ids a client asks that reads all.
pub fn all_asked() -> [Option<String>; 3] {
    [None, Some("6".to_owned()), Some("8".to_owned())]
}

async fn serve(State((asked, end)): State<(Asked, End)>, last: Option<LastEventId>) -> Response {
    asked.lock().unwrap().push(last.as_ref().map(|id| id.to_string()));
    let [first, second] = events().map(|events| events.into_iter().map(Ok));
    match (last.as_deref(), end) {
        (None, End::Cut) => respond(stream::iter(first).chain(stream::once(cut()))),
        (None, End::Good) => respond(stream::iter(first)),
        (Some("6"), _) => respond(stream::iter(second)),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

/// The error that cuts the response, once what was sent before it has left hyper's buffer, which an error discards.
async fn cut() -> Result<Event, Error> {
    tokio::time::sleep(Duration::from_millis(200)).await;
    Err(Error::other("cut"))
}

fn respond(events: impl Stream<Item = Result<Event, Error>> + Send + 'static) -> Response {
    IntoResponse::into_response(EventStream::new(events).retry(Duration::from_millis(20)))
}
