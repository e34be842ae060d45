//! The browser's `WebTransport` against our endpoint.

use axum::Router;
use futures_util::SinkExt;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower_transport::{
    CloseCode, CloseFrame, Error, Message, TransportExt,
    transport::webtransport::{Certificate, Session, WebTransportServer, WebTransportStream},
};

use crate::{
    browser::{Report, run},
    site::serve,
};

/// An endpoint that sends all back, and has nothing at `/nowhere`. Gives its address, the bytes of its certificate's
/// hash, and how sessions end.
fn endpoint(origin: &str) -> (String, Value, mpsc::Receiver<Error>) {
    let certificate = Certificate::development(&[]).unwrap();
    let hash = json!(certificate.hash().as_bytes());
    let server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
    let mut server = server.subprotocol("b.v1").unwrap().allow_origin(origin.parse().unwrap());
    let url = format!("https://127.0.0.1:{}", server.local_addr().unwrap().port());
    let (ended, ends) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            if incoming.parts().uri.path() == "/nowhere" {
                let _ = incoming.reject(StatusCode::NOT_FOUND).await;
                continue;
            }
            let session = incoming.accept().await.unwrap();
            tokio::spawn(all_back(session.clone()));
            let ended = ended.clone();
            tokio::spawn(async move { ended.send(session.closed().await).await });
        }
    });
    (url, hash, ends)
}

async fn all_back(session: Session) {
    let streams = async {
        while let Ok(stream) = session.accept().await {
            tokio::spawn(echo(stream));
        }
    };
    let one_way = async {
        while let Ok(mut incoming) = session.accept_uni().await {
            let mut outgoing = session.open_uni().await.unwrap();
            while let Some(Ok(message)) = futures_util::StreamExt::next(&mut incoming).await {
                outgoing.send(message).await.unwrap();
            }
            outgoing.close(None).await.unwrap();
        }
    };
    let datagrams = async {
        let mut datagrams = session.datagrams();
        while let Some(Ok(Message::Binary(datagram))) = datagrams.receive_message().await {
            if datagram == "close, please" {
                session.close(CloseFrame::new(CloseCode::new(4002).unwrap(), "enough, says the server"));
                break;
            }
            datagrams.send_message(Message::Binary(datagram)).await.unwrap();
        }
    };
    tokio::join!(streams, one_way, datagrams);
}

async fn echo(mut stream: WebTransportStream) -> Result<(), Error> {
    while let Some(message) = stream.receive_message().await.transpose()? {
        if message.is_data() {
            stream.send_message(message).await?;
        }
    }
    Ok(())
}

fn messages() -> Value {
    json!([
        "",
        "h\u{e9}llo \u{2713} \u{1d11e}",
        [],
        [0, 127, 255],
        "x".repeat(63),
        "x".repeat(64),
        "x".repeat(16_383),
        "x".repeat(100_000)
    ])
}

/// Returns the result of a page of `host` that connects to `path` of an endpoint that allows pages of `allowed`, and
/// how sessions ended there.
async fn page(
    host: &str,
    allowed: &str,
    path: &str,
    protocols: Value,
    close: Value,
) -> Option<(Report, mpsc::Receiver<Error>)> {
    let (url, hash, ends) = endpoint(&format!("http://{allowed}"));
    let argument = json!({
        "url": format!("{url}{path}"), "hash": hash, "protocols": protocols, "messages": messages(), "datagrams": ["fast", "faster"], "close": close,
    });
    let report = run(&format!("http://{host}/"), "webtransport.js", argument).await?;
    assert!(report.error.is_none(), "{report:?}");
    Some((report, ends))
}

fn came(protocol: &str, end: Value) -> Value {
    json!({
        "protocol": protocol, "messages": messages(), "datagrams": ["fast", "faster"], "uni": "one way", "preamble": 1,
        "streamClose": { "close": 4001, "reason": "done." }, "streamEnd": null, "end": end,
    })
}

#[tokio::test]
async fn a_page_has_streams_datagrams_and_a_subprotocol_and_its_close_arrives() {
    let host = serve(Router::new()).await;
    let close = json!({ "closeCode": 4001, "reason": "the page is done" });
    let offered = json!(["a.v2", "b.v1"]);
    let Some((report, mut ends)) = page(&host, &host, "/echo", offered, close.clone()).await else { return };
    assert_eq!(report.value, came("b.v1", close), "{:?}", report.log);
    let end = ends.recv().await.unwrap();
    assert!(end.is_closed(), "{end}");
    assert_eq!(end.close_frame().unwrap().to_string(), "4001 \"the page is done\"");
}

#[tokio::test]
async fn the_code_and_the_reason_of_the_servers_close_arrive_in_the_page() {
    let host = serve(Router::new()).await;
    let Some((report, _ends)) = page(&host, &host, "/echo", json!([]), json!(null)).await else { return };
    let end = json!({ "closeCode": 4002, "reason": "enough, says the server" });
    assert_eq!(report.value, came("", end), "{:?}", report.log);
}

#[tokio::test]
async fn a_page_is_refused_where_there_is_nothing_and_is_not_told_why() {
    let host = serve(Router::new()).await;
    let Some((report, ends)) = page(&host, &host, "/nowhere", json!([]), json!(null)).await else { return };
    is_refused(&report, ends);
}

#[tokio::test]
async fn a_page_of_another_site_is_refused() {
    let (host, other) = (serve(Router::new()).await, serve(Router::new()).await);
    let Some((report, ends)) = page(&other, &host, "/echo", json!([]), json!(null)).await else { return };
    is_refused(&report, ends);
}

/// By an answer of HTTP, which Chromium tells from a fault of the protocol, if not the page.
fn is_refused(report: &Report, mut ends: mpsc::Receiver<Error>) {
    assert_eq!(report.value, json!({ "refused": "WebTransportError: Opening handshake failed." }));
    let is_answer = |line: &String| line.contains("net::ERR_METHOD_NOT_SUPPORTED");
    assert!(report.log.iter().any(is_answer), "{:?}", report.log);
    assert!(ends.try_recv().is_err(), "there was a session");
}
