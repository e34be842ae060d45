//! Guards of the upgrade, over real sockets, hyper and this crate's own client.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response, StatusCode, header, request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tokio::{net::TcpListener, sync::mpsc};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::auth::AddAuthorizationLayer;
use tower_transport::{
    Error, Message, ServiceBuilderExt, TransportExt,
    handshake::{auth::AuthGuardLayer, limit::ConnectionLimitLayer},
    layer::auth::{
        AuthLayer, Claims, Credentials, ExpiryLayer, FirstMessageGuard, FirstMessageLayer, JwtKey, JwtRules,
        JwtVerifier, Reason, Token, TokenRequest, Tokens, forbidden,
    },
    transport::websocket::{Http2, WebSocket, WebSocketConnector, WebSocketService},
};

const RSA_PUBLIC: &[u8] = include_bytes!("../fixtures/auth/rsa_public.pem");
const RSA_PRIVATE: &[u8] = include_bytes!("../fixtures/auth/rsa_private.pem");

/// Real time from here on, whatever a test does with its own.
fn after(seconds: i64) -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().saturating_add_signed(seconds)
}

fn token(expires: i64) -> String {
    let claims = json!({ "sub": "ada", "aud": "feed", "exp": after(expires) });
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &EncodingKey::from_rsa_pem(RSA_PRIVATE).unwrap())
        .unwrap()
}

fn verifier() -> JwtVerifier {
    JwtVerifier::new(JwtKey::rs256_pem(RSA_PUBLIC).unwrap(), JwtRules::new().audience("feed"))
}

async fn listen<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: hyper::body::Body<Data: Send, Error: Into<tower::BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let mut http = auto::Builder::new(TokioExecutor::new());
                http.http2().enable_connect_protocol();
                let _ = http.serve_connection_with_upgrades(TokioIo::new(tcp), service).await;
            });
        }
    });
    address
}

/// A server that greets who gets in, by the name of the principal.
async fn greeter(guard: AuthGuardLayer<JwtVerifier>) -> SocketAddr {
    let greet = |mut socket: WebSocket, parts: request::Parts| async move {
        let name = parts.extensions.get::<Claims>().and_then(|claims| claims.subject.clone());
        let path = parts.uri.path_and_query().unwrap();
        let greeting = format!("{} {path} {:?}", name.unwrap_or_default(), socket.subprotocol());
        let _ = socket.send_message(Message::text(greeting)).await;
        let _ = socket.close(None).await;
    };
    listen(guard.layer(WebSocketService::new(greet).subprotocol("v1").unwrap())).await
}

/// The server's response to a client that sends this request, which is the same over HTTP/1.1 and HTTP/2.
async fn greeting(request: Request<()>) -> Result<String, Error> {
    let greeting = async |connector: WebSocketConnector| {
        let mut socket = connector.oneshot(request.clone()).await?.into_body();
        Ok::<_, Error>(socket.receive_message().await.unwrap()?.as_text().unwrap().to_owned())
    };
    let first = greeting(WebSocketConnector::new()).await;
    let second = greeting(WebSocketConnector::new().http2(Http2::new().prior_knowledge())).await;
    let [one, other] = [&first, &second].map(|greeting| greeting.as_ref().map_err(Error::status));
    assert_eq!(one, other);
    first
}

fn to(address: SocketAddr, path: &str) -> request::Builder {
    Request::get(format!("ws://{address}{path}"))
}

#[tokio::test]
async fn a_token_of_a_header_a_cookie_and_a_subprotocol_lets_in() {
    let address = greeter(AuthGuardLayer::new(verifier()).cookie("session")).await;
    let good = token(600);

    let request = to(address, "/").header(header::AUTHORIZATION, format!("Bearer {good}")).body(()).unwrap();
    assert_eq!(greeting(request).await.unwrap(), "ada / None");

    let request = to(address, "/").header(header::COOKIE, format!("a=b; session={good}")).body(()).unwrap();
    assert_eq!(greeting(request).await.unwrap(), "ada / None");

    let layer = AuthLayer::new(Tokens::fixed(good)).as_subprotocol();
    let connector = layer.layer(WebSocketConnector::new().subprotocol("v1").unwrap());
    let response = connector.oneshot(to(address, "/").body(()).unwrap()).await.unwrap();
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], "v1");
    let greeting = response.into_body().receive_message().await.unwrap().unwrap();
    assert_eq!(greeting.as_text(), Some("ada / Some(\"v1\")"));
}

/// As in browsers, a client that offers subprotocols fails if none of them is chosen.
#[tokio::test]
async fn a_browser_that_offers_its_token_alone_is_answered_with_it() {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let address = greeter(AuthGuardLayer::new(verifier())).await;
    let token = format!("bearer.{}", BASE64_URL_SAFE_NO_PAD.encode(token(600)));
    for (offered, chosen) in [
        (token.clone(), Some(&*token)),
        (format!("v1, {token}"), Some("v1")),
        // The client wants what is not spoken here: that is for it to judge.
        (format!("v9, {token}"), None),
    ] {
        let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: {offered}\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let answered = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(answered, chosen);
    }

    // Of a client of this crate it is no subprotocol, and not in what it prints.
    let connector = AuthLayer::new(Tokens::fixed(self::token(600))).as_subprotocol().layer(WebSocketConnector::new());
    let response = connector.oneshot(to(address, "/").body(()).unwrap()).await.unwrap();
    assert!(!response.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL));
    assert_eq!(response.body().subprotocol(), None);
}

#[tokio::test]
async fn a_token_in_the_query_is_taken_only_where_that_was_asked_for_and_nobody_sees_it_after() {
    let path = format!("/feed?a=1&access_token={}", token(600));
    let address = greeter(AuthGuardLayer::new(verifier())).await;
    let error = greeting(to(address, &path).body(()).unwrap()).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));

    let address = greeter(AuthGuardLayer::new(verifier()).query("access_token")).await;
    assert_eq!(greeting(to(address, &path).body(()).unwrap()).await.unwrap(), "ada /feed?a=1 None");
}

#[tokio::test]
async fn towers_own_layer_carries_a_fixed_token() {
    let address = greeter(AuthGuardLayer::new(verifier())).await;
    let connector =
        ServiceBuilder::new().layer(AddAuthorizationLayer::bearer(&token(600))).service(WebSocketConnector::new());
    let response = connector.oneshot(to(address, "/").body(()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
}

#[tokio::test]
async fn a_client_whose_token_is_refused_gets_a_new_one_and_in() {
    let address = greeter(AuthGuardLayer::new(verifier())).await;
    // The server's clock says that the first has expired; the client does not know.
    let tokens = Tokens::new(service_fn(|request: TokenRequest| async move {
        let life = if request.reason == Reason::First { -600 } else { 600 };
        Ok::<_, Error>(Token::new(token(life)))
    }));
    let mut connector = ServiceBuilder::new().auth(tokens).service(WebSocketConnector::new());
    let response = connector.ready().await.unwrap().call(to(address, "/").body(()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_with_the_standard_words_and_no_others() {
    let service = AuthGuardLayer::new(verifier())
        .realm("feed")
        .unwrap()
        .layer(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))));
    let none = jsonwebtoken_none();
    let bearer =
        |token: &str| Request::get("/").header(header::AUTHORIZATION, format!("Bearer {token}")).body(()).unwrap();
    let doubled = Request::get("/").header(header::AUTHORIZATION, "Bearer a").header(header::AUTHORIZATION, "Bearer b");
    for (request, status, challenge) in [
        (Request::new(()), 401, "Bearer realm=\"feed\""),
        (bearer(&token(-600)), 401, "Bearer realm=\"feed\", error=\"invalid_token\""),
        (bearer(&none), 401, "Bearer realm=\"feed\", error=\"invalid_token\""),
        (bearer("nonsense"), 401, "Bearer realm=\"feed\", error=\"invalid_token\""),
        (doubled.body(()).unwrap(), 400, "Bearer realm=\"feed\", error=\"invalid_request\""),
    ] {
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], challenge);
    }
}

/// `{"alg":"none"}`, good claims, and no signature.
fn jsonwebtoken_none() -> String {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let encode = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({ "sub": "ada", "aud": "feed", "exp": after(600) });
    format!("{}.{}.", encode(json!({ "alg": "none" })), encode(claims))
}

#[tokio::test]
async fn the_verifiers_verdict_is_in_the_status() {
    let answer = async |error: fn() -> Error| {
        let verifier = service_fn(move |_: Credentials| std::future::ready(Err::<(), _>(error())));
        let inner = service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
        let request = Request::get("/").header(header::AUTHORIZATION, "Bearer x").body(()).unwrap();
        AuthGuardLayer::new(verifier).layer(inner).oneshot(request).await.unwrap()
    };
    assert_eq!(answer(|| Error::auth("no")).await.status(), StatusCode::UNAUTHORIZED);
    let response = answer(|| forbidden("not you")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer error=\"insufficient_scope\"");
    let response = answer(|| Error::refused("no database").with_retry_after(Duration::from_millis(1500))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    assert!(!response.headers().contains_key(header::WWW_AUTHENTICATE));
}

#[tokio::test]
async fn an_optional_guard_lets_in_who_shows_nothing_and_refuses_who_shows_what_is_bad() {
    let inner = service_fn(async |request: Request<()>| {
        let name = request.extensions().get::<Claims>().and_then(|claims| claims.subject.clone());
        Ok::<_, Infallible>(Response::new(name.unwrap_or_default()))
    });
    let service = AuthGuardLayer::new(verifier()).optional().layer(inner);
    assert_eq!(service.clone().oneshot(Request::new(())).await.unwrap().into_body(), "");
    let bad = Request::get("/").header(header::AUTHORIZATION, "Bearer x").body(()).unwrap();
    assert_eq!(service.oneshot(bad).await.unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_first_message_is_who_a_peer_is_over_a_real_socket() {
    let (sender, mut results) = mpsc::unbounded_channel();
    let upgrade = WebSocketService::new(move |socket: WebSocket, _: request::Parts| {
        let sender = sender.clone();
        async move {
            match FirstMessageGuard::new(verifier()).accept(socket).await {
                Ok((mut socket, claims)) => {
                    let name: Claims = claims;
                    let _ = socket.send_message(Message::text(name.subject.unwrap_or_default())).await;
                }
                Err(error) => sender.send(error).unwrap(),
            }
        }
    });
    let address = listen(upgrade).await;
    let connect = async |token: String| {
        let connector = ServiceBuilder::new()
            .per_connection(FirstMessageLayer::new(Tokens::fixed(token)))
            .service(WebSocketConnector::new());
        connector.oneshot(to(address, "/").body(()).unwrap()).await.unwrap().into_body()
    };
    assert_eq!(connect(token(600)).await.receive_message().await.unwrap().unwrap(), Message::text("ada"));

    let mut refused = connect(token(-600)).await;
    let end = refused.receive_message().await;
    let Some(Ok(Message::Close(Some(frame)))) = end else { panic!("no close message: {end:?}") };
    assert_eq!(frame.code().get(), 4401);
    assert!(results.recv().await.unwrap().is_auth());
}

#[tokio::test]
async fn a_session_over_a_real_socket_ends_with_its_token() {
    let upgrade = WebSocketService::new(|socket: WebSocket, parts: request::Parts| async move {
        let Some(claims) = parts.extensions.get::<Claims>() else { return };
        let mut socket = ExpiryLayer::new(claims).layer(socket);
        while let Some(Ok(message)) = socket.next().await {
            if message.is_data() && socket.send_message(message).await.is_err() {
                return;
            }
        }
    });
    let address = listen(AuthGuardLayer::new(verifier()).layer(upgrade)).await;

    // Expired, and let in by the leeway.
    let bad = ServiceBuilder::new().auth(Tokens::fixed(token(-5))).service(WebSocketConnector::new());
    let mut socket = bad.oneshot(to(address, "/").body(()).unwrap()).await.unwrap().into_body();
    let frame = loop {
        match socket.receive_message().await {
            Some(Ok(Message::Close(Some(frame)))) => break frame,
            Some(Ok(_)) => {}
            other => panic!("no close message: {other:?}"),
        }
    };
    assert_eq!((frame.code().get(), frame.reason()), (4401, "token expired"));
}

#[tokio::test]
async fn connections_are_counted_until_they_end_in_total_and_by_key() {
    let upgrade = WebSocketService::new(|mut socket: WebSocket, _parts| async move {
        while let Some(Ok(_)) = socket.receive_message().await {}
    });
    let key = |parts: &request::Parts| parts.headers.get("x-key").cloned();
    for connector in [WebSocketConnector::new(), WebSocketConnector::new().http2(Http2::new().prior_knowledge())] {
        let limit = ConnectionLimitLayer::new(3).per_key(2, key);
        let address = listen(limit.layer(upgrade.clone())).await;
        let connect = async |key: &str| {
            let request = to(address, "/").header("x-key", key).body(()).unwrap();
            connector.clone().oneshot(request).await.map(Response::into_body)
        };
        let (first, _second) = (connect("a").await.unwrap(), connect("a").await.unwrap());
        assert_eq!(connect("a").await.unwrap_err().status(), Some(StatusCode::TOO_MANY_REQUESTS));
        let _third = connect("b").await.unwrap();
        assert_eq!(connect("c").await.unwrap_err().status(), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(limit.connections(), 3);
        drop(first);
        while limit.connections() > 2 {
            tokio::task::yield_now().await;
        }
        connect("a").await.unwrap();
    }
}

#[tokio::test]
async fn the_guard_is_a_layer_of_an_axum_router() {
    use axum::{Extension, Router, response::Response, routing::any};
    use tower_transport::transport::websocket::WebSocketHandshake;

    async fn greet(Extension(claims): Extension<Claims>, handshake: WebSocketHandshake) -> Response {
        handshake.on_upgrade(|mut socket| async move {
            let _ = socket.send_message(Message::text(claims.subject.unwrap_or_default())).await;
        })
    }

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", any(greet))
        .layer(AuthGuardLayer::new(verifier()))
        .layer(ConnectionLimitLayer::new(10).per_key(5, |parts| parts.headers.get("host").cloned()));
    tokio::spawn(async move { axum::serve(listener, router).await });

    let request = to(address, "/").header(header::AUTHORIZATION, format!("Bearer {}", token(600))).body(()).unwrap();
    assert_eq!(greeting(request).await.unwrap(), "ada");
    let error = greeting(to(address, "/").body(()).unwrap()).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
}
