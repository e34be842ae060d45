//! The memory of servers: which ones know the stack, and which only claim to.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use http::Uri;

use crate::rt::Instant;

/// The number of servers that are remembered. At the limit, the least recently seen server is evicted.
const MOST: usize = 1024;

/// How long a server is treated as a stranger. After that it is offered the subprotocol again, because it may have been
/// upgraded.
const TTL: Duration = Duration::from_secs(600);

/// A memory of servers by URL without the query. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Peers(Arc<Mutex<Seen>>);

/// The kind of each server, and when it was learnt.
type Seen = HashMap<Box<str>, (Kind, Instant)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The server has said hello.
    Known,
    /// The server chose the subprotocol and does not know it.
    Stranger,
}

/// What [`OptimizedTransport::connect`](super::OptimizedTransport::connect) has learned, which has no builder to keep it between calls.
static OF_THE_PROCESS: LazyLock<Peers> = LazyLock::new(Peers::default);

impl Peers {
    /// Returns the memory that the whole process shares.
    pub(super) fn of_the_process() -> Self {
        OF_THE_PROCESS.clone()
    }

    /// Returns what is known about the server at `uri`.
    pub(super) fn get(&self, uri: &Uri) -> Option<Kind> {
        let (kind, at) = self.lock().get(&*key(uri)).copied()?;
        (at.elapsed() < TTL || kind == Kind::Known).then_some(kind)
    }

    pub(super) fn learn(&self, uri: &Uri, kind: Kind) {
        let now = Instant::now();
        let mut peers = self.lock();
        let key = key(uri);
        if peers.len() >= MOST && !peers.contains_key(&key) {
            let oldest = peers.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone());
            oldest.map(|oldest| peers.remove(&oldest));
        }
        peers.insert(key, (kind, now));
    }

    /// Forgets that the server at `uri` said hello, so that the next connection treats it as unknown. A stranger stays one.
    pub(super) fn distrust(&self, uri: &Uri) {
        let key = key(uri);
        let mut peers = self.lock();
        if peers.get(&key).is_some_and(|(kind, _)| *kind == Kind::Known) {
            peers.remove(&key);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The query may contain a token, which must not be kept and may differ in each attempt.
fn key(uri: &Uri) -> Box<str> {
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{authority}{}", uri.path()).into()
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.lock().len();
        f.debug_struct("Peers").field("len", &len).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stranger_is_remembered_for_ten_minutes_and_a_server_that_said_hello_for_longer() {
        let (peers, stranger, known) = (Peers::default(), Uri::from_static("ws://a/"), Uri::from_static("ws://b/"));
        peers.learn(&stranger, Kind::Stranger);
        peers.learn(&known, Kind::Known);
        assert_eq!(peers.clone().get(&Uri::from_static("ws://ada:secret@a/?token=1")), Some(Kind::Stranger));
        assert_eq!(peers.get(&Uri::from_static("ws://a/other")), None);
        assert!(!peers.lock().keys().any(|key| key.contains("secret")));
        tokio::time::sleep(TTL).await;
        assert_eq!((peers.get(&stranger), peers.get(&known)), (None, Some(Kind::Known)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_no_longer_trusted_is_unknown_and_a_stranger_stays_one() {
        let (peers, stranger, known) =
            (Peers::default(), Uri::from_static("ws://a/"), Uri::from_static("ws://b/?token=1"));
        peers.learn(&stranger, Kind::Stranger);
        peers.learn(&known, Kind::Known);
        for uri in [&stranger, &known, &Uri::from_static("ws://c/")] {
            peers.distrust(uri);
        }
        assert_eq!((peers.get(&stranger), peers.get(&known)), (Some(Kind::Stranger), None));
        assert_eq!(peers.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_forgets_the_oldest() {
        let peers = Peers::default();
        let uri = |i: usize| Uri::try_from(format!("ws://host/{i}")).unwrap();
        for i in 0..MOST + 5 {
            peers.learn(&uri(i), Kind::Stranger);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(peers.lock().len(), MOST);
        assert_eq!((peers.get(&uri(4)), peers.get(&uri(5))), (None, Some(Kind::Stranger)));
    }
}
