//! The memory of servers: which ones know the stack, and which only choose its subprotocol.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::Uri;

use crate::{rt::Instant, sync::Mutex};

/// The number of servers that are remembered. At the limit, the least recently seen server is evicted.
const MOST: usize = 1024;

/// How long a server is treated as a stranger. After that it is offered the subprotocol again, because it may have been
/// upgraded. Everything else that is known, except that a server said hello, is forgotten after the same time.
const TTL: Duration = Duration::from_secs(600);

/// How long a server must cut connections before it counts as a stranger. A server that restarts cuts the connections
/// of many clients at the same time.
const SUSPICION: Duration = Duration::from_secs(5);

/// A memory of servers by URL without the query. Clones share it.
///
/// ```text
///                      hello
///   unknown ---------------------------> Known
///    |   |                                 |  no hello on a later connection, or cuts alone for 10 minutes
///    |   | cut, or silent                  +-----> unknown
///    |   v
///    |  Suspect (hello: Known)
///    |   | cut or silent again, 5 s later or more
///    |   v
///    +-> Stranger
///    |   anything but a hello; refused with the name, and accepted without it
///    |
///    +-> RefusesBoth
///        refused with the name, and without it
/// ```
#[derive(Clone, Default)]
pub(super) struct Peers(Arc<Mutex<Seen>>);

/// Each server, and when this was learnt.
type Seen = HashMap<Box<str>, (Peer, Instant)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// The server has said hello. `cut_since` is the first time since then that a connection was cut before a hello.
    Known { cut_since: Option<Instant> },
    /// The server chose the subprotocol, and the connection ended or was silent. The network may be the cause.
    Suspect,
    /// The server does not know the subprotocol. It is not offered again.
    Stranger,
    /// The server refuses the handshake with and without the subprotocol, so the subprotocol is not the cause.
    RefusesBoth,
}

/// The memory of [`OptimizedTransport::connect`](super::OptimizedTransport::connect), which has no builder to keep one
/// between calls.
static OF_THE_PROCESS: LazyLock<Peers> = LazyLock::new(Peers::default);

impl Peers {
    /// Returns the memory that the whole process shares.
    pub(super) fn of_the_process() -> Self {
        OF_THE_PROCESS.clone()
    }

    /// Returns whether to offer the subprotocol to the server at `uri`.
    pub(super) fn offers(&self, uri: &Uri) -> bool {
        self.get(uri) != Some(Peer::Stranger)
    }

    /// Returns whether the server at `uri` has said hello.
    pub(super) fn is_trusted(&self, uri: &Uri) -> bool {
        matches!(self.get(uri), Some(Peer::Known { .. }))
    }

    /// Records a hello.
    pub(super) fn said_hello(&self, uri: &Uri) {
        self.learn(uri, Peer::Known { cut_since: None });
    }

    /// Records that the server at `uri` does not know the subprotocol.
    pub(super) fn is_stranger(&self, uri: &Uri) {
        self.learn(uri, Peer::Stranger);
    }

    /// Records that the subprotocol is not the reason why the server at `uri` refuses the handshake.
    pub(super) fn refuses_both(&self, uri: &Uri) {
        self.learn(uri, Peer::RefusesBoth);
    }

    /// Returns whether a refused handshake may be tried again without the subprotocol.
    pub(super) fn may_refuse_the_name(&self, uri: &Uri) -> bool {
        self.get(uri) != Some(Peer::RefusesBoth)
    }

    /// Records that a connection was cut or silent before a hello. Returns whether to connect again without the
    /// subprotocol.
    ///
    /// A server that is down behind a working proxy ends here too. It becomes a stranger, which is dialed once for each
    /// attempt.
    pub(super) fn was_cut(&self, uri: &Uri) -> bool {
        match (self.get(uri), self.age(uri)) {
            (Some(Peer::Known { cut_since: None }), _) => {
                self.learn(uri, Peer::Known { cut_since: Some(Instant::now()) });
                false
            }
            (Some(Peer::Known { cut_since: Some(since) }), _) => {
                if since.elapsed() >= TTL {
                    self.distrust(uri);
                }
                false
            }
            // Without the name this server refuses as well, so another connection is wasted.
            (Some(Peer::RefusesBoth), _) => false,
            // Another caller has learnt it meanwhile, and this attempt still offered the name.
            (Some(Peer::Stranger), _) => true,
            (Some(Peer::Suspect), Some(age)) => {
                if age >= SUSPICION {
                    self.is_stranger(uri);
                }
                true
            }
            (Some(Peer::Suspect) | None, _) => {
                self.learn(uri, Peer::Suspect);
                true
            }
        }
    }

    /// Forgets that the server at `uri` said hello, so that the next connection treats it as unknown. A stranger stays
    /// one.
    pub(super) fn distrust(&self, uri: &Uri) {
        let key = key(uri);
        let mut peers = self.0.lock();
        if peers.get(&key).is_some_and(|(peer, _)| matches!(peer, Peer::Known { .. })) {
            peers.remove(&key);
        }
    }

    fn get(&self, uri: &Uri) -> Option<Peer> {
        let (peer, at) = self.0.lock().get(&*key(uri)).copied()?;
        (at.elapsed() < TTL || matches!(peer, Peer::Known { .. })).then_some(peer)
    }

    fn age(&self, uri: &Uri) -> Option<Duration> {
        self.0.lock().get(&*key(uri)).map(|(_, at)| at.elapsed())
    }

    fn learn(&self, uri: &Uri, peer: Peer) {
        let now = Instant::now();
        let mut peers = self.0.lock();
        let key = key(uri);
        if peers.len() >= MOST && !peers.contains_key(&key) {
            let oldest = peers.iter().min_by_key(|(_, (_, at))| *at).map(|(key, _)| key.clone());
            oldest.map(|oldest| peers.remove(&oldest));
        }
        peers.insert(key, (peer, now));
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
        let len = self.0.lock().len();
        f.debug_struct("Peers").field("len", &len).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stranger_is_remembered_for_ten_minutes_and_a_server_that_said_hello_for_longer() {
        let (peers, stranger, known) = (Peers::default(), Uri::from_static("ws://a/"), Uri::from_static("ws://b/"));
        peers.is_stranger(&stranger);
        peers.said_hello(&known);
        assert!(!peers.clone().offers(&Uri::from_static("ws://ada:secret@a/?token=1")));
        assert!(peers.offers(&Uri::from_static("ws://a/other")));
        assert!(!peers.0.lock().keys().any(|key| key.contains("secret")));
        tokio::time::sleep(TTL).await;
        assert!(peers.offers(&stranger) && peers.is_trusted(&known));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_no_longer_trusted_is_unknown_and_a_stranger_stays_one() {
        let (peers, stranger, known) =
            (Peers::default(), Uri::from_static("ws://a/"), Uri::from_static("ws://b/?token=1"));
        peers.is_stranger(&stranger);
        peers.said_hello(&known);
        for uri in [&stranger, &known, &Uri::from_static("ws://c/")] {
            peers.distrust(uri);
        }
        assert!(!peers.offers(&stranger) && !peers.is_trusted(&known));
        assert_eq!(peers.0.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_forgets_the_oldest() {
        let peers = Peers::default();
        let uri = |i: usize| Uri::try_from(format!("ws://host/{i}")).unwrap();
        for i in 0..MOST + 5 {
            peers.is_stranger(&uri(i));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(peers.0.lock().len(), MOST);
        assert!(peers.offers(&uri(4)) && !peers.offers(&uri(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_cuts_connections_for_some_time_is_a_stranger() {
        let (peers, uri) = (Peers::default(), Uri::from_static("ws://a/"));
        for _ in 0..3 {
            assert!(peers.was_cut(&uri) && peers.offers(&uri), "all at once, as when a server restarts");
        }
        tokio::time::sleep(SUSPICION).await;
        assert!(peers.was_cut(&uri) && !peers.offers(&uri));
        tokio::time::sleep(TTL).await;
        assert!(peers.offers(&uri) && peers.was_cut(&uri) && peers.offers(&uri));
        peers.said_hello(&uri);
        tokio::time::sleep(SUSPICION).await;
        assert!(!peers.was_cut(&uri) && peers.is_trusted(&uri));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_said_hello_is_trusted_until_it_has_cut_connections_for_ten_minutes() {
        let (peers, uri) = (Peers::default(), Uri::from_static("ws://a/"));
        peers.said_hello(&uri);
        tokio::time::sleep(2 * TTL).await;
        assert!(!peers.was_cut(&uri));
        tokio::time::sleep(TTL / 2).await;
        assert!(!peers.was_cut(&uri) && peers.is_trusted(&uri));
        tokio::time::sleep(TTL / 2).await;
        assert!(!peers.was_cut(&uri) && !peers.is_trusted(&uri));
        assert!(peers.was_cut(&uri), "it is unknown");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_either_way_is_asked_once_for_each_attempt() {
        let (peers, uri) = (Peers::default(), Uri::from_static("ws://a/"));
        assert!(peers.may_refuse_the_name(&uri));
        peers.refuses_both(&uri);
        assert!(peers.offers(&uri) && !peers.may_refuse_the_name(&uri) && !peers.was_cut(&uri));
        tokio::time::sleep(TTL).await;
        assert!(peers.may_refuse_the_name(&uri));
    }
}
