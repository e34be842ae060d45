use web_transport_quinn::{SessionError, WebTransportError, quinn};

use crate::{CloseCode, CloseFrame, Error, Message};

/// The error of a session that is over.
pub(super) fn closed(reason: &SessionError) -> Error {
    match reason {
        SessionError::WebTransportError(WebTransportError::Closed(..)) => {
            Error::closed("the peer closed the session").with_close_frame(frame(reason))
        }
        SessionError::ConnectionError(quinn::ConnectionError::LocallyClosed) => Error::closed("the session is closed"),
        _ => Error::closed("the session was cut").with_source(reason.clone()),
    }
}

/// The last that the stream gives before `None`.
pub(super) fn last(reason: &SessionError) -> Option<Result<Message, Error>> {
    match reason {
        SessionError::WebTransportError(WebTransportError::Closed(..)) => Some(Ok(Message::Close(frame(reason)))),
        SessionError::ConnectionError(quinn::ConnectionError::LocallyClosed) => None,
        _ => Some(Err(closed(reason))),
    }
}

fn frame(reason: &SessionError) -> Option<CloseFrame> {
    let SessionError::WebTransportError(WebTransportError::Closed(code, reason)) = reason else { return None };
    let code = u16::try_from(*code).ok().and_then(CloseCode::new)?;
    Some(CloseFrame::new(code, reason.as_str()))
}
