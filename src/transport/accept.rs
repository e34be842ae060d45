use std::{io, time::Duration};

use crate::{log, rt};

/// The pause after a listener error.
const PAUSE: Duration = Duration::from_secs(1);

/// Accepts the next connection of a listener and retries after errors.
///
/// `attempt` is the listener's own `accept`. Most of its errors are transient: a client leaves while it waits in the
/// backlog, or the process is out of file descriptors (`EMFILE`) until other connections end. A loop around
/// `listener.accept().await?` ends the server at the first such error, which any client can provoke. This function
/// continues instead, as `axum::serve` does:
///
/// | error | action |
/// |---|---|
/// | concerns one connection: refused, reset, aborted, timed out, unreachable | logs at `DEBUG`, accepts the next one |
/// | any other | logs at `ERROR`, retries after one second |
///
/// Logs require the feature `tracing`.
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
/// This function is as cancel safe as `attempt`. Dropping the future loses no connection of a tokio listener, so it can
/// be used in `tokio::select!`.
///
/// # Panics
///
/// Panics if it has to wait and tokio's time driver is not enabled (`enable_time`).
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

/// Linux reports errors already pending on a new connection as errors of `accept` (accept(2)).
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
