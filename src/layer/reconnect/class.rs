use crate::{CloseCode, Error};

/// What an error means for the connection: what a [classifier](super::ReconnectLayer::classify) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The connection is lost, or was not made: it is worth another attempt.
    Retry,
    /// No other attempt could end otherwise, or none is wanted.
    Final,
    /// It concerns one message, which is given to the user; the connection stays. While connecting, the same as
    /// [`Retry`](Self::Retry).
    Message,
}

/// The class of an error by default.
///
/// | error | class |
/// |---|---|
/// | [a rejection](Error::is_rejection): codec, rate limited, full, a message that is over a limit of this end | of one message |
/// | auth (401, 403, 407 among them), config, protocol, TLS, an incoming message that is too large | final |
/// | status 408, 425, 429 and 5xx | retried |
/// | any other status that refuses the handshake | final |
/// | close code 1002, 1003, 1007 to 1010; 3000 and 4401 (unauthorized), 3003 and 4403 (forbidden) | final |
/// | any other close code: 1000, 1001, 1011 to 1014, the application's own | retried |
/// | the end without a close message (1006), or with one without a code (1005) | retried |
/// | refused, DNS, I/O, timeout, and what no kind names | retried |
///
/// Code 1000 is retried because a server that restarts sends it too, when its handlers return. Where it means that the peer has
/// nothing more to say, set [`end_on_normal_close`](super::ReconnectLayer::end_on_normal_close).
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

/// Whether the error of a `start_send` refuses that message, and the connection takes the next one. A transport need not say so
/// of a message that is too large: the connection's own failures come from its other methods.
pub(super) fn refuses_message(error: &Error) -> bool {
    error.is_rejection() || error.is_too_large()
}

/// Whether the peer ended the connection because of a message, or failed while it handled one. A connection that is merely lost
/// says nothing about its messages.
pub(super) fn blames_message(error: &Error) -> bool {
    let is_blamed = |code: CloseCode| matches!(code.get(), 1003 | 1007 | 1009 | 1011);
    error.is_too_large()
        || error.status() == Some(http::StatusCode::PAYLOAD_TOO_LARGE)
        || error.close_frame().is_some_and(|frame| is_blamed(frame.code()))
}

/// Whether this is the peer's plain goodbye, which is no failure.
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
    fn what_a_second_attempt_may_mend_is_retried() {
        for error in
            [Error::refused(""), Error::dns(""), Error::io(""), Error::closed(""), Error::timeout(""), Error::other("")]
        {
            assert_eq!(classify(&error), Class::Retry, "{error:?}");
        }
    }

    #[test]
    fn what_no_attempt_mends_is_final() {
        for error in [Error::auth(""), Error::config(""), Error::protocol(""), Error::tls(""), Error::too_large("")] {
            assert_eq!(classify(&error), Class::Final, "{error:?}");
        }
    }

    #[test]
    fn what_concerns_one_message_leaves_the_connection_alone() {
        let outgoing = Error::too_large("").into_rejection();
        for error in [Error::codec(""), Error::rate_limited(""), Error::full(""), outgoing] {
            assert_eq!(classify(&error), Class::Message, "{error:?}");
        }
    }

    #[test]
    fn a_refusal_is_retried_where_its_status_invites_to_it() {
        let class = |status| classify(&Error::from_refusal(StatusCode::from_u16(status).unwrap(), Bytes::new()));
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(class(status), Class::Retry, "{status}");
        }
        for status in [200, 301, 400, 401, 403, 404, 407, 410, 426] {
            assert_eq!(class(status), Class::Final, "{status}");
        }
    }

    #[test]
    fn a_close_code_says_whether_to_come_back() {
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
