//! One attempt: which transport starts when, and when the attempt is over. Pure: the caller owns the clock.

use std::sync::Arc;

use super::{
    TransportKind,
    policy::{Meaning, Scope},
};

/// The place to which a transport would connect, as far as it matters to the other transports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: TransportKind,
    pub(super) is_secure: bool,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// The proxy or Unix socket to connect through. Whether a server is down, or a name resolves, depends on it.
    pub(super) way: Option<Arc<str>>,
}

/// The candidates of one attempt, in the order in which they are tried.
#[derive(Clone, Debug)]
pub(super) struct Plan(Vec<(Place, Stand)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Waiting,
    Running,
    /// Failed or ruled out.
    Out,
}

impl Plan {
    pub(super) fn new(places: impl IntoIterator<Item = Place>) -> Self {
        Self(places.into_iter().map(|place| (place, Stand::Waiting)).collect())
    }

    /// Returns the next transport to start and marks it as in progress. Called at the beginning, after each failure,
    /// and when the head start of the previous transport is over.
    pub(super) fn start(&mut self) -> Option<TransportKind> {
        let (place, stand) = self.0.iter_mut().find(|(_, stand)| *stand == Stand::Waiting)?;
        *stand = Stand::Running;
        Some(place.kind)
    }

    /// Records that a transport in progress failed. Returns the transports in progress that are ruled out with it,
    /// which the caller must drop.
    pub(super) fn failed(&mut self, kind: TransportKind, meaning: Meaning) -> Vec<TransportKind> {
        let Some(at) = self.0.iter().position(|(place, _)| place.kind == kind) else { return Vec::new() };
        let failed = self.0.get_mut(at).map(|(place, stand)| {
            *stand = Stand::Out;
            place.clone()
        });
        let (Some(failed), Meaning::Stop(scope)) = (failed, meaning) else { return Vec::new() };
        let mut dropped = Vec::new();
        for (place, stand) in &mut self.0 {
            if *stand != Stand::Out && scope.holds(&failed, place) {
                if *stand == Stand::Running {
                    dropped.push(place.kind);
                }
                *stand = Stand::Out;
            }
        }
        dropped
    }

    /// Returns whether a transport has not been started.
    pub(super) fn has_more(&self) -> bool {
        self.0.iter().any(|(_, stand)| *stand == Stand::Waiting)
    }

    /// Returns whether no transport is in progress and none is left to start.
    pub(super) fn is_over(&self) -> bool {
        self.0.iter().all(|(_, stand)| *stand == Stand::Out)
    }
}

impl Scope {
    fn holds(self, failed: &Place, other: &Place) -> bool {
        match self {
            Self::All => true,
            Self::Way => failed.way == other.way,
            Self::Authority => failed.way == other.way && failed.host == other.host && failed.port == other.port,
            Self::Host => failed.way == other.way && failed.host == other.host,
            Self::Plaintext => !other.is_secure,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Meaning::*, *};
    use TransportKind::{Sse, WebSocket, WebTransport};

    fn place(kind: TransportKind, host: &str, port: u16, is_secure: bool) -> Place {
        Place { kind, is_secure, host: host.into(), port, way: None }
    }

    fn plan() -> Plan {
        Plan::new(TransportKind::ALL.map(|kind| place(kind, "example.com", 443, true)))
    }

    #[test]
    fn one_after_the_other_is_started_until_none_is_left() {
        let mut plan = plan();
        assert_eq!(
            [plan.start(), plan.start(), plan.start(), plan.start()],
            [Some(WebTransport), Some(WebSocket), Some(Sse), None]
        );
        for kind in TransportKind::ALL {
            assert!(!plan.is_over());
            assert!(plan.failed(kind, FallBack).is_empty());
        }
        assert!(plan.is_over());
    }

    #[test]
    fn a_server_that_is_down_takes_along_what_lives_at_the_same_place_alone() {
        let mut plan = Plan::new([
            place(WebTransport, "quic.example.com", 443, true),
            place(WebSocket, "example.com", 443, true),
            place(Sse, "example.com", 443, true),
        ]);
        plan.start();
        plan.start();
        assert!(plan.failed(WebSocket, Stop(Scope::Authority)).is_empty());
        assert_eq!((plan.start(), plan.is_over()), (None, false), "SSE is ruled out, WebTransport goes on");
        plan.failed(WebTransport, FallBack);
        assert!(plan.is_over());
    }

    #[test]
    fn what_is_seen_without_a_proxy_says_nothing_of_what_goes_through_one() {
        let mut plan = plan();
        for (place, _) in &mut plan.0[1..] {
            place.way = Some("proxy:3128".into());
        }
        plan.start();
        assert!(plan.failed(WebTransport, Stop(Scope::Host)).is_empty(), "only the proxy resolves names here");
        assert_eq!(plan.start(), Some(WebSocket));
        plan.failed(WebSocket, Stop(Scope::Way));
        assert!(plan.is_over(), "the proxy refuses SSE as well");
    }

    #[test]
    fn a_refusal_drops_all_that_is_under_way() {
        let mut plan = plan();
        plan.start();
        plan.start();
        assert_eq!(plan.failed(WebSocket, Stop(Scope::All)), [WebTransport]);
        assert!(plan.is_over());
    }

    #[test]
    fn after_a_failed_certificate_what_has_none_is_not_tried() {
        let mut plan = Plan::new([
            place(WebTransport, "localhost", 4433, true),
            place(WebSocket, "localhost", 80, false),
            place(Sse, "localhost", 443, true),
        ]);
        plan.start();
        plan.failed(WebTransport, Stop(Scope::Plaintext));
        assert_eq!(plan.start(), Some(Sse));
    }

    fn meaning() -> impl Strategy<Value = Meaning> {
        prop_oneof![
            4 => Just(FallBack),
            1 => Just(Stop(Scope::All)),
            1 => Just(Stop(Scope::Way)),
            1 => Just(Stop(Scope::Authority)),
            1 => Just(Stop(Scope::Host)),
            1 => Just(Stop(Scope::Plaintext)),
        ]
    }

    proptest! {
        /// For any failures in any order: each transport is started at most once, none that is ruled out is started,
        /// and the attempt ends.
        #[test]
        fn an_attempt_starts_each_once_and_ends(
            hosts in prop::array::uniform3(0..2_u8),
            ports in prop::array::uniform3(1..3_u16),
            secure in prop::array::uniform3(any::<bool>()),
            steps in prop::collection::vec((any::<bool>(), 0..3_usize, meaning()), 0..12),
        ) {
            let kinds = TransportKind::ALL;
            let places: Vec<_> = (0..3).map(|i| place(kinds[i], &hosts[i].to_string(), ports[i], secure[i])).collect();
            let mut plan = Plan::new(places.clone());
            let (mut started, mut running, mut out) = (Vec::new(), Vec::new(), [false; 3]);
            let ends = (0..3).flat_map(|i| [(true, i, FallBack), (false, i, FallBack)]);
            for (starts, which, meaning) in steps.into_iter().chain(ends) {
                if starts {
                    let next = plan.start();
                    let expected = kinds.into_iter().find(|kind| !started.contains(kind) && !out[kind.index()]);
                    prop_assert_eq!(next, expected);
                    started.extend(next);
                    running.extend(next);
                } else if running.contains(&kinds[which]) {
                    let dropped = plan.failed(kinds[which], meaning);
                    out[which] = true;
                    if let Stop(scope) = meaning {
                        for i in 0..3 {
                            let goes = scope.holds(&places[which], &places[i]);
                            prop_assert_eq!(dropped.contains(&kinds[i]), goes && i != which && running.contains(&kinds[i]));
                            out[i] |= goes;
                        }
                    }
                    running.retain(|kind| !out[kind.index()]);
                }
                prop_assert_eq!(plan.is_over(), out == [true; 3]);
                prop_assert_eq!(plan.has_more(), kinds.iter().any(|kind| !started.contains(kind) && !out[kind.index()]));
            }
            prop_assert!(plan.is_over());
        }
    }
}
