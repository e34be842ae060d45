//! The connector: what goes out, what comes back, and how each failure is told apart.

use std::{net::SocketAddr, time::Duration};

use http::{Request, StatusCode, header};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::{
    auth::AddAuthorizationLayer,
    request_id::{MakeRequestUuid, SetRequestIdLayer},
};
use tower_transport::{
    CloseCode, CloseFrame, Connect, Error, Limits, Message, TransportExt,
    transport::webtransport::{Certificate, WebTransportConnector, WebTransportServer},
};

use crate::webtransport::support::{connector, request, server};

/// A server that says who connected, then sends back what comes.
fn greeting() -> (SocketAddr, WebTransportConnector) {
    let (server, hash) = server();
    let mut server = server.subprotocol("v2").unwrap().subprotocol("v1").unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move {
        let handler = |mut stream: tower_transport::transport::webtransport::WebTransportStream,
                       parts: http::request::Parts| async move {
            let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
            let greeting = format!(
                "{} {} {} {} {}",
                parts.method,
                parts.uri.path_and_query().unwrap(),
                header("authorization"),
                header("x-request-id").len(),
                parts.extensions.get::<SocketAddr>().unwrap().ip(),
            );
            stream.send_message(Message::text(greeting)).await.unwrap();
            while let Some(Ok(message)) = stream.receive_message().await {
                if message.is_data() {
                    stream.send_message(message).await.unwrap();
                }
            }
        };
        server.serve(handler).await;
    });
    (address, connector(hash))
}

#[tokio::test]
async fn connect_takes_a_url_and_tells_what_is_wrong_with_it() {
    let (address, connector) = greeting();
    let mut stream = connector.connect(&format!("https://{address}/there?a=1")).await.unwrap();
    let greeting = stream.receive_message().await.unwrap().unwrap();
    assert_eq!(greeting.as_text().unwrap(), "CONNECT /there?a=1 - 1 127.0.0.1");
    for url in ["", "no url", "ws://example.com/", "https://"] {
        assert!(connector.connect(url).await.unwrap_err().is_config(), "{url}");
    }
}

async fn failure(connector: WebTransportConnector, request: Request<()>) -> Error {
    connector.oneshot(request).await.expect_err("it is not to connect")
}

#[tokio::test]
async fn layers_of_tower_http_fit_the_handshake_as_they_are() {
    let (address, connector) = greeting();
    let connector = ServiceBuilder::new()
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(AddAuthorizationLayer::bearer("secret"))
        .service(connector);
    let response = connector.oneshot(request(address, "/chat?room=1")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut stream = response.into_body();
    let greeting = stream.receive_message().await.unwrap().unwrap();
    assert_eq!(greeting, Message::text("CONNECT /chat?room=1 Bearer secret 36 127.0.0.1"));
    stream.send_message("hello".into()).await.unwrap();
    assert_eq!(stream.receive_message().await.unwrap().unwrap(), "hello".into());
}

#[tokio::test]
async fn a_connector_is_one_by_its_type() {
    fn is_connector<C: Connect<Transport = tower_transport::transport::webtransport::WebTransportStream>>(_: &C) {}
    is_connector(&WebTransportConnector::new());
}

#[tokio::test]
async fn the_subprotocol_is_the_servers_first_that_the_client_offers() {
    let (address, connector) = greeting();
    let offers =
        |names: &[&str]| names.iter().fold(connector.clone(), |connector, name| connector.subprotocol(name).unwrap());
    for (offered, chosen) in
        [(&["v1", "v2"][..], Some("v2")), (&["v0", "v1"], Some("v1")), (&["v0"], None), (&[], None)]
    {
        let response = offers(offered).oneshot(request(address, "/")).await.unwrap();
        let header = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map(|value| value.to_str().unwrap());
        assert_eq!((header, response.body().subprotocol()), (chosen, chosen));
    }
    let mut by_header = request(address, "/");
    by_header.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, "v9, v1".parse().unwrap());
    assert_eq!(connector.oneshot(by_header).await.unwrap().into_body().subprotocol(), Some("v1"));
    assert!(WebTransportConnector::new().subprotocol("two words").unwrap_err().is_config());
}

#[tokio::test]
async fn a_refusal_has_its_status() {
    let (mut server, hash) = server();
    let address = server.local_addr().unwrap();
    for status in [StatusCode::NOT_FOUND, StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE] {
        let refuse = async { server.accept().await.unwrap().reject(status).await.unwrap() };
        let (error, ()) = tokio::join!(failure(connector(hash), request(address, "/")), refuse);
        assert_eq!(error.status(), Some(status), "{error:?}");
        assert_eq!(error.is_auth(), status == StatusCode::UNAUTHORIZED);
    }
    let success = async { server.accept().await.unwrap().reject(StatusCode::OK).await.unwrap_err() };
    let (_, error) = tokio::join!(failure(connector(hash), request(address, "/")), success);
    assert!(error.is_config());
}

#[tokio::test]
async fn a_certificate_that_is_not_the_one_is_a_tls_error() {
    let (address, _) = greeting();
    let other = Certificate::development(&[]).unwrap().hash();
    assert!(failure(connector(other), request(address, "/")).await.is_tls());
    assert!(failure(WebTransportConnector::new().platform_roots(), request(address, "/")).await.is_tls());
}

#[tokio::test]
async fn a_certificate_of_another_name_is_a_tls_error_and_one_of_the_right_name_is_trusted() {
    for (name, is_right) in [("other.example", false), ("127.0.0.1", true)] {
        let signed = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (chain, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let mut server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            server
                .serve(|stream, _| async move {
                    stream.session().closed().await;
                })
                .await
        });
        let connector = WebTransportConnector::new().roots_pem(chain.as_bytes()).unwrap();
        match connector.oneshot(request(address, "/")).await {
            Ok(_) => assert!(is_right),
            Err(error) => assert!(error.is_tls() && !is_right, "{error:?}"),
        }
    }
    assert!(WebTransportConnector::new().roots_pem(b"no PEM").unwrap_err().is_config());
}

#[tokio::test]
async fn a_host_where_nobody_listens_refuses_at_once() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = socket.local_addr().unwrap();
    drop(socket);
    let error = failure(WebTransportConnector::new(), request(nobody, "/")).await;
    assert!(error.is_refused(), "{error:?}");
}

#[tokio::test]
async fn a_host_that_keeps_silent_is_a_timeout_after_the_limit() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let limits = Limits::new().handshake(Duration::from_millis(100));
    let connector = WebTransportConnector::new().limits(limits);
    let error = failure(connector.clone(), request(silent.local_addr().unwrap(), "/")).await;
    assert!(error.is_timeout() && error.to_string().contains("100ms"), "{error}");
    let error = connector.connect_session(request(silent.local_addr().unwrap(), "/")).await.unwrap_err();
    assert!(error.is_timeout());
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_request_is_a_timeout_too() {
    let (mut server, hash) = server();
    let address = server.local_addr().unwrap();
    let connector = connector(hash).limits(Limits::new().handshake(Duration::from_millis(300)));
    let (error, _incoming) = tokio::join!(failure(connector, request(address, "/")), server.accept());
    assert!(error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_and_a_url_that_cannot_work_are_told_apart() {
    let request = |url: &str| Request::get(url).body(()).unwrap();
    let error = failure(WebTransportConnector::new(), request("https://nobody.invalid/")).await;
    assert!(error.is_dns(), "{error:?}");
    let error = failure(WebTransportConnector::new(), request("http://localhost/")).await;
    assert!(error.is_config() && error.to_string().contains("https://"), "{error}");
}

#[tokio::test]
async fn a_connector_and_its_clones_use_one_socket() {
    let (mut server, hash) = server();
    let address = server.local_addr().unwrap();
    let connector = connector(hash);
    let mut ports = Vec::new();
    for connector in [connector.clone(), connector] {
        let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
        let (client, server) = tokio::join!(connector.connect_session(request(address, "/")), accept);
        ports.push(server.remote_address().port());
        drop(client);
    }
    assert_eq!(ports[0], ports[1]);
}

#[test]
fn a_connector_outlives_the_runtime_that_it_was_first_used_in() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let servers = runtime();
    let (address, connector) = servers.block_on(async { greeting() });
    std::thread::spawn(move || servers.block_on(std::future::pending::<()>()));
    for _ in 0..2 {
        let runtime = runtime();
        let stream = runtime.block_on(connector.clone().oneshot(request(address, "/"))).unwrap().into_body();
        assert!(runtime.block_on(async { stream.subprotocol().is_none() }));
        drop(stream);
    }
}

#[tokio::test]
async fn connectors_of_one_runtime_share_their_socket_and_another_runtime_has_its_own() {
    let (mut server, hash) = server();
    let address = server.local_addr().unwrap();
    let (mut clients, mut ports) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let connector = connector(hash);
        let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
        let (client, there) = tokio::join!(connector.connect_session(request(address, "/")), accept);
        ports.push(there.remote_address().port());
        clients.push((client.unwrap().into_body(), there));
    }
    assert_eq!(ports, [ports[0]; 3]);

    let kept = connector(hash);
    let elsewhere = kept.clone();
    let other = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let session = elsewhere.connect_session(request(address, "/")).await.unwrap().into_body();
            session.closed().await
        })
    });
    let there = server.accept().await.unwrap().accept().await.unwrap();
    assert_ne!(there.remote_address().port(), ports[0]);
    there.close(CloseFrame::new(CloseCode::NORMAL, ""));
    assert!(other.await.unwrap().is_closed());

    // The end of that runtime is nothing to this one, whichever the connector was used in before.
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let (client, there) = tokio::join!(kept.connect_session(request(address, "/")), accept);
    assert_eq!(there.remote_address().port(), ports[0]);
    clients.push((client.unwrap().into_body(), there));
    for (client, there) in clients {
        let (stream, accepted) = tokio::join!(client.open(), there.accept());
        assert!(stream.is_ok() && accepted.is_ok());
    }
}
