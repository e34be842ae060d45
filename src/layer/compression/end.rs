use crate::{CloseCode, CloseFrame, Error, Message};

/// Whether the transport goes on.
///
/// ```text
///         a message that cannot be inflated,        the close message is sent,
///         where the context is kept                 the transport closed
///   Open ------------------------------> Refusing ------------------> Over
/// ```
#[derive(Debug)]
pub(super) enum End {
    Open,
    Refusing(Refusal),
    Over(Refusal),
}

#[derive(Clone, Debug)]
pub(super) struct Refusal {
    cause: Error,
    frame: CloseFrame,
}

impl End {
    #[inline]
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// The close message that says so. The peer learns no more than the reason.
    pub(super) fn refuse(&mut self, code: CloseCode, cause: &Error) -> Message {
        let reason = match code {
            CloseCode::TOO_BIG => "a compressed message is over the limit",
            CloseCode::PROTOCOL => "a kept compression context is not expected here",
            _ => "a compressed message cannot be inflated",
        };
        let frame = CloseFrame::new(code, reason);
        *self = Self::Refusing(Refusal { cause: cause.clone(), frame: frame.clone() });
        Message::Close(Some(frame))
    }

    pub(super) fn is_over(&mut self) {
        if let Self::Refusing(refusal) = self {
            *self = Self::Over(refusal.clone());
        }
    }

    /// Whether a message may be sent.
    #[inline]
    pub(super) fn check_open(&self) -> Result<(), Error> {
        match self {
            Self::Open => Ok(()),
            Self::Refusing(refusal) | Self::Over(refusal) => Err(refusal.closed()),
        }
    }
}

impl Refusal {
    #[cold]
    fn closed(&self) -> Error {
        Error::closed("the transport was closed for a compressed message that was refused")
            .with_close_frame(Some(self.frame.clone()))
            .with_source(self.cause.clone())
    }
}
