use crate::{CloseCode, CloseFrame, Error};

/// The consequence of a verifier's error for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Unauthorized,
    Forbidden,
    /// The verifier could not decide.
    Unavailable,
}

impl Verdict {
    pub(crate) fn of(error: &Error) -> Self {
        match error.status() {
            Some(http::StatusCode::FORBIDDEN) => Self::Forbidden,
            _ if error.is_auth() => Self::Unauthorized,
            _ => Self::Unavailable,
        }
    }

    /// Returns the frame to close a session with. The peer learns no more than that.
    pub(crate) fn close_frame(self) -> CloseFrame {
        match self {
            Self::Unauthorized => close_frame(4401, "unauthorized"),
            Self::Forbidden => close_frame(4403, "forbidden"),
            Self::Unavailable => CloseFrame::new(CloseCode::TRY_AGAIN, "credentials cannot be verified now"),
        }
    }
}

/// Creates a frame with one of the codes that applications may choose: 4401 and 4403 correspond to 401 and 403 in HTTP.
pub(super) fn close_frame(code: u16, reason: &'static str) -> CloseFrame {
    CloseFrame::new(CloseCode::new(code).unwrap_or(CloseCode::POLICY), crate::Text::from_static(reason))
}
