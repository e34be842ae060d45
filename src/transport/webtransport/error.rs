//! Conversion of failures below into errors of this crate.

use quinn::ConnectionError;
use web_transport_quinn::{
    ClientError, ConnectError, ReadError, ServerError, SessionError, WebTransportError, WriteError, proto,
};

use super::closed::closed_by_peer;
use crate::Error;

/// Converts the end of a session. An end without the WebTransport capsule (the connection was lost, or closed below) is
/// usually reported as our own close: web-transport-quinn closes the connection when it detects that, and QUIC's reason
/// is gone.
pub(super) fn session(error: SessionError) -> Error {
    match error {
        SessionError::WebTransportError(WebTransportError::Closed(code, reason)) => {
            closed_by_peer("the peer closed the session", code, &reason)
        }
        SessionError::ConnectionError(error) => connection(error),
        SessionError::WebTransportError(WebTransportError::UnknownSession) => {
            Error::protocol("the peer referred to an unknown session").with_source(error)
        }
        other => Error::closed("the session is closed").with_source(other),
    }
}

fn connection(error: ConnectionError) -> Error {
    match error {
        // The layer below also reports this for a connection that ended silently. If this end did not close it, it is
        // treated as such.
        ConnectionError::LocallyClosed => Error::closed("the session is closed").with_source(error),
        ConnectionError::TimedOut => {
            Error::closed("nothing was received from the peer for too long (SessionLimits::idle)").with_source(error)
        }
        // Also for the peer's fault: this session is over, and another one may succeed.
        ConnectionError::TransportError(_) => {
            Error::closed("the connection ended with a QUIC protocol error").with_source(error)
        }
        _ => Error::closed("the connection was cut").with_source(error),
    }
}

/// Converts the reason why a stream cannot be read.
pub(super) fn read(error: ReadError) -> Error {
    match error {
        ReadError::Reset(code) => closed_by_peer("the peer reset the stream", code, ""),
        ReadError::SessionError(error) => session(error),
        ReadError::InvalidReset(_) => Error::closed("the peer reset the stream").with_source(error),
        other => Error::closed("the stream is closed").with_source(other),
    }
}

/// Converts the reason why a stream cannot be written.
pub(super) fn write(error: WriteError) -> Error {
    match error {
        WriteError::Stopped(code) => closed_by_peer("the peer no longer reads the stream", code, ""),
        WriteError::SessionError(error) => session(error),
        WriteError::InvalidStopped(_) => Error::closed("the peer no longer reads the stream").with_source(error),
        other => Error::closed("the stream is closed").with_source(other),
    }
}

/// Converts the reason why there is no QUIC connection.
pub(super) fn handshake(error: ConnectionError) -> Error {
    use quinn::TransportErrorCode as Code;

    let is_tls =
        |code: Code| (u64::from(Code::crypto(0))..=u64::from(Code::crypto(u8::MAX))).contains(&u64::from(code));
    match &error {
        ConnectionError::TimedOut => Error::timeout("the server did not answer: is UDP blocked on the way?"),
        ConnectionError::TransportError(cause) if is_tls(cause.code) => Error::tls("the TLS handshake failed"),
        ConnectionError::ConnectionClosed(close) if is_tls(close.error_code) => {
            Error::tls("the server aborted the TLS handshake")
        }
        ConnectionError::ConnectionClosed(close) if close.error_code == Code::CONNECTION_REFUSED => {
            // The server is listening, so this is not `Error::refused`.
            Error::rate_limited("the server refuses more connections; try again later")
        }
        ConnectionError::VersionMismatch => Error::protocol("the server speaks another version of QUIC"),
        ConnectionError::TransportError(_) => Error::protocol("the server violated the QUIC protocol"),
        _ => Error::closed("the server closed the connection during the handshake"),
    }
    .with_source(error)
}

/// Converts the reason why the HTTP/3 exchange on a connection did not establish a session.
pub(super) fn exchange(error: ClientError) -> Error {
    let status = match &error {
        ClientError::HttpError(ConnectError::ErrorStatus(status))
        | ClientError::HttpError(ConnectError::ProtoError(proto::ConnectError::WrongStatus(Some(status)))) => {
            Some(*status)
        }
        _ => None,
    };
    if let Some(status) = status {
        return Error::from_refusal(status, bytes::Bytes::new()).with_source(error);
    }
    // Some of the types involved have no public name, but their causes do.
    if let Some(lost) = cause::<ConnectionError>(&error) {
        return handshake(lost.clone());
    }
    let is_cut = matches!(cause(&error), Some(proto::ConnectError::UnexpectedEnd | proto::ConnectError::Io(_)))
        || matches!(cause(&error), Some(proto::SettingsError::UnexpectedEnd));
    if is_cut {
        return Error::closed("the server closed the connection during the handshake").with_source(error);
    }
    match &error {
        ClientError::SettingsError(_) => Error::protocol("the server speaks HTTP/3, but not WebTransport"),
        ClientError::HttpError(ConnectError::ProtocolMismatch(_)) => {
            Error::protocol("the server chose a subprotocol that was not offered")
        }
        ClientError::HttpError(ConnectError::ProtoError(proto::ConnectError::FieldSectionTooLarge)) => {
            Error::too_large("the headers of the request or of the response are over 16 KiB")
        }
        _ => Error::protocol("the server's HTTP/3 response is not valid"),
    }
    .with_source(error)
}

fn cause<E: std::error::Error + 'static>(error: &ClientError) -> Option<&E> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// Converts the reason why a client could not be answered.
pub(super) fn respond(error: ServerError) -> Error {
    Error::closed("the client closed the connection during the handshake").with_source(error)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_handshake_fails_by_what_failed() {
        assert!(handshake(ConnectionError::TimedOut).is_timeout());
        assert!(handshake(ConnectionError::VersionMismatch).is_protocol());
        assert!(handshake(ConnectionError::Reset).is_closed());
        let close = quinn::ConnectionClose {
            error_code: quinn::TransportErrorCode::CONNECTION_REFUSED,
            frame_type: None,
            reason: bytes::Bytes::new(),
        };
        assert!(handshake(ConnectionError::ConnectionClosed(close)).is_rate_limited());
    }

    #[test]
    fn a_fault_of_quic_closes_a_session_and_is_final_in_a_handshake_only() {
        let fault = || ConnectionError::TransportError(quinn::TransportErrorCode::FRAME_ENCODING_ERROR.into());
        let error = session(SessionError::ConnectionError(fault()));
        assert!(error.is_closed() && std::error::Error::source(&error).is_some(), "{error:?}");
        assert!(handshake(fault()).is_protocol());
    }

    #[test]
    fn a_status_is_a_refusal_however_it_was_reported() {
        let forbidden = StatusCode::FORBIDDEN;
        let by_us = ClientError::HttpError(ConnectError::ErrorStatus(forbidden));
        let below = proto::ConnectError::WrongStatus(Some(forbidden));
        for error in [by_us, ClientError::HttpError(ConnectError::ProtoError(below))] {
            let error = exchange(error);
            assert!(error.is_auth() && error.status() == Some(forbidden), "{error:?}");
        }
    }

    #[test]
    fn a_connection_that_was_lost_is_found_however_deep_it_is() {
        let lost = ConnectionError::TimedOut;
        assert!(exchange(ClientError::Connection(lost.clone())).is_timeout());
        assert!(exchange(ClientError::HttpError(ConnectError::ConnectionError(lost))).is_timeout());
        let cut = proto::ConnectError::UnexpectedEnd;
        assert!(exchange(ClientError::HttpError(ConnectError::ProtoError(cut))).is_closed());
    }
}
