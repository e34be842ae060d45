use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// What became of a session's datagrams at this end: a handle that may be cloned and read anywhere, also while a layer or a driver owns the
/// [`Datagrams`](super::Datagrams).
///
/// What the network lost is not in it: [`Session::stats`](crate::transport::webtransport::Session::stats) tells lost packets, and the
/// difference between one end's `sent` and the other's `received` tells lost messages.
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
        /// How many messages QUIC took to send.
        sent count_sent

        /// How many messages the stream gave.
        received count_received

        /// How many messages the sink refused with an error, since they were too large or had no form as a datagram.
        refused count_refused

        /// How many accepted messages did not go out after all: the path's limit fell below their size while they waited for room, or the
        /// session ended first.
        dropped count_dropped

        /// How many incoming datagrams belonged to no session that there is; a peer that keeps to the protocol sends none.
        foreign count_foreign
    }
}
