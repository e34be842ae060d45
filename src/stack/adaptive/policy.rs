//! The meaning of one transport's error for the others. Pure: no I/O, no clock.

use std::error::Error as StdError;

use http::StatusCode;

use super::{Reason, TransportKind};
use crate::{
    Error,
    layer::reconnect::{Class, classify},
};

/// The consequence of one transport's failure for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing: the next transport is tried at once.
    FallBack,
    /// The transports in this scope would fail in the same way or must not be tried. They are ruled out, whether in
    /// progress or not.
    Stop(Scope),
}

/// The other transports that are ruled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    /// The transports through the same proxy.
    Proxy,
    /// The transports on the same host and port.
    Authority,
    /// The transports on the same host.
    Host,
    /// The transports without TLS.
    Plaintext,
}

/// The class of a failure, and its effect on the other transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Diagnosis {
    pub(super) reason: Reason,
    pub(super) effect: Effect,
}

/// Classifies the error of a transport that failed to connect. The table in the [module](super) documents this
/// function.
pub(super) fn diagnose(kind: TransportKind, error: &Error) -> Diagnosis {
    use Effect::{FallBack, Stop};

    let over_udp = kind == TransportKind::WebTransport;
    let (reason, effect) = if is_auth_of_proxy(error) {
        (Reason::Auth, Stop(Scope::Proxy))
    } else if error.is_auth() {
        (Reason::Auth, Stop(Scope::All))
    } else if error.is_config() {
        // For SSE this may be a redirect: the server's answer at one path, which says nothing about the other paths.
        (Reason::Config, if kind == TransportKind::Sse { FallBack } else { Stop(Scope::All) })
    } else if error.is_dns() {
        (Reason::Dns, Stop(Scope::Host))
    } else if error.is_tls() {
        (Reason::Tls, Stop(Scope::Plaintext))
    } else if error.is_rate_limited() || is_busy(kind, error) {
        (Reason::Busy, Stop(Scope::Authority))
    } else if error.is_status() || error.is_protocol() || error.is_too_large() {
        (Reason::UpgradeRefused, FallBack)
    } else if over_udp && (error.is_timeout() || error.is_refused() || error.is_io()) {
        (Reason::UdpBlocked, FallBack)
    } else if error.is_refused() {
        (Reason::ServerDown, Stop(Scope::Authority))
    } else if error.is_timeout() {
        (Reason::Timeout, FallBack)
    } else if error.is_closed() || error.is_io() {
        (Reason::Cut, FallBack)
    } else {
        (Reason::Other, FallBack)
    };
    Diagnosis { reason, effect }
}

/// Returns whether a proxy requires other credentials, or does not permit the connection by SOCKS.
fn is_auth_of_proxy(error: &Error) -> bool {
    #[cfg(all(feature = "proxy", not(target_arch = "wasm32")))]
    if error.is_auth() && crate::transport::dial::is_of_socks_proxy(error) {
        return true;
    }
    error.status() == Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED)
}

fn is_busy(kind: TransportKind, error: &Error) -> bool {
    match error.status().map(|status| status.as_u16()) {
        Some(429) => true,
        // Without `Retry-After`, a 503 may come from a proxy that does not pass upgrades on. Over QUIC there is no such
        // proxy, and the header is not available.
        Some(503) => error.retry_after().is_some() || kind == TransportKind::WebTransport,
        _ => false,
    }
}

/// How much a failure decides whether another attempt is worthwhile. The failure with the greatest weight does.
///
/// The failure that stopped the attempt comes first. Failures that another attempt may fix come next, because giving up
/// wrongly is worse than retrying in vain. Blocked UDP comes last, since it is common and says nothing about the
/// server.
pub(super) fn weight(diagnosis: Diagnosis, error: &Error) -> u8 {
    match diagnosis.effect {
        Effect::Stop(Scope::All | Scope::Proxy) => 5,
        Effect::Stop(Scope::Authority | Scope::Host) => 4,
        _ if diagnosis.reason == Reason::UdpBlocked => 1,
        _ if classify(error) != Class::Final => 3,
        _ => 2,
    }
}

/// Returns whether a server understood the handshake and objects to it, so that the caller may do something about it. A
/// status that says that nothing is there does not count: the server may lack one transport.
pub(super) fn objects(error: &Error) -> bool {
    let status = error.status().map(|status| status.as_u16());
    matches!(status, Some(400..=499)) && !matches!(status, Some(404 | 405 | 408 | 410 | 425 | 426 | 429))
}

/// Returns whether a connection was lost because its path went dead: nothing came in for too long according to a
/// heartbeat, QUIC's idle timeout or the operating system. A close, a reset and a server restart do not count.
pub(super) fn is_dead_path(error: &Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(this) = cause {
        if this.downcast_ref::<Error>().is_some_and(Error::is_timeout) || is_idle_timeout(this) {
            return true;
        }
        cause = this.source();
    }
    false
}

#[cfg(not(target_arch = "wasm32"))]
fn is_idle_timeout(error: &(dyn StdError + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(quinn::ConnectionError::TimedOut))
}

/// The browser does not tell why a session was lost.
#[cfg(target_arch = "wasm32")]
fn is_idle_timeout(_: &(dyn StdError + 'static)) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::{Effect::*, *};

    const ALL: [TransportKind; 3] = TransportKind::ALL;
    const TCP: [TransportKind; 2] = [TransportKind::WebSocket, TransportKind::Sse];

    fn status(code: u16) -> Error {
        Error::from_refusal(StatusCode::from_u16(code).unwrap(), Bytes::new())
    }

    fn check(kinds: &[TransportKind], errors: &[Error], reason: Reason, effect: Effect) {
        for (kind, error) in kinds.iter().flat_map(|kind| errors.iter().map(move |error| (kind, error))) {
            assert_eq!(diagnose(*kind, error), Diagnosis { reason, effect }, "{kind}: {error}");
        }
    }

    #[test]
    fn who_is_refused_is_refused_everywhere() {
        check(&ALL, &[Error::auth(""), status(401), status(403)], Reason::Auth, Stop(Scope::All));
    }

    #[test]
    fn whom_a_proxy_refuses_it_refuses_whatever_it_carries() {
        check(&TCP, &[status(407)], Reason::Auth, Stop(Scope::Proxy));
        #[cfg(feature = "proxy")]
        {
            let socks = || Error::auth("").with_source(tokio_socks::Error::PasswordAuthFailure(1));
            check(&TCP, &[socks(), socks().context("")], Reason::Auth, Stop(Scope::Proxy));
        }
    }

    #[test]
    fn a_setting_that_cannot_work_stops_all_but_a_redirect_of_sse_does_not() {
        check(&ALL[..2], &[Error::config("")], Reason::Config, Stop(Scope::All));
        check(&ALL[2..], &[Error::config("")], Reason::Config, FallBack);
    }

    #[test]
    fn silence_over_udp_says_nothing_about_tcp() {
        let errors = [Error::timeout(""), Error::refused(""), Error::io("")];
        check(&[TransportKind::WebTransport], &errors, Reason::UdpBlocked, FallBack);
    }

    #[test]
    fn a_tcp_port_that_nobody_listens_at_is_a_server_that_is_down() {
        check(&TCP, &[Error::refused("")], Reason::ServerDown, Stop(Scope::Authority));
        check(&TCP, &[Error::timeout("")], Reason::Timeout, FallBack);
        check(&TCP, &[Error::closed(""), Error::io("")], Reason::Cut, FallBack);
    }

    #[test]
    fn an_answer_that_is_not_the_transports_makes_room_for_the_next() {
        for code in [200, 204, 301, 302, 400, 404, 405, 410, 426, 500, 501, 502, 504] {
            check(&ALL, &[status(code)], Reason::UpgradeRefused, FallBack);
        }
        check(&TCP, &[status(503)], Reason::UpgradeRefused, FallBack);
        check(&ALL, &[Error::protocol(""), Error::too_large("")], Reason::UpgradeRefused, FallBack);
    }

    #[test]
    fn a_server_that_asks_for_time_is_not_asked_over_another_transport() {
        let later = status(503).with_retry_after(Duration::from_secs(7));
        check(&ALL, &[later, status(429), Error::rate_limited("")], Reason::Busy, Stop(Scope::Authority));
        check(&ALL[..1], &[status(503)], Reason::Busy, Stop(Scope::Authority));
    }

    #[test]
    fn a_failed_certificate_never_leads_to_plaintext() {
        check(&ALL, &[Error::tls("")], Reason::Tls, Stop(Scope::Plaintext));
    }

    #[test]
    fn a_name_that_does_not_resolve_rules_out_its_host() {
        check(&ALL, &[Error::dns("")], Reason::Dns, Stop(Scope::Host));
    }

    #[test]
    fn what_another_attempt_may_mend_outweighs_what_none_does() {
        let weigh = |kind, error: &Error| weight(diagnose(kind, error), error);
        let [udp, websocket, sse] = ALL;
        assert!(weigh(websocket, &Error::auth("")) > weigh(sse, &Error::refused("")));
        assert!(weigh(websocket, &Error::refused("")) > weigh(sse, &status(502)));
        assert!(weigh(sse, &status(502)) > weigh(websocket, &status(404)));
        assert!(weigh(websocket, &status(404)) > weigh(udp, &Error::timeout("")));
    }

    #[test]
    fn a_path_is_dead_by_a_timeout_wherever_in_the_chain_it_stands() {
        let silent = Error::timeout("no answer to a ping");
        assert!(is_dead_path(&silent));
        assert!(is_dead_path(&Error::closed("the connection has failed").with_source(silent)));
        assert!(is_dead_path(&Error::closed("nothing came").with_source(quinn::ConnectionError::TimedOut)));
        assert!(!is_dead_path(&Error::closed("the peer closed").with_source(quinn::ConnectionError::Reset)));
    }
}
