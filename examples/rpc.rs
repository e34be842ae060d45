//! Calls over a WebSocket: a calculator behind a `Server`, and a tower stack over a `Client`.
//!
//! ```text
//! cargo run --release --example rpc --features rkyv,service
//! ```
//!
//! The stack has a retry, a concurrency limit and a timeout, all from tower. The calculator is occasionally too slow
//! for the timeout. The retry asks again, and the late answers are counted as unknown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tower::{Service, ServiceBuilder, ServiceExt, retry::Policy, service_fn};
use tower_transport::{
    BoxError, Error, ServiceBuilderExt, Transport,
    codec::RkyvCodec,
    service::{Client, Server, Tagged},
    transport::{
        accept,
        websocket::{WebSocketConnector, WebSocketService},
    },
};

#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Request {
    Add(f64, f64),
    Multiply(f64, f64),
    Divide(f64, f64),
}

/// The other side may refuse a request: that is an answer, and the connection goes on.
type Answer = Result<f64, String>;

/// Creates both ends of a connection: the caller's and the calculator's. Only this function knows which transport
/// carries the calls.
async fn connect() -> Result<
    (
        impl Transport<Tagged<Request>, In = Tagged<Answer>, TransportError: Send> + Send + 'static,
        impl Transport<Tagged<Answer>, In = Tagged<Request>, TransportError: Send> + Send + 'static,
    ),
    BoxError,
> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/calculator", listener.local_addr()?);
    let (upgraded, mut sockets) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let (tcp, _) = accept(|| listener.accept()).await;
        tcp.set_nodelay(true)?;
        let upgrade = WebSocketService::new(|socket, _| async move { drop(upgraded.send(socket).await) });
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(upgrade))
            .with_upgrades();
        connection.await.map_err(BoxError::from)
    });
    let here = ServiceBuilder::new()
        .per_connection(ServiceBuilder::new().codec(RkyvCodec::<Tagged<Request>, Tagged<Answer>>::new()))
        .service(WebSocketConnector::new())
        .oneshot(http::Request::get(url).body(())?)
        .await?
        .into_body();
    let there = sockets.recv().await.ok_or("no client came")?;
    let there = ServiceBuilder::new().codec(RkyvCodec::<Tagged<Answer>, Tagged<Request>>::new()).service(there);
    Ok((here, there))
}

/// The service that is served. Every 500th request takes longer than its caller waits.
fn calculator() -> impl Service<Request, Response = Answer, Error = Error, Future: Send> + Clone + Send + 'static {
    let served = Arc::new(AtomicU64::new(0));
    service_fn(move |request| {
        let turn = served.fetch_add(1, Relaxed) + 1;
        async move {
            if turn.is_multiple_of(500) {
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            Ok(match request {
                Request::Add(a, b) => Ok(a + b),
                Request::Multiply(a, b) => Ok(a * b),
                Request::Divide(_, 0.0) => Err("division by zero".to_owned()),
                Request::Divide(a, b) => Ok(a / b),
            })
        }
    })
}

/// Retries a call whose answer is late, at most three times. Any other failure would fail again.
#[derive(Clone)]
struct RetryLate {
    left: u32,
    retries: Arc<AtomicU64>,
}

impl Policy<Request, Answer, BoxError> for RetryLate {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut Request, result: &mut Result<Answer, BoxError>) -> Option<Self::Future> {
        let late = matches!(result, Err(error) if error.is::<tower::timeout::error::Elapsed>());
        if !late || self.left == 0 {
            return None;
        }
        self.left -= 1;
        self.retries.fetch_add(1, Relaxed);
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        Some(*request)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let (here, there) = connect().await?;
    let server = Server::as_they_finish(there, calculator());
    let shutdown = server.handle();
    let server = tokio::spawn(server);

    let client = Client::by_tag(here);
    let retries = Arc::new(AtomicU64::new(0));
    let stack = ServiceBuilder::new()
        .retry(RetryLate { left: 3, retries: retries.clone() })
        .concurrency_limit(32)
        .timeout(Duration::from_millis(20))
        .service(client.clone());

    for request in [Request::Add(1.5, 2.0), Request::Multiply(6.0, 7.0), Request::Divide(1.0, 0.0)] {
        match stack.clone().oneshot(request).await? {
            Ok(value) => println!("{request:?} = {value}"),
            Err(refusal) => println!("{request:?} is refused: {refusal}"),
        }
    }

    const TASKS: u32 = 64;
    const CALLS: u32 = 500;
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let mut stack = stack.clone();
            tokio::spawn(async move {
                for turn in 0..CALLS {
                    let (a, b) = (f64::from(task), f64::from(turn));
                    let sum = stack.ready().await?.call(Request::Add(a, b)).await??;
                    assert_eq!(sum, a + b);
                }
                Ok::<_, BoxError>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let time = start.elapsed();

    // Late answers are still in flight; the next calls read them.
    tokio::time::sleep(Duration::from_millis(80)).await;
    stack.clone().oneshot(Request::Add(0.0, 0.0)).await??;
    println!(
        "{} calls of {TASKS} tasks in {:.1} ms, {:.0} calls/s; {} late and asked again, {} late answers thrown away",
        TASKS * CALLS,
        time.as_secs_f64() * 1e3,
        f64::from(TASKS * CALLS) / time.as_secs_f64(),
        retries.load(Relaxed),
        client.unknown_answers(),
    );

    shutdown.graceful_shutdown();
    server.await??;
    let late = stack.oneshot(Request::Add(1.0, 1.0)).await.map_err(Error::from);
    let Err(late) = late else { return Err("the connection should be closed".into()) };
    println!("after the server's graceful end: {late}");
    Ok(())
}
