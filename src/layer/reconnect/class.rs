use crate::{CloseCode, Error};

/// The meaning of an error for the connection, as a [classifier](super::ReconnectLayer::classify) decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The connection is lost, or the attempt failed. Another attempt may succeed.
    Retry,
    /// Another attempt would end the same way, or is not wanted.
    Final,
    /// The error concerns one message. It is returned, and the connection stays. While connecting, it is the same as
    /// [`Retry`](Self::Retry).
    Message,
}

/// Returns the default class of an error.
///
/// | error | class |
/// |---|---|
/// | [a rejection](Error::is_rejection): codec, rate limited, full, a message over a limit of this end | message |
/// | auth (including 401, 403 and 407), config, protocol, TLS, an incoming message that is too large | final |
/// | status 408, 425, 429 and 5xx | retry |
/// | any other status that refuses the handshake | final |
/// | close code 1002, 1003, 1007 to 1010; 3000 and 4401 (unauthorized), 3003 and 4403 (forbidden) | final |
/// | any other close code: 1000, 1001, 1011 to 1014, the application's own | retry |
/// | an end without a close message (1006), or with one without a code (1005) | retry |
/// | refused, DNS, I/O, timeout, and all other kinds | retry |
/// | of several transports that failed to connect (`AdaptiveConnector`), one that may work later | retry |
///
/// Code 1000 is retried because a server that restarts also sends it when its handlers return. If your peer sends it to
/// end the conversation, set [`end_on_normal_close`](super::ReconnectLayer::end_on_normal_close).
///
/// ```
/// use tower_transport::{CloseCode, CloseFrame, Error, layer::reconnect::{Class, classify}};
///
/// assert_eq!(classify(&Error::refused("nobody listens")), Class::Retry);
/// assert_eq!(classify(&Error::auth("who are you?")), Class::Final);
/// let restart = CloseFrame::new(CloseCode::RESTART, "new version");
/// assert_eq!(classify(&Error::closed("closed").with_close_frame(Some(restart))), Class::Retry);
/// ```
#[must_use]
pub fn classify(error: &Error) -> Class {
    if error.is_rejection() {
        return Class::Message;
    }
    if error.is_temporary() {
        return Class::Retry;
    }
    if error.is_auth() || error.is_config() || error.is_protocol() || error.is_tls() || error.is_too_large() {
        return Class::Final;
    }
    if let Some(status) = error.status() {
        return match status.as_u16() {
            408 | 425 | 429 | 500.. => Class::Retry,
            _ => Class::Final,
        };
    }
    match error.close_frame().map(|frame| frame.code()) {
        Some(code) if is_final(code) => Class::Final,
        _ => Class::Retry,
    }
}

fn is_final(code: CloseCode) -> bool {
    matches!(code.get(), 1002 | 1003 | 1007..=1010 | 3000 | 3003 | 4401 | 4403)
}

/// Returns whether the error of a `start_send` rejects that message, and the connection accepts the next one. A
/// transport need not mark the error of a message that is too large: the connection's own failures come from its other
/// methods.
pub(super) fn refuses_message(error: &Error) -> bool {
    error.is_rejection() || error.is_too_large()
}

/// Returns whether this is a normal close by the peer, which is not a failure.
pub(super) fn is_normal_close(error: &Error) -> bool {
    error.close_frame().is_some_and(|frame| frame.code() == CloseCode::NORMAL)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::CloseFrame;

    #[test]
    fn errors_that_another_attempt_may_fix_are_retried() {
        for error in
            [Error::refused(""), Error::dns(""), Error::io(""), Error::closed(""), Error::timeout(""), Error::other("")]
        {
            assert_eq!(classify(&error), Class::Retry, "{error:?}");
        }
    }

    #[test]
    fn errors_that_no_attempt_fixes_are_final() {
        for error in [Error::auth(""), Error::config(""), Error::protocol(""), Error::tls(""), Error::too_large("")] {
            assert_eq!(classify(&error), Class::Final, "{error:?}");
        }
    }

    #[test]
    fn errors_of_one_message_leave_the_connection_alone() {
        let outgoing = Error::too_large("").into_rejection();
        for error in [Error::codec(""), Error::rate_limited(""), Error::full(""), outgoing] {
            assert_eq!(classify(&error), Class::Message, "{error:?}");
        }
    }

    #[test]
    fn a_refusal_is_retried_if_its_status_invites_to_it() {
        let class = |status| classify(&Error::from_refusal(StatusCode::from_u16(status).unwrap(), Bytes::new()));
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(class(status), Class::Retry, "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 407, 410, 426] {
            assert_eq!(class(status), Class::Final, "{status}");
        }
    }

    #[test]
    fn a_close_code_tells_whether_to_reconnect() {
        let class = |code| {
            let frame = CloseFrame::new(CloseCode::new(code).unwrap(), "");
            classify(&Error::closed("closed").with_close_frame(Some(frame)))
        };
        for code in [1000, 1001, 1011, 1012, 1013, 1014, 3008, 4000, 4999] {
            assert_eq!(class(code), Class::Retry, "{code}");
        }
        for code in [1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003, 4401, 4403] {
            assert_eq!(class(code), Class::Final, "{code}");
        }
    }
}
