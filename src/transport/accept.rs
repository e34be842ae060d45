use std::{future::Future, io, time::Duration};

use crate::{log, rt};

/// How long a listener that fails is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Accepts the next connection of a listener; an error does not end it.
///
/// `attempt` is the listener's own `accept`. Most of its errors pass: a client that leaves while it waits in the backlog, or a process that is
/// out of file descriptors (`EMFILE`) until other connections end. A loop around `listener.accept().await?` ends the server at the first
/// of them, which any client can bring about. This function goes on instead, as `axum::serve` does:
///
/// | error | what it does |
/// |---|---|
/// | of one connection (refused, reset, aborted, timed out, unreachable) | logs at `DEBUG`, and accepts the next at once |
/// | any other | logs at `ERROR`, and tries again after a second |
///
/// Logs need the feature `tracing`.
///
/// ```no_run
/// # async fn serve() -> std::io::Result<()> {
/// use tower_transport::transport::accept;
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
/// loop {
///     let (tcp, address) = accept(|| listener.accept()).await;
///     tokio::spawn(async move { println!("{address}: {tcp:?}") });
/// }
/// # }
/// ```
///
/// # Cancel safety
///
/// As that of `attempt`: dropping the future loses no connection of a tokio listener, so it fits into `tokio::select!`.
///
/// # Panics
///
/// Waiting needs tokio's time driver (`enable_time`).
pub async fn accept<T, F>(mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        match attempt().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => log::connection_failed(&error),
            Err(error) => {
                log::accept_failed(&error, PAUSE);
                rt::sleep(PAUSE).await;
            }
        }
    }
}

/// Linux reports errors that already wait on a new connection as those of `accept` (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
            | io::ErrorKind::Interrupted
    )
}
