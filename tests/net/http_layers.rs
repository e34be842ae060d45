//! tower-http's layers on a connector: the rows of the table in `tower_transport::layer::http`, and what they do there.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tower::{Layer, ServiceBuilder, ServiceExt, layer::util::Identity, service_fn};
use tower_http::{
    add_extension::AddExtensionLayer,
    auth::AddAuthorizationLayer,
    catch_panic::CatchPanicLayer,
    decompression::DecompressionLayer,
    follow_redirect::FollowRedirectLayer,
    limit::RequestBodyLimitLayer,
    map_request_body::MapRequestBodyLayer,
    map_response_body::MapResponseBodyLayer,
    metrics::InFlightRequestsLayer,
    normalize_path::NormalizePathLayer,
    propagate_header::PropagateHeaderLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::{SetSensitiveHeadersLayer, SetSensitiveRequestHeadersLayer, SetSensitiveResponseHeadersLayer},
    set_header::{
        HeaderMetadata, SetRequestHeaderLayer, SetResponseHeaderLayer, request::SetMultipleRequestHeadersLayer,
        response::SetMultipleResponseHeadersLayer,
    },
    set_status::SetStatusLayer,
    timeout::{RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
};
use tower_transport::{
    Connect, Error, Message, ServiceBuilderExt, Transport, TransportExt,
    layer::{http::HttpLayer, reconnect::Backoff},
    transport::websocket::{WebSocket, WebSocketAcceptor, WebSocketConnector},
};

/// A server in memory that answers the handshake to each host in its own way, and its connector.
fn connector() -> impl Connect<Transport = WebSocket, ConnectError = Error, Future: Send> + Clone {
    let dialer = service_fn(|uri: Uri| {
        let (near, far) = duplex(1024);
        tokio::spawn(answer(uri.host().unwrap().to_owned(), far));
        std::future::ready(Ok::<_, io::Error>(near))
    });
    WebSocketConnector::new().dial_with(dialer)
}

async fn answer(host: String, mut io: DuplexStream) {
    let answer = match &*host {
        "moved" => "HTTP/1.1 307 x\r\nlocation: ws://echo/there\r\ncontent-length: 0\r\n\r\n",
        "busy" => "HTTP/1.1 503 x\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy",
        "silent" => return std::future::pending().await,
        "gone" => return,
        _ => {
            let (parts, mut socket) = WebSocketAcceptor::new().accept(io).await.unwrap();
            let authorization = parts.headers.get(header::AUTHORIZATION).is_some();
            let _ = socket.send_message(Message::text(format!("{} {authorization}", parts.uri.path()))).await;
            return support::echo(socket).await;
        }
    };
    let _ = io.read(&mut [0; 1024]).await;
    let _ = io.write_all(answer.as_bytes()).await;
}

fn get(url: &str) -> Request<()> {
    Request::get(url).body(()).unwrap()
}

/// Connects, and returns what the server says about the request.
async fn greeting<C>(connector: C, url: &str) -> Result<Response<Message>, Error>
where
    C: Connect<Transport: Transport<Message, In = Message> + Unpin>,
{
    let response = connector.oneshot(get(url)).await.map_err(Into::into)?;
    let (head, mut socket) = response.into_parts();
    let message = socket.receive_message().await.unwrap()?;
    Ok(Response::from_parts(head, message))
}

macro_rules! layers {
    ($($name:ident: $layer:expr;)*) => {
        /// Each layer as a row of the table says, on a connector that then connects.
        #[tokio::test(start_paused = true)]
        async fn the_layers_of_the_table_that_fit_directly_do() {
            $(
                let stack = ServiceBuilder::new().layer($layer).service(connector());
                let response = greeting(stack, "ws://echo/").await.unwrap();
                assert!(response.body().as_text().unwrap().starts_with('/'), stringify!($name));
                let stack = ServiceBuilder::new().http_layer($layer).service(connector());
                greeting(stack, "ws://echo/").await.expect(stringify!($name));
            )*
        }
    };
}

const NAME: HeaderName = HeaderName::from_static("x-app");

/// A header for the layers that set several, of a request or of a response.
fn metadata<M>() -> HeaderMetadata<M> {
    (NAME, HeaderValue::from_static("tests")).into()
}

layers! {
    add_authorization: AddAuthorizationLayer::bearer("secret");
    add_extension: AddExtensionLayer::new(7_u8);
    set_request_header: SetRequestHeaderLayer::overriding(NAME, HeaderValue::from_static("tests"));
    set_response_header: SetResponseHeaderLayer::overriding(NAME, HeaderValue::from_static("tests"));
    set_request_headers: SetMultipleRequestHeadersLayer::overriding(vec![metadata()]);
    set_response_headers: SetMultipleResponseHeadersLayer::overriding(vec![metadata()]);
    set_request_id: SetRequestIdLayer::x_request_id(MakeRequestUuid);
    propagate_request_id: PropagateRequestIdLayer::x_request_id();
    propagate_header: PropagateHeaderLayer::new(NAME);
    sensitive: SetSensitiveHeadersLayer::new([header::AUTHORIZATION]);
    sensitive_request: SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION]);
    sensitive_response: SetSensitiveResponseHeadersLayer::new([header::SET_COOKIE]);
    normalize_path: NormalizePathLayer::trim_trailing_slash();
    set_status: SetStatusLayer::new(StatusCode::OK);
    nothing: Identity::new();
}

#[tokio::test(start_paused = true)]
async fn the_transport_is_the_body_that_a_layer_of_the_table_maps() {
    let mapped = MapResponseBodyLayer::new(|socket: WebSocket| socket.into_boxed());
    let stack = ServiceBuilder::new().layer(mapped).service(connector());
    let mut boxed: tower_transport::BoxTransport<Message, Message> =
        stack.oneshot(get("ws://echo/boxed")).await.unwrap().into_body();
    assert_eq!(boxed.receive_message().await.unwrap().unwrap(), Message::text("/boxed false"));
}

macro_rules! http_layers {
    ($($name:ident: $layer:expr;)*) => {
        #[tokio::test(start_paused = true)]
        async fn the_other_layers_of_the_table_fit_as_layers_of_http() {
            $(
                let stack = ServiceBuilder::new().http_layer($layer).service(connector());
                let response = greeting(stack, "ws://echo/").await.unwrap();
                assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, stringify!($name));
                let stack = ServiceBuilder::new().http_layer($layer).service(connector());
                let error = greeting(stack, "ws://busy/").await.unwrap_err();
                assert_eq!(error.status(), Some(StatusCode::SERVICE_UNAVAILABLE), stringify!($name));
                assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
                assert_eq!(error.response_body().unwrap(), "busy", "the error is the one that went in");
                let stack = ServiceBuilder::new().http_layer($layer).service(connector());
                assert!(greeting(stack, "ws://gone/").await.unwrap_err().is_closed(), stringify!($name));
            )*
        }
    };
}

http_layers! {
    trace: TraceLayer::new_for_http();
    timeout: TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(5));
    follow_redirect: FollowRedirectLayer::new();
    catch_panic: CatchPanicLayer::new();
    in_flight: InFlightRequestsLayer::pair().0;
    decompression: DecompressionLayer::new();
    body_limit: RequestBodyLimitLayer::new(1);
    request_body_timeout: RequestBodyTimeoutLayer::new(Duration::from_secs(1));
    response_body_timeout: ResponseBodyTimeoutLayer::new(Duration::from_secs(1));
    map_request_body: MapRequestBodyLayer::new(|body| body);
    map_response_body: MapResponseBodyLayer::new(|_| "anything");
    whole_stack: ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(FollowRedirectLayer::new());
}

#[tokio::test(start_paused = true)]
async fn a_redirect_of_a_web_socket_is_followed_without_credentials() {
    let followed = ServiceBuilder::new()
        .layer(AddAuthorizationLayer::bearer("secret"))
        .http_layer(FollowRedirectLayer::new())
        .service(connector());
    assert_eq!(greeting(followed.clone(), "ws://echo/here").await.unwrap().body(), &Message::text("/here true"));
    assert_eq!(greeting(followed, "ws://moved/").await.unwrap().body(), &Message::text("/there false"));
    let error = greeting(connector(), "ws://moved/").await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::TEMPORARY_REDIRECT), "without the layer");
}

#[tokio::test(start_paused = true)]
async fn a_trace_sees_the_status_of_each_handshake() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let statuses = seen.clone();
    let trace =
        TraceLayer::new_for_http().on_response(move |response: &Response<_>, _: Duration, _: &tracing::Span| {
            let _: &tower_transport::layer::http::EmptyBody = response.body();
            statuses.lock().unwrap().push(response.status().as_u16());
        });
    let stack = ServiceBuilder::new().http_layer(trace).service(connector());
    greeting(stack.clone(), "ws://echo/").await.unwrap();
    greeting(stack.clone(), "ws://busy/").await.unwrap_err();
    greeting(stack, "ws://gone/").await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [101, 503]);
}

#[tokio::test(start_paused = true)]
async fn a_response_of_the_layers_own_is_an_error_with_its_status() {
    let late = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(2));
    let stack = ServiceBuilder::new().http_layer(late).service(connector());
    let start = tokio::time::Instant::now();
    let error = greeting(stack, "ws://silent/").await.unwrap_err();
    assert_eq!((error.status(), start.elapsed()), (Some(StatusCode::REQUEST_TIMEOUT), Duration::from_secs(2)));
    assert!(error.to_string().contains("a layer of HTTP"), "{error}");

    let panics = service_fn(|request: Request<()>| async move {
        assert!(request.uri().path().is_empty(), "on purpose");
        Ok::<_, Error>(Response::new(tower_transport::channel::<Message, Message>(1).0))
    });
    let stack = ServiceBuilder::new().http_layer(CatchPanicLayer::new()).service(panics);
    let error = stack.oneshot(get("ws://echo/")).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::INTERNAL_SERVER_ERROR));
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_no_one_takes_is_dropped_with_the_response() {
    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }

    let open = Arc::new(AtomicUsize::new(0));
    let count = open.clone();
    let connector = service_fn(move |_: Request<()>| {
        count.fetch_add(1, SeqCst);
        std::future::ready(Ok::<_, Error>(Response::new(Counted(count.clone()))))
    });
    let replaced = ServiceBuilder::new().map_response(|_: Response<_>| Response::new("another")).into_inner();
    let error = HttpLayer::new(replaced).layer(connector.clone()).oneshot(get("ws://a/")).await.err().unwrap();
    assert_eq!((error.status(), open.load(SeqCst)), (Some(StatusCode::OK), 0));
    let kept = HttpLayer::new(Identity::new()).layer(connector).oneshot(get("ws://a/")).await.unwrap();
    assert_eq!(open.load(SeqCst), 1);
    drop(kept);
    assert_eq!(open.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn it_stacks_below_a_reconnecting_transport() {
    let transport = ServiceBuilder::new()
        .reconnect("ws://moved/", Backoff::exponential())
        .http_layer(ServiceBuilder::new().layer(TraceLayer::new_for_http()).layer(FollowRedirectLayer::new()))
        .service(connector());
    let mut transport = Box::pin(transport);
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("/there false"));
}
