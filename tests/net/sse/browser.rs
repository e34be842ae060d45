//! The events that a browser made of the same bytes (`tests/fixtures/README.md`).

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tower_transport::transport::sse::Parser;

use crate::sse::streams::parse_cut_anywhere;

#[derive(Deserialize)]
struct Fixture {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    name: String,
    b64: String,
    events: Vec<Expected>,
    reconnect_id: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Expected {
    r#type: String,
    data: String,
    last_event_id: String,
}

fn vectors() -> Vec<Vector> {
    let fixture: Fixture = serde_json::from_str(include_str!("../../fixtures/sse-vectors.json")).unwrap();
    fixture.vectors
}

#[test]
fn every_stream_gives_what_a_browser_gives_wherever_it_is_cut() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 37);
    for vector in vectors {
        let stream = STANDARD.decode(&vector.b64).unwrap();
        let parsed = parse_cut_anywhere(&vector.name, Parser::new, &stream);
        let events: Vec<_> = parsed
            .events
            .iter()
            .map(|event| Expected {
                r#type: event.event_type().to_owned(),
                data: event.data().to_string(),
                last_event_id: event.last_event_id().to_owned(),
            })
            .collect();
        assert_eq!(events, vector.events, "{}", vector.name);
        assert_eq!(parsed.error, None, "{}", vector.name);
    }
}

#[test]
fn the_id_to_reconnect_with_is_the_browsers() {
    // An empty id is not sent.
    for vector in vectors() {
        let stream = STANDARD.decode(&vector.b64).unwrap();
        let parsed = parse_cut_anywhere(&vector.name, Parser::new, &stream);
        assert_eq!(parsed.last_event_id, vector.reconnect_id.unwrap_or_default(), "{}", vector.name);
    }
}
