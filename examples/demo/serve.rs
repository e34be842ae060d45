//! Everything that is served: the page, its controls, and the doors of the three transports.

use std::{future::ready, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use tokio::time;
use tower::{Service, service_fn};
use tower_layer::layer_fn;
use tower_transport::{
    BoxError, CloseCode, CloseFrame, Error,
    stack::{
        AdaptiveTransport, OptimizedAcceptor, TransportKind,
        adaptive::{
            SessionServer,
            server::{Admission, Admit},
        },
    },
    transport::webtransport::{Certificate, Incoming, SessionLimits, WebTransportServer},
};

use crate::{
    line::Peer,
    room::{Control, Link, MEMBERS, Room, query},
};

/// The page: path, type, content. It needs nothing else, neither of this server nor of another.
const FILES: [(&str, &str, &str); 6] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/client.js", "text/javascript; charset=utf-8", include_str!("page/client.js")),
    ("/links.js", "text/javascript; charset=utf-8", include_str!("page/links.js")),
    ("/wire.js", "text/javascript; charset=utf-8", include_str!("page/wire.js")),
];

const HEADERS: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// The time for a WebTransport client to open its stream.
const OPENING: Duration = Duration::from_secs(10);

/// The routes of the page and its controls, and next to them the WebSockets at `/ws` and SSE + POST at `/sse`.
pub(crate) fn routes(
    acceptor: OptimizedAcceptor<AdaptiveTransport>,
    room: Room,
    web_transport: WebTransportConfig,
) -> Router {
    let sessions = sessions(acceptor, room.clone());
    let WebTransportConfig { json, url } = web_transport;
    // Only this server, and its endpoint of WebTransport, which has another scheme.
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' {url}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let policy = HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let pages = FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        router.route(path, get(move || ready(([(header::CONTENT_TYPE, kind)], content))))
    });
    pages
        .route("/config.json", get(move || ready(of_json(json.clone()))))
        .route("/stats", get(stats))
        .route("/control", post(control).layer(DefaultBodyLimit::max(256)))
        .with_state(room)
        .layer(middleware::map_response(move |mut response: Response| {
            let headers = response.headers_mut();
            headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
            headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
            ready(response)
        }))
        .fallback_service(sessions.http())
}

fn of_json(json: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], json)
}

async fn stats(State(room): State<Room>, uri: Uri) -> Result<impl IntoResponse, StatusCode> {
    let id = query(&uri, "client").ok_or(StatusCode::BAD_REQUEST)?;
    serde_json::to_string(&room.stats(id)).map(of_json).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// The type of the body keeps pages of other origins out: they would have to ask first, and nobody answers.
async fn control(State(room): State<Room>, uri: Uri, headers: HeaderMap, body: Bytes) -> StatusCode {
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    match (query(&uri, "client"), serde_json::from_slice::<Control>(&body)) {
        (Some(id), Ok(command)) => {
            room.control(id, &command);
            StatusCode::NO_CONTENT
        }
        _ => StatusCode::BAD_REQUEST,
    }
}

/// The sessions over WebSocket and SSE, with the guard that decides who may connect. It notes the connection, so that a
/// page can ask for its cut.
fn sessions(acceptor: OptimizedAcceptor<AdaptiveTransport>, room: Room) -> SessionServer {
    let guarded = room.clone();
    let guard = layer_fn(move |mut admit: Admit| {
        let room = guarded.clone();
        service_fn(move |request: Request<()>| {
            let kind = if request.uri().path() == "/sse" { TransportKind::Sse } else { TransportKind::WebSocket };
            let link = request.extensions().get().map(|ConnectInfo::<Peer>(peer)| Link::Tcp(peer.clone()));
            if query(request.uri(), "client").is_none_or(|id| !room.admit(id, kind, link)) {
                // As a proxy refuses what it does not know.
                let mut refused = http::Response::new(Admission::default());
                *refused.status_mut() = StatusCode::BAD_GATEWAY;
                return ready(Ok(refused));
            }
            admit.call(request)
        })
    });
    SessionServer::new(acceptor, move |session, parts| room.session(session, parts.uri)).sessions(MEMBERS).guard(guard)
}

/// The facts that the page needs for WebTransport.
pub(crate) struct WebTransportConfig {
    json: String,
    /// For the Content-Security-Policy.
    url: String,
}

/// Binds WebTransport to the same port of UDP, or to any other if that is taken, with a certificate for this life only.
pub(crate) fn bind(address: SocketAddr) -> Result<(WebTransportServer, WebTransportConfig), BoxError> {
    let attempt = |address| {
        let certificate = Certificate::development(&["localhost", "127.0.0.1"])?;
        let hash = certificate.hash();
        Ok::<_, Error>((WebTransportServer::bind(address, certificate)?, hash))
    };
    let (endpoint, hash) = attempt(address).or_else(|_| attempt(SocketAddr::new(address.ip(), 0)))?;
    let url = format!("https://{}", endpoint.local_addr()?);
    let json = serde_json::json!({ "url": format!("{url}/wt"), "hash": hash.as_bytes() }).to_string();
    Ok((endpoint, WebTransportConfig { json, url }))
}

/// Serves WebTransport. `SessionServer::web_transport` does this in one line; here the room also gets the QUIC session,
/// whose end a button of the page asks for. `page` is the origin of the page.
pub(crate) async fn web_transport(
    endpoint: WebTransportServer,
    acceptor: OptimizedAcceptor<AdaptiveTransport>,
    room: Room,
    page: SocketAddr,
) -> Result<(), BoxError> {
    let mut endpoint = endpoint
        .path("/wt")
        .limits(acceptor.transport_limits())
        .session_limits(SessionLimits::one_stream())
        .max_handshakes(MEMBERS)
        .max_sessions(2 * MEMBERS)
        .subprotocol(OptimizedAcceptor::SUBPROTOCOL)?
        .allow_origin(format!("http://{page}").parse()?)
        .allow_origin(format!("http://localhost:{}", page.port()).parse()?);
    loop {
        tokio::select! {
            () = acceptor.closed() => break,
            Some(incoming) = endpoint.accept() => drop(tokio::spawn(open(incoming, acceptor.clone(), room.clone()))),
            else => break,
        }
    }
    // The sessions get the time of the drain.
    while acceptor.drain().connections() > 0 {
        time::sleep(Duration::from_millis(20)).await;
    }
    endpoint.close(CloseFrame::new(CloseCode::RESTART, "the server restarts")).await;
    Ok(())
}

/// One client: the guard, its stream, its session.
async fn open(incoming: Incoming, acceptor: OptimizedAcceptor<AdaptiveTransport>, room: Room) -> Result<(), Error> {
    let uri = incoming.parts().uri.clone();
    let id = query(&uri, "client").unwrap_or_default();
    if id.is_empty() || !room.admit(id, TransportKind::WebTransport, None) {
        return incoming.reject(StatusCode::BAD_GATEWAY).await;
    }
    let session = incoming.accept().await?;
    let stream = time::timeout(OPENING, session.accept()).await.map_err(|_| Error::timeout("no stream"))??;
    room.admit(id, TransportKind::WebTransport, Some(Link::Quic(session)));
    let is_known = stream.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
    if let Some(session) = acceptor.accept_over(stream.into(), is_known).await? {
        room.session(session, uri).await;
    }
    Ok(())
}
