//! The future of a connector's call, which has a name and is boxed once per attempt, and its time limit.

use std::time::Duration;

use crate::{Error, rt};

/// Limits the time of a step of a handshake. `failure` says what did not happen.
pub(super) async fn in_time<T>(
    limit: Duration,
    failure: &str,
    step: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    rt::timeout(limit, step).await.unwrap_or_else(|elapsed| {
        Err(Error::timeout(format!("{failure} within {limit:?} (Limits::handshake)")).with_source(elapsed))
    })
}

macro_rules! connecting {
    ($(#[$docs:meta])* $name:ident, $made:ty) => {
        $(#[$docs])*
        #[must_use = "futures do nothing unless awaited"]
        pub struct $name(
            std::pin::Pin<
                Box<$crate::threads::dyn_send!(std::future::Future<Output = Result<$made, $crate::Error>>)>,
            >,
        );

        impl std::future::Future for $name {
            type Output = Result<$made, $crate::Error>;

            fn poll(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Self::Output> {
                self.0.as_mut().poll(cx)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use connecting;
