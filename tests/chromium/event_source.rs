//! The browser's `EventSource` against our event stream.

use axum::{Router, routing::get};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower_transport::{
    QueueConfig,
    transport::sse::{Event, EventSender, event_channel},
};

use crate::{
    browser::{Report, run},
    feed::{End, all_asked, expected, feed},
    site::serve,
};

/// The events that a page of `site` reads at `/events` of `host`.
async fn read(site: &str, host: &str, most: usize) -> Option<Report> {
    let types = json!(["message", "note", "\u{e9}v\u{e9}nement"]);
    let argument = json!({ "url": format!("http://{host}/events"), "types": types, "most": most });
    run(&format!("http://{site}/"), "event_source.js", argument).await
}

#[tokio::test]
async fn a_page_reads_events_of_every_shape_comes_back_after_cut_and_end_and_stays_away_after_204() {
    for end in [End::Cut, End::Good] {
        let (app, asked) = feed(end);
        let host = serve(app).await;
        let Some(report) = read(&host, &host, 1000).await else { return };
        let all = json!({ "came": expected("h\u{e9} 3"), "gaveUp": true });
        assert_eq!(report.value, all, "{:?}", report.log);
        assert_eq!(*asked.lock().unwrap(), all_asked());
    }
}

/// A stream that is fed by the test.
async fn fed() -> (String, mpsc::Receiver<EventSender>) {
    let (opened, senders) = mpsc::channel(8);
    let handler = async move || {
        let (sender, events) = event_channel(QueueConfig::events());
        sender.send(Event::new("for my own pages")).await.unwrap();
        opened.send(sender).await.unwrap();
        events
    };
    (serve(Router::new().route("/events", get(handler))).await, senders)
}

#[tokio::test]
async fn a_page_that_has_enough_is_seen_to_leave() {
    let (host, mut senders) = fed().await;
    let feeding = tokio::spawn(async move {
        let sender = senders.recv().await?;
        for i in 0.. {
            if sender.send(Event::new(i.to_string())).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        Some(sender.closed().await)
    });
    let Some(report) = read(&host, &host, 3).await else { return };
    let came = json!([["message", "for my own pages", ""], ["message", "0", ""], ["message", "1", ""]]);
    assert_eq!(report.value, json!({ "came": came, "gaveUp": false }), "{:?}", report.log);
    assert!(feeding.await.unwrap().unwrap().is_closed());
}

#[tokio::test]
async fn a_page_of_another_site_can_read_nothing() {
    let (host, mut senders) = fed().await;
    let other = serve(Router::new()).await;
    let Some(report) = read(&other, &host, 1000).await else { return };
    assert_eq!(report.value, json!({ "came": [], "gaveUp": true }));
    assert!(report.log.iter().any(|line| line.contains("CORS")), "{:?}", report.log);
    // It was asked for: what keeps the page from the answer is the browser, by the header that is not there.
    assert!(senders.recv().await.unwrap().closed().await.is_closed());

    let fetched = async |site: &str| -> Option<Value> {
        let argument = json!({ "url": format!("http://{host}/events") });
        Some(run(&format!("http://{site}/"), "fetch.js", argument).await?.value)
    };
    assert_eq!(fetched(&other).await.unwrap(), json!({ "error": "TypeError" }));
    assert_eq!(fetched(&host).await.unwrap(), json!({ "text": "data: for my own pages\n\n" }));
}
