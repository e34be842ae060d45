use std::{fmt, sync::Arc};

use crate::Error;

/// A value in the extensions of a connector's response that takes reports of an unusable connection: one that was made,
/// but on which no session begins. A connector that has another way to connect puts it there. The code that reports may
/// call the connector again at once.
#[derive(Clone)]
pub(super) struct Unusable {
    report: Arc<dyn Fn(&Error) + Send + Sync>,
    disown: Arc<dyn Fn() + Send + Sync>,
}

impl Unusable {
    #[cfg(feature = "adaptive")]
    pub(super) fn new(
        report: impl Fn(&Error) + Send + Sync + 'static,
        disown: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { report: Arc::new(report), disown: Arc::new(disown) }
    }

    /// Reports that the server chose a subprotocol that it does not speak.
    pub(super) fn disown(&self) {
        (self.disown)();
    }

    /// Reports `error` if it is a failure of the connection: silence or a cut, without a close message from the peer.
    /// Returns whether it is.
    pub(super) fn report(&self, error: &Error) -> bool {
        let is_the_connections =
            error.is_timeout() || error.is_io() || (error.is_closed() && error.close_frame().is_none());
        if is_the_connections {
            (self.report)(error);
        }
        is_the_connections
    }
}

impl fmt::Debug for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unusable")
    }
}
