use std::{fmt, sync::Arc};

use crate::Error;

/// In the extensions of a connector's response: whom to tell that the connection was made and is of no use, for no session begins on it.
/// A connector that has another way to connect puts it there; who is told may ask it again at once.
#[derive(Clone)]
pub(super) struct Unusable {
    tell: Arc<dyn Fn(&Error) + Send + Sync>,
    disown: Arc<dyn Fn() + Send + Sync>,
}

impl Unusable {
    #[cfg(feature = "adaptive")]
    pub(super) fn new(
        tell: impl Fn(&Error) + Send + Sync + 'static,
        disown: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self { tell: Arc::new(tell), disown: Arc::new(disown) }
    }

    /// Tells it that the server chose a subprotocol which it does not speak.
    pub(super) fn disown(&self) {
        (self.disown)();
    }

    /// Tells it of `error`, if that is one of the connection: silence or a cut, of which the peer has said nothing.
    pub(super) fn tell(&self, error: &Error) -> bool {
        let is_the_connections =
            error.is_timeout() || error.is_io() || (error.is_closed() && error.close_frame().is_none());
        if is_the_connections {
            (self.tell)(error);
        }
        is_the_connections
    }
}

impl fmt::Debug for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unusable")
    }
}
