//! A page's `EventSource` and `fetch` against our server of SSE and POST.

use axum::Router;
use http::HeaderValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower_transport::{
    CloseFrame, Error, TransportExt,
    transport::sse::{SseDuplex, SseDuplexServer},
};

use crate::{browser::run, site::serve};

type End = Result<Option<CloseFrame>, Error>;

async fn echo(mut session: SseDuplex) -> End {
    while let Some(message) = session.receive_message().await {
        let message = message?;
        if message.is_data() {
            session.send_message(message).await?;
        }
    }
    Ok(session.close_frame().cloned())
}

/// A site with an echo at `/sse` that also takes the pages of `origin`, and how the sessions there end.
async fn site(origin: Option<&str>) -> (String, mpsc::Receiver<End>) {
    let (ended, ends) = mpsc::channel(1);
    let mut server = SseDuplexServer::new(move |session, _| async move {
        let _ = ended.send(echo(session).await).await;
    });
    if let Some(origin) = origin {
        server = server.allow_origin(HeaderValue::from_str(origin).unwrap());
    }
    (serve(Router::new().route_service("/sse", server)).await, ends)
}

fn messages() -> Value {
    json!(["", "h\u{e9}llo \u{2713} \u{1d11e}", "two\nlines\n", [], [0, 127, 255], "x".repeat(100_000)])
}

async fn is_echoed(page: &str, host: &str, mut ends: mpsc::Receiver<End>) {
    let argument = json!({ "url": format!("http://{host}/sse"), "messages": messages() });
    let Some(report) = run(&format!("http://{page}/"), "sse_duplex.js", argument).await else { return };
    assert_eq!(report.value, json!({ "came": messages(), "end": "4000 that is all" }), "{:?}", report.log);
    assert_eq!(ends.recv().await.unwrap().unwrap().unwrap().to_string(), "4000 \"that is all\"");
}

#[tokio::test]
async fn a_page_is_echoed_by_its_own_site_and_each_end_learns_how_it_ended() {
    let (host, ends) = site(None).await;
    is_echoed(&host, &host, ends).await;
}

#[tokio::test]
async fn a_page_of_an_allowed_site_is_echoed_too() {
    let page = serve(Router::new()).await;
    let (host, ends) = site(Some(&format!("http://{page}"))).await;
    is_echoed(&page, &host, ends).await;
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_with_403() {
    let page = serve(Router::new()).await;
    let (host, mut ends) = site(None).await;
    let argument = json!({ "url": format!("http://{host}/sse"), "messages": ["steal"] });
    let Some(report) = run(&format!("http://{page}/"), "sse_duplex.js", argument).await else { return };
    assert_eq!(report.value, json!({ "came": [], "end": "error" }));
    assert!(ends.try_recv().is_err(), "there was a session");
}
