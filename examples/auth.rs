//! A server that admits clients by JWT, and clients that present valid and invalid tokens in different ways.
//!
//! ```text
//! cargo run -p examples --bin auth
//! ```

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use http::{Request, request};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::net::TcpListener;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_http::auth::AddAuthorizationLayer;
use tower_transport::{
    BoxError, Connect, Error, Message, ServiceBuilderExt, Transport, TransportExt,
    handshake::auth::AuthGuardLayer,
    layer::auth::{
        AuthLayer, Claims, ExpiryLayer, FirstMessageGuard, FirstMessageLayer, JwtKey, JwtRules, JwtVerifier, Token,
        TokenRequest, Tokens,
    },
    transport::{
        accept,
        websocket::{WebSocket, WebSocketConnector, WebSocketService},
    },
};

const SECRET: &[u8] = b"a secret that issuer and server share, and nobody else";

/// Issues a token for Ada that is valid for `seconds`, or, if negative, expired that long ago.
fn token(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = json!({ "sub": "ada", "aud": "feed", "exp": now.saturating_add_signed(seconds) });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap_or_default()
}

fn verifier() -> Result<JwtVerifier, Error> {
    Ok(JwtVerifier::new(JwtKey::hs256(SECRET)?, JwtRules::new().audience("feed").leeway(Duration::from_secs(5))))
}

/// Runs a session: sends one greeting, then waits until the token expires or the peer leaves.
async fn session(socket: WebSocket, claims: &Claims) {
    let mut socket = ExpiryLayer::new(claims).layer(socket);
    let name = claims.subject.as_deref().unwrap_or("nobody");
    let _ = socket.send_message(Message::text(format!("welcome, {name}"))).await;
    while let Some(message) = socket.receive_message().await {
        match message {
            Err(error) if error.is_auth() => println!("  server: {error}"),
            _ => {}
        }
    }
}

/// Verifies a token in the handshake if there is one. Otherwise the client must authenticate with its first message.
async fn serve(listener: TcpListener, verifier: JwtVerifier) -> Result<(), BoxError> {
    let first = FirstMessageGuard::new(verifier.clone()).deadline(Duration::from_secs(1));
    let upgrade = WebSocketService::new(move |socket, parts: request::Parts| async move {
        match parts.extensions.get::<Claims>() {
            Some(claims) => session(socket, claims).await,
            None => match first.accept(socket).await {
                Ok((socket, claims)) => session(socket, &claims).await,
                Err(error) => println!("  server: {error}"),
            },
        }
    })
    .subprotocol("feed.v1")?;
    let service = AuthGuardLayer::new(verifier).optional().realm("feed")?.layer(upgrade);
    loop {
        let (tcp, _) = accept(|| listener.accept()).await;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(service.clone()))
            .with_upgrades();
        tokio::spawn(connection);
    }
}

/// Connects, and prints the result: the first message, and the end if `to_the_end` is set.
async fn try_it<C>(what: &str, connector: C, server: SocketAddr, to_the_end: bool) -> Result<(), BoxError>
where
    C: Connect<Transport: Transport<Message, In = Message> + Unpin>,
{
    println!("{what}");
    let request = Request::get(format!("ws://{server}/feed")).body(())?;
    let response = match connector.oneshot(request).await.map_err(Into::<Error>::into) {
        Ok(response) => response,
        Err(error) => {
            println!("  client: {error}");
            return Ok(());
        }
    };
    let mut socket = response.into_body();
    while let Some(message) = socket.receive_message().await {
        match message? {
            Message::Close(Some(frame)) => println!("  client: closed with {frame}"),
            message => println!("  client: {:?}", message.as_text().unwrap_or_default()),
        }
        if !to_the_end {
            break;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    tokio::spawn(serve(listener, verifier()?));
    let connector = WebSocketConnector::new;

    let fixed = ServiceBuilder::new().layer(AddAuthorizationLayer::bearer(&token(600))).service(connector());
    try_it("a token that never changes, by tower-http's own layer", fixed, server, false).await?;

    // The first token of this source stands for a revoked one: the server refuses it, and the source is called again.
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let tokens = Tokens::new(service_fn(|request: TokenRequest| async move {
        println!("  source: a token is wanted, because: {:?}", request.reason);
        let is_first = CALLS.fetch_add(1, Ordering::Relaxed) == 0;
        Ok::<_, Error>(Token::new(token(if is_first { -60 } else { 600 })).expires_in(Duration::from_secs(600)))
    }));
    let refreshed = ServiceBuilder::new().auth(tokens.clone()).service(connector());
    try_it("a source of tokens; the server refuses its first", refreshed.clone(), server, false).await?;
    try_it("the same again: the token is cached", refreshed, server, false).await?;

    let browser = AuthLayer::new(tokens.clone()).as_subprotocol().layer(connector().subprotocol("feed.v1")?);
    try_it("as a browser does: the token as a subprotocol", browser, server, false).await?;

    let first = ServiceBuilder::new().per_connection(FirstMessageLayer::new(tokens)).service(connector());
    try_it("as the first message", first, server, false).await?;

    let expired = ServiceBuilder::new().auth(Tokens::fixed(token(-60))).service(connector());
    try_it("an expired token", expired, server, false).await?;

    // {"alg":"none"}, {"sub":"ada","aud":"feed","exp":4102444800}, and no signature.
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJhdWQiOiJmZWVkIiwiZXhwIjo0MTAyNDQ0ODAwfQ.";
    let forged = ServiceBuilder::new().auth(Tokens::fixed(none)).service(connector());
    try_it("a forged token, `alg: none`", forged, server, false).await?;

    try_it("no token at all: the server waits a second for a first message", connector(), server, true).await?;

    let short = ServiceBuilder::new().auth(Tokens::fixed(token(2))).service(connector());
    try_it("a token of two seconds: the session ends with it", short, server, true).await
}
