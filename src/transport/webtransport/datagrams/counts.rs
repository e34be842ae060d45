use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The outcomes of a session's datagrams at this end. The handle can be cloned and read anywhere, also while a layer or
/// a driver owns the [`Datagrams`](super::Datagrams).
///
/// Losses in the network are not included. [`Session::stats`](crate::transport::webtransport::Session::stats) reports
/// lost packets, and the difference between one end's `sent` and the other's `received` is the number of lost messages.
#[derive(Clone, Debug, Default)]
pub struct DatagramCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    foreign: AtomicU64,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident $count:ident)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(&self) -> u64 {
            self.0.$name.load(Relaxed)
        }

        pub(super) fn $count(&self) {
            self.0.$name.fetch_add(1, Relaxed);
        }
    )*};
}

impl DatagramCounts {
    counts! {
        /// Returns the number of messages that QUIC accepted for sending.
        sent count_sent

        /// Returns the number of messages that the stream yielded.
        received count_received

        /// Returns the number of messages that the sink rejected because they were too large or had no form as a
        /// datagram.
        refused count_refused

        /// Returns the number of accepted messages that were not sent: the path's limit fell below their size while
        /// they waited for room, or the session ended first.
        dropped count_dropped

        /// Returns the number of incoming datagrams of unknown sessions. A peer that follows the protocol sends none.
        foreign count_foreign
    }
}
