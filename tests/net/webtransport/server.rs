//! The server: which clients it accepts, which it rejects, and how it ends.

use std::time::Duration;

use crate::webtransport::{
    raw,
    support::{connector, request, server},
};
use http::{HeaderValue, StatusCode, header};
use tower::ServiceExt;
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, TransportExt,
    transport::webtransport::{WebTransportConnector, WebTransportServer},
};
use web_transport_quinn::proto::ConnectRequest;

async fn echo(mut server: WebTransportServer) {
    let handler = |mut stream: tower_transport::transport::webtransport::WebTransportStream, _| async move {
        while let Some(Ok(message)) = stream.receive_message().await {
            if message.is_data() {
                stream.send_message(message).await.unwrap();
            }
        }
    };
    server.serve(handler).await;
}

async fn assert_works(connector: WebTransportConnector, address: std::net::SocketAddr) {
    let mut stream = connector.oneshot(request(address, "/")).await.unwrap().into_body();
    stream.send_message("hello".into()).await.unwrap();
    assert_eq!(stream.receive_message().await.unwrap().unwrap(), Message::text("hello"));
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_unless_it_is_allowed() {
    let allowed = HeaderValue::from_static("https://app.example");
    let (by_default, with_one, with_any) = (server(), server(), server());
    let with_one = (with_one.0.allow_origin(allowed), with_one.1);
    let with_any = (with_any.0.allow_any_origin(), with_any.1);
    for ((server, hash), takes) in
        [(by_default, [true, false, false]), (with_one, [true, true, false]), (with_any, [true; 3])]
    {
        let address = server.local_addr().unwrap();
        tokio::spawn(echo(server));
        let same = format!("https://{address}");
        for (origin, takes) in [same.as_str(), "https://app.example", "https://evil.example"].into_iter().zip(takes) {
            let mut request = request(address, "/");
            request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
            match connector(hash).oneshot(request).await {
                Ok(_) => assert!(takes, "{origin}"),
                Err(error) => assert!(!takes && error.status() == Some(StatusCode::FORBIDDEN), "{origin}: {error:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_server_takes_every_path_unless_it_has_one() {
    let (anywhere, at_chat) = (server(), server());
    let at_chat = (at_chat.0.path("/chat").allow_any_origin(), at_chat.1);
    for ((server, hash), has_path) in [(anywhere, false), (at_chat, true)] {
        let address = server.local_addr().unwrap();
        tokio::spawn(echo(server));
        let connector = connector(hash);
        for (path, is_chat) in [
            ("/chat", true),
            ("/chat?token=1", true),
            ("/", false),
            ("/chat/", false),
            ("/Chat", false),
            ("/chat%2f", false),
        ] {
            match connector.clone().oneshot(request(address, path)).await {
                Ok(_) => assert!(is_chat || !has_path, "{path}"),
                Err(error) => {
                    assert!(has_path && !is_chat && error.status() == Some(StatusCode::NOT_FOUND), "{path}: {error:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_a_client_asks_for_is_printed_without_its_query() {
    let (mut server, hash) = server();
    let address = server.local_addr().unwrap();
    tokio::spawn(connector(hash).oneshot(request(address, "/feed?token=tainted")));
    let printed = format!("{:?}", server.accept().await.unwrap());
    assert!(printed.contains("/feed") && !printed.contains("tainted"), "{printed}");
}

#[tokio::test]
async fn clients_that_do_not_finish_their_handshake_hold_nobody() {
    let (server, hash) = server();
    let address = server.local_addr().unwrap();
    tokio::spawn(echo(server));
    let mut slow = Vec::new();
    for _ in 0..10 {
        slow.push(raw::connect(address, hash).await);
    }
    assert_works(connector(hash), address).await;
    // And in the end they are cut.
    drop(slow);
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_cut() {
    let (server, hash) = server();
    let server = server.limits(Limits::new().handshake(Duration::from_millis(200)));
    let address = server.local_addr().unwrap();
    tokio::spawn(echo(server));
    raw::connect(address, hash).await.closed().await;
    assert_works(connector(hash), address).await;
}

#[tokio::test]
async fn over_the_most_handshakes_a_client_is_refused() {
    let (server, hash) = server();
    let server = server.max_handshakes(1);
    let address = server.local_addr().unwrap();
    tokio::spawn(echo(server));
    let slow = raw::connect(address, hash).await;
    let error = connector(hash).oneshot(request(address, "/")).await.unwrap_err();
    assert!(error.is_rate_limited(), "{error:?}");
    slow.close(0u32.into(), b"");
    while let Err(error) = connector(hash).oneshot(request(address, "/")).await {
        assert!(error.is_rate_limited(), "{error:?}");
    }
}

#[tokio::test]
async fn over_the_most_sessions_a_client_is_refused() {
    let (server, hash) = server();
    let server = server.max_sessions(1);
    let address = server.local_addr().unwrap();
    tokio::spawn(echo(server));
    let _first = connector(hash).oneshot(request(address, "/")).await.unwrap();
    let error = connector(hash).oneshot(request(address, "/")).await.unwrap_err();
    assert!(error.is_rate_limited(), "{error:?}");
}

#[tokio::test]
async fn a_session_without_a_stream_is_closed_in_time() {
    let (server, hash) = server();
    let server = server.limits(Limits::new().handshake(Duration::from_millis(300)));
    let address = server.local_addr().unwrap();
    tokio::spawn(echo(server));
    let session = connector(hash).connect_session(request(address, "/")).await.unwrap().into_body();
    let error = session.closed().await;
    assert_eq!(error.close_frame().unwrap().code(), CloseCode::PROTOCOL);
}

#[tokio::test]
async fn a_rejected_client_that_stays_is_cut_after_the_configured_time_of_a_close() {
    let (server, hash) = server();
    let mut server = server.limits(Limits::new().close(Duration::from_millis(200)));
    let address = server.local_addr().unwrap();
    let ask = async {
        let connection = raw::connect(address, hash).await;
        let request = ConnectRequest::new(format!("https://{address}/").parse::<url::Url>().unwrap());
        let refused = web_transport_quinn::Session::connect(connection.clone(), request).await;
        assert!(refused.is_err());
        connection.closed().await
    };
    let reject = async { server.accept().await.unwrap().reject(StatusCode::FORBIDDEN).await.unwrap() };
    // Under the default of 10 s.
    tokio::time::timeout(Duration::from_secs(5), async { tokio::join!(ask, reject) }).await.unwrap();
}

#[tokio::test]
async fn a_server_that_closes_tells_every_session_and_takes_no_more() {
    let (mut server, hash) = server();
    let address = server.local_addr().unwrap();
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    let connector = connector(hash).limits(Limits::new().handshake(Duration::from_millis(500)));
    for _ in 0..3 {
        let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
        let (client, theirs) = tokio::join!(connector.connect_session(request(address, "/")), accept);
        clients.push(client.unwrap().into_body());
        servers.push(theirs);
    }
    let frame = CloseFrame::new(CloseCode::AWAY, "maintenance");
    server.close(frame.clone()).await;
    for client in clients {
        assert_eq!(client.closed().await.close_frame(), Some(&frame));
    }
    assert!(servers.pop().unwrap().open().await.unwrap_err().is_closed());
    let error = connector.oneshot(request(address, "/")).await.unwrap_err();
    assert!(error.is_rate_limited() || error.is_timeout(), "{error:?}");
}
