//! Scenarios of our connector and a server at `base`. The routes are those of `ws.cjs`.

use futures_util::StreamExt;
use tower::ServiceExt;
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, TransportExt,
    transport::websocket::{Http2, WebSocket, WebSocketConnector},
};

use crate::LIMIT;

async fn connect(base: &str, path: &str, limits: Limits) -> WebSocket {
    let (connector, base, status) = match base.strip_prefix(HTTP_2) {
        Some(base) => (WebSocketConnector::new().http2(Http2::new().prior_knowledge()), base, 200),
        None => (WebSocketConnector::new(), base, 101),
    };
    let request = http::Request::get(format!("{base}{path}")).body(()).unwrap();
    let response = connector.limits(limits).oneshot(request).await.unwrap();
    assert_eq!(response.status(), status);
    response.into_body()
}

/// Stands before a `base` whose server is asked over HTTP/2.
pub(crate) const HTTP_2: &str = "http2 ";

fn limits() -> Limits {
    Limits::new().message(LIMIT)
}

async fn next_data(socket: &mut WebSocket) -> Message {
    loop {
        let message = socket.next().await.expect("the server is there").unwrap();
        if message.is_data() {
            return message;
        }
    }
}

fn samples() -> Vec<Message> {
    let texts = ["", "a", "h\u{e9}llo \u{2713} \u{1d11e}", &"x".repeat(LIMIT)].map(Message::from);
    let bytes = [0, 1, 125, 126, 65_535, 65_536, LIMIT]
        .map(|size| Message::binary((0..size).map(|i| i as u8).collect::<Vec<_>>()));
    texts.into_iter().chain(bytes).collect()
}

pub(crate) async fn is_echoed_from_empty_to_limit_sized(base: &str) {
    let mut socket = connect(base, "/echo", limits()).await;
    for message in samples() {
        socket.send_message(message.clone()).await.unwrap();
        assert!(next_data(&mut socket).await == message, "{} bytes", message.len());
    }
    let answer = socket.close(Some(CloseFrame::new(CloseCode::NORMAL, "done"))).await.unwrap();
    assert_eq!(answer.unwrap().code(), CloseCode::NORMAL);
}

pub(crate) async fn fragments_what_is_over_the_frame_limit(base: &str) {
    // The limit holds both ways: the answer comes in fragments too, five of them.
    let mut socket = connect(base, "/fragments", limits().frame(1000)).await;
    for message in [Message::from("h\u{e9}llo \u{2713} ".repeat(300)), Message::binary(vec![7; 4001])] {
        socket.send_message(message.clone()).await.unwrap();
        assert_eq!(next_data(&mut socket).await, message);
    }
}

pub(crate) async fn assembles_fragments(base: &str) {
    let mut socket = connect(base, "/fragments", limits()).await;
    for message in samples() {
        socket.send_message(message.clone()).await.unwrap();
        assert!(next_data(&mut socket).await == message, "{} bytes", message.len());
    }
}

pub(crate) async fn is_told_1009_for_what_is_over_the_servers_limit(base: &str) {
    let mut socket = connect(base, "/echo", Limits::new()).await;
    // The server may have closed before all is written.
    let _ = socket.send_message(Message::binary(vec![0; LIMIT + 1])).await;
    while let Some(Ok(_)) = socket.next().await {}
    assert_eq!(socket.close_frame().unwrap().code(), CloseCode::TOO_BIG);
}

pub(crate) async fn refuses_what_is_over_its_own_limit(base: &str) {
    let mut socket = connect(base, "/oversize", limits()).await;
    let error = socket.next().await.unwrap().unwrap_err();
    assert!(error.is_too_large(), "{error:?}");
    assert!(error.to_string().contains(&LIMIT.to_string()), "{error}");
    assert!(socket.next().await.is_none());
}

pub(crate) async fn answers_a_storm_of_pings(base: &str) {
    let mut socket = connect(base, "/pings", limits()).await;
    assert_eq!(next_data(&mut socket).await, Message::text("answered"));
}

pub(crate) async fn is_answered_its_ping(base: &str) {
    let mut socket = connect(base, "/echo", limits()).await;
    socket.send_message(Message::Ping("are you there".into())).await.unwrap();
    loop {
        // Servers ping of their own accord.
        match socket.next().await.unwrap().unwrap() {
            Message::Pong(bytes) => return assert_eq!(bytes, "are you there"),
            message => assert!(matches!(message, Message::Ping(_))),
        }
    }
}

pub(crate) async fn learns_why_the_server_closed(base: &str) {
    let mut socket = connect(base, "/close", limits()).await;
    let frame = CloseFrame::new(CloseCode::new(4001).unwrap(), "enough");
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Close(Some(frame.clone())));
    assert!(socket.next().await.is_none());
    assert_eq!(socket.close_frame(), Some(&frame));
    let error = socket.send_message(Message::text("too late")).await.unwrap_err();
    assert!(error.is_closed());
    assert_eq!(error.close_frame(), Some(&frame));
}

pub(crate) async fn closes_with_its_own_code(base: &str) {
    let mut socket = connect(base, "/echo", limits()).await;
    let frame = CloseFrame::new(CloseCode::new(4002).unwrap(), "that is all");
    let answer = socket.close(Some(frame.clone())).await.unwrap();
    assert_eq!(answer.unwrap().code(), frame.code());
}

pub(crate) async fn agrees_on_a_subprotocol(base: &str) {
    let request = http::Request::get(format!("{base}/echo")).body(()).unwrap();
    let connector = WebSocketConnector::new().subprotocol("unknown").unwrap().subprotocol("chat").unwrap();
    let response = connector.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    assert_eq!(response.into_body().subprotocol(), Some("chat"));
}

pub(crate) async fn agrees_on_the_first_subprotocol_where_the_server_takes_that(base: &str) {
    let request = http::Request::get(format!("{base}/echo")).body(()).unwrap();
    let connector = WebSocketConnector::new().subprotocol("chat").unwrap().subprotocol("unknown").unwrap();
    assert_eq!(connector.oneshot(request).await.unwrap().into_body().subprotocol(), Some("chat"));
}

/// Whether the server takes our subprotocol, which it does not know, or takes none.
pub(crate) async fn goes_on_plain_with_the_whole_stack(base: &str) {
    use tower_transport::stack::{Capabilities, OptimizedTransport};

    for name in [None, Some("chat")] {
        let connector = WebSocketConnector::new().limits(limits());
        let connector = match name {
            Some(name) => connector.subprotocol(name).unwrap(),
            None => connector,
        };
        let builder = OptimizedTransport::builder().limits(limits());
        let mut transport = builder.connect_with(connector, format!("{base}/echo")).await.unwrap();
        assert_eq!(transport.capabilities(), Capabilities::NONE);
        for message in samples() {
            transport.send_message(message.clone()).await.unwrap();
            assert!(transport.receive_message().await.unwrap().unwrap() == message, "{} bytes", message.len());
        }
    }
}

/// The server ends or refuses connections on which a subprotocol was offered.
pub(crate) async fn goes_on_plain_without_the_name(base: &str) {
    use tower_transport::stack::{Capabilities, OptimizedTransport};

    for path in ["drops", "goes", "refuses"] {
        let builder = OptimizedTransport::builder().limits(limits());
        let mut transport = builder.connect(&format!("{base}/{path}")).await.unwrap();
        assert_eq!(transport.capabilities(), Capabilities::NONE);
        for message in samples() {
            transport.send_message(message.clone()).await.unwrap();
            assert!(transport.receive_message().await.unwrap().unwrap() == message, "{} bytes", message.len());
        }
    }
}
