use super::{
    Reason, TransportKind,
    policy::{Judgement, weight},
};
use crate::Error;

/// The failures of one attempt so far.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<Failure>);

#[derive(Debug)]
struct Failure {
    kind: TransportKind,
    judgement: Judgement,
    error: Error,
}

impl Failures {
    pub(super) fn push(&mut self, kind: TransportKind, judgement: Judgement, error: Error) {
        self.0.push(Failure { kind, judgement, error });
    }

    /// Returns whether the server, or a proxy in front of it, has answered, even if only to refuse.
    pub(super) fn have_answer(&self) -> bool {
        self.0.iter().any(|failure| {
            let reason = failure.judgement.reason;
            failure.kind != TransportKind::WebTransport
                && matches!(reason, Reason::UpgradeRefused | Reason::Tls | Reason::Cut)
        })
    }

    /// Combines all failures into one error. Its kind, status and the like are those of the most informative failure,
    /// which is its source; its message names each failure.
    pub(super) fn into_error(self) -> Error {
        let each: Vec<_> = self.0.iter().map(|Failure { kind, error, .. }| format!("{kind}: {error}")).collect();
        let most = self.0.into_iter().rev().max_by_key(|failure| weight(failure.judgement, &failure.error));
        match most {
            Some(Failure { error, .. }) => error.context(format!("no transport connected; {}", each.join("; "))),
            None => Error::config("no transport is available: all are switched off or require TLS (https://)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::{
        layer::reconnect::{Class, classify},
        stack::adaptive::policy::judge,
    };

    fn failures<const N: usize>(all: [(TransportKind, Error); N]) -> Error {
        let mut failures = Failures::default();
        for (kind, error) in all {
            failures.push(kind, judge(kind, &error), error);
        }
        failures.into_error()
    }

    fn status(code: u16) -> Error {
        Error::from_refusal(StatusCode::from_u16(code).unwrap(), Bytes::new())
    }

    #[test]
    fn the_error_names_each_and_has_the_kind_of_the_one_that_tells_most() {
        let error = failures([
            (TransportKind::WebTransport, Error::timeout("silence")),
            (TransportKind::WebSocket, status(404)),
            (TransportKind::Sse, status(502)),
        ]);
        assert_eq!(error.status().map(|status| status.as_u16()), Some(502));
        assert_eq!(classify(&error), Class::Retry);
        let words = error.to_string();
        for part in ["WebTransport: silence", "WebSocket: the server answered", "404", "SSE + POST: ", "502"] {
            assert!(words.contains(part), "{words}");
        }
        assert!(error.source().is_some_and(|source| source.downcast_ref::<Error>().is_some_and(Error::is_status)));
    }

    #[test]
    fn a_server_that_is_down_is_tried_again_and_a_token_that_is_refused_is_not() {
        let udp = || (TransportKind::WebTransport, Error::timeout("silence"));
        let down = failures([udp(), (TransportKind::WebSocket, Error::refused("nobody listens"))]);
        assert!(down.is_refused() && classify(&down) == Class::Retry);
        let refused = failures([udp(), (TransportKind::WebSocket, status(401))]);
        assert!(refused.is_auth() && classify(&refused) == Class::Final);
        let nowhere = failures([udp(), (TransportKind::WebSocket, status(404)), (TransportKind::Sse, status(404))]);
        assert_eq!(classify(&nowhere), Class::Final);
    }

    #[test]
    fn without_a_candidate_the_setting_is_at_fault() {
        assert!(Failures::default().into_error().is_config());
    }
}
