//! One attempt: which transport starts when, and when the attempt is over. Pure: the caller owns the clock.

use std::sync::Arc;

use super::{
    TransportKind,
    policy::{Effect, Scope},
};

/// A transport that may be tried, and where it would connect, as far as that matters to the other transports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) kind: TransportKind,
    pub(super) is_secure: bool,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// The proxy or Unix socket to connect through. Whether a server is down, or a name resolves, depends on it.
    pub(super) via: Option<Arc<str>>,
}

/// The candidates of one attempt, in the order in which they are tried.
#[derive(Clone, Debug)]
pub(super) struct Plan(Vec<(Candidate, Progress)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Running,
    /// Failed or ruled out.
    Out,
}

impl Plan {
    pub(super) fn new(candidates: impl IntoIterator<Item = Candidate>) -> Self {
        Self(candidates.into_iter().map(|candidate| (candidate, Progress::Waiting)).collect())
    }

    /// Returns the next transport to start and marks it as in progress. Called at the beginning, after each failure,
    /// and when the head start of the previous transport is over.
    pub(super) fn start(&mut self) -> Option<TransportKind> {
        let (candidate, progress) = self.0.iter_mut().find(|(_, progress)| *progress == Progress::Waiting)?;
        *progress = Progress::Running;
        Some(candidate.kind)
    }

    /// Records that a transport in progress failed. Returns the transports in progress that are ruled out with it,
    /// which the caller must drop.
    pub(super) fn failed(&mut self, kind: TransportKind, effect: Effect) -> Vec<TransportKind> {
        // A transport that another failure has ruled out may still fail in the same poll.
        let Some(at) = self.0.iter().position(|(candidate, _)| candidate.kind == kind) else { return Vec::new() };
        let failed = self.0.get_mut(at).map(|(candidate, progress)| {
            *progress = Progress::Out;
            candidate.clone()
        });
        let (Some(failed), Effect::Stop(scope)) = (failed, effect) else { return Vec::new() };
        let mut dropped = Vec::new();
        for (candidate, progress) in &mut self.0 {
            if *progress != Progress::Out && scope.holds(&failed, candidate) {
                // Those that wait are only marked: the caller has no future of theirs to drop.
                if *progress == Progress::Running {
                    dropped.push(candidate.kind);
                }
                *progress = Progress::Out;
            }
        }
        dropped
    }

    /// Returns whether a transport has not been started.
    pub(super) fn has_more(&self) -> bool {
        self.0.iter().any(|(_, progress)| *progress == Progress::Waiting)
    }

    /// Returns whether no transport is in progress and none is left to start.
    pub(super) fn is_over(&self) -> bool {
        self.0.iter().all(|(_, progress)| *progress == Progress::Out)
    }
}

impl Scope {
    fn holds(self, failed: &Candidate, other: &Candidate) -> bool {
        match self {
            Self::All => true,
            Self::Proxy => failed.via == other.via,
            Self::Authority => failed.via == other.via && failed.host == other.host && failed.port == other.port,
            Self::Host => failed.via == other.via && failed.host == other.host,
            Self::Plaintext => !other.is_secure,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Effect::*, *};
    use TransportKind::{Sse, WebSocket, WebTransport};

    fn candidate(kind: TransportKind, host: &str, port: u16, is_secure: bool) -> Candidate {
        Candidate { kind, is_secure, host: host.into(), port, via: None }
    }

    fn plan() -> Plan {
        Plan::new(TransportKind::ALL.map(|kind| candidate(kind, "example.com", 443, true)))
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
            candidate(WebTransport, "quic.example.com", 443, true),
            candidate(WebSocket, "example.com", 443, true),
            candidate(Sse, "example.com", 443, true),
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
        for (candidate, _) in &mut plan.0[1..] {
            candidate.via = Some("proxy:3128".into());
        }
        plan.start();
        assert!(plan.failed(WebTransport, Stop(Scope::Host)).is_empty(), "only the proxy resolves names here");
        assert_eq!(plan.start(), Some(WebSocket));
        plan.failed(WebSocket, Stop(Scope::Proxy));
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
            candidate(WebTransport, "localhost", 4433, true),
            candidate(WebSocket, "localhost", 80, false),
            candidate(Sse, "localhost", 443, true),
        ]);
        plan.start();
        plan.failed(WebTransport, Stop(Scope::Plaintext));
        assert_eq!(plan.start(), Some(Sse));
    }

    fn effect() -> impl Strategy<Value = Effect> {
        prop_oneof![
            4 => Just(FallBack),
            1 => Just(Stop(Scope::All)),
            1 => Just(Stop(Scope::Proxy)),
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
            steps in prop::collection::vec((any::<bool>(), 0..3_usize, effect()), 0..12),
        ) {
            let kinds = TransportKind::ALL;
            let nth = |i: usize| candidate(kinds[i], &hosts[i].to_string(), ports[i], secure[i]);
            let candidates: Vec<_> = (0..3).map(nth).collect();
            let mut plan = Plan::new(candidates.clone());
            let (mut started, mut running, mut out) = (Vec::new(), Vec::new(), [false; 3]);
            let ends = (0..3).flat_map(|i| [(true, i, FallBack), (false, i, FallBack)]);
            for (starts, which, effect) in steps.into_iter().chain(ends) {
                if starts {
                    let next = plan.start();
                    let expected = kinds.into_iter().find(|kind| !started.contains(kind) && !out[kind.index()]);
                    prop_assert_eq!(next, expected);
                    started.extend(next);
                    running.extend(next);
                } else if running.contains(&kinds[which]) {
                    let dropped = plan.failed(kinds[which], effect);
                    out[which] = true;
                    if let Stop(scope) = effect {
                        for i in 0..3 {
                            let goes = scope.holds(&candidates[which], &candidates[i]);
                            let was_running = i != which && running.contains(&kinds[i]);
                            prop_assert_eq!(dropped.contains(&kinds[i]), goes && was_running);
                            out[i] |= goes;
                        }
                    }
                    running.retain(|kind| !out[kind.index()]);
                }
                prop_assert_eq!(plan.is_over(), out == [true; 3]);
                let is_waiting = |kind: &TransportKind| !started.contains(kind) && !out[kind.index()];
                prop_assert_eq!(plan.has_more(), kinds.iter().any(is_waiting));
            }
            prop_assert!(plan.is_over());
        }
    }
}
