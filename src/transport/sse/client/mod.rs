//! The receive-only client, the counterpart of a browser's `EventSource`.

/// The settings and questions that the connector has natively and in a page. `$place` is where another one may go on.
macro_rules! event_source_methods {
    ($place:literal) => {
        /// Sets the maximum length of a line that is not data, in bytes: see [`Parser::max_line`]. Defaults to 64 KiB.
        #[must_use]
        pub fn max_line(mut self, bytes: usize) -> Self {
            self.max_line = bytes;
            self
        }

        /// Sets how long the stream may be silent, comments included, before it ends with an error for which
        /// [`is_timeout`](Error::is_timeout) is true. Defaults to no limit, since a server need not send anything.
        ///
        /// This detects a server that is gone without closing the connection. Use two or three times the interval of
        /// the server's keep-alive comments (15 s for an [`EventStream`](crate::transport::sse::EventStream)).
        #[must_use]
        pub fn max_silence(mut self, time: Duration) -> Self {
            self.max_silence = Some(time);
            self
        }

        /// Returns the id that the next connection sends as `Last-Event-ID`, or an empty string.
        #[doc = concat!("To continue from it in another ", $place, ", send it as that header in the request;")]
        /// it is used until an event brings another one.
        #[must_use]
        pub fn last_event_id(&self) -> String {
            self.memory.last_event_id()
        }

        /// Returns the reconnect delay that the server asked for, if any.
        #[must_use]
        pub fn retry(&self) -> Option<Duration> {
            self.memory.retry()
        }
    };
}

#[cfg(not(target_arch = "wasm32"))]
mod connector;
// The browser's, with the same names.
#[cfg(target_arch = "wasm32")]
#[path = "page.rs"]
mod connector;
#[cfg(not(target_arch = "wasm32"))]
mod redirect;
mod transport;

pub use self::{
    connector::{SseConnecting, SseConnector},
    transport::{Sse, SseMessages},
};
