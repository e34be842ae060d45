//! A live room in the browser: one axum server, and one page in plain JavaScript that speaks this crate's wire.
//!
//! ```text
//! cargo run --release --example demo --features adaptive,axum,dev-certificate
//! # then open http://127.0.0.1:3000 in two windows; ctrl-c ends it
//! ```
//!
//! The page connects over WebTransport, a WebSocket or SSE + POST, or adapts to what works. Its buttons cut the link,
//! block a transport, stall the reader, and restart or crash the server; its panels show what the layers do about it.
//!
//! | file | holds |
//! |---|---|
//! | `main.rs` | the lives of the server: listen, serve, drain, start again |
//! | `serve.rs` | the routes, the guard of all three transports, the security headers |
//! | `room.rs` | the typed protocol, the members and their conflating queues, the ticker |
//! | `line.rs` | TCP connections that are counted, bounded, and can be cut |
//! | `page/` | the page: `wire.js` (formats), `links.js` (transports), `client.js` (the session), `page.js` (the view) |

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc, time};
use tower_transport::{BoxError, layer::heartbeat::HeartbeatLayer, stack::OptimizedTransport};

mod line;
mod room;
mod serve;

/// How a life of the server ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Ctrl-c: the drain, then the end of the process.
    Stop,
    /// The drain, then another life.
    Restart,
    /// No drain and no close: everything is dropped, as when a process is killed. Then another life.
    Crash,
}

/// How long a server is gone when it restarts.
const GONE: Duration = Duration::from_secs(1);

/// The time over which the clients of a server that restarts return.
const RETURNS: Duration = Duration::from_secs(2);

/// The time that the drain has before the remaining connections are cut.
const DRAIN: Duration = Duration::from_secs(3);

fn main() -> Result<(), BoxError> {
    let mut address: SocketAddr = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3000").parse()?;
    for life in 1.. {
        // Each life has a runtime of its own, so that a crash can take everything with it: tasks, sockets, sessions.
        let runtime = Runtime::new()?;
        let end = runtime.block_on(live(&mut address, life))?;
        runtime.shutdown_timeout(Duration::from_secs(1));
        if end == End::Stop {
            break;
        }
    }
    Ok(())
}

/// One life of the server, from the bind to the last connection. `address` gets the port that was chosen for port 0.
async fn live(address: &mut SocketAddr, life: u32) -> Result<End, BoxError> {
    let Some(listener) = bind(*address, life).await? else { return Ok(End::Stop) };
    *address = listener.local_addr()?;

    let (endpoint, config) = serve::bind(*address)?;
    let (control, mut ends) = mpsc::channel(1);
    let room = room::Room::new(life, control);
    let acceptor = OptimizedTransport::builder()
        .named("demo")
        .heartbeat(HeartbeatLayer::new(Duration::from_secs(5), Duration::from_secs(5)))
        .session_ttl(Duration::from_secs(30))
        .max_sessions(room::MEMBERS)
        .acceptor();
    let drain = acceptor.drain().clone().spread_returns(RETURNS);
    let app = serve::routes(acceptor.clone(), room.clone(), config).into_make_service_with_connect_info::<line::Peer>();
    let quic = tokio::spawn(serve::web_transport(endpoint, acceptor, room.clone(), *address));
    tokio::spawn(room.tick());
    let stopped = drain.clone();
    let http = axum::serve(line::Lines::new(listener), app)
        .with_graceful_shutdown(async move { drop(stopped.started().await) });
    let mut http = tokio::spawn(async move { http.await });
    println!("listening on {address}; open http://{address} in two windows");

    let end = tokio::select! {
        () = interrupted() => End::Stop,
        Some(end) = ends.recv() => end,
        ended = &mut http => return Err(ended.map_or_else(BoxError::from, |_| "the listener is gone".into())),
    };
    if end != End::Crash {
        println!("{}", drain.drain(DRAIN).await);
        // Requests without a session, such as a page that is being loaded.
        let _ = time::timeout(DRAIN, async { tokio::join!(http, quic) }).await;
    }
    Ok(end)
}

/// Listens at `address`. A later life waits first, and then for the port, which the system may still hold for the last
/// one. `None` after ctrl-c.
async fn bind(address: SocketAddr, life: u32) -> Result<Option<TcpListener>, BoxError> {
    if life == 1 {
        return Ok(Some(TcpListener::bind(address).await?));
    }
    let again = async {
        time::sleep(GONE).await;
        for _ in 0..20 {
            match TcpListener::bind(address).await {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => time::sleep(GONE / 10).await,
                bound => return bound,
            }
        }
        TcpListener::bind(address).await
    };
    tokio::select! {
        () = interrupted() => Ok(None),
        bound = again => Ok(Some(bound?)),
    }
}

/// Waits for ctrl-c. Without a handler for it, the process ends in the system's own way.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
