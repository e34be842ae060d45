use std::{error::Error as StdError, fmt};

use crate::Error;

/// The error of [`Sender::try_send`](super::Sender::try_send), with the message that was not taken.
pub struct TrySendError<Out> {
    error: Error,
    message: Option<Out>,
}

impl<Out> TrySendError<Out> {
    pub(super) fn new(error: Error, message: Option<Out>) -> Self {
        Self { error, message }
    }

    /// Returns the reason: an error for which [`is_full`](Error::is_full) or [`is_closed`](Error::is_closed) is true,
    /// or the error that ended the transport.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Returns the message, or `None` if the message filled a queue that [closes](crate::WhenFull::Close) and was
    /// dropped with it.
    #[must_use]
    pub fn into_message(self) -> Option<Out> {
        self.message
    }
}

impl<Out> From<TrySendError<Out>> for Error {
    fn from(error: TrySendError<Out>) -> Self {
        error.error
    }
}

impl<Out> fmt::Display for TrySendError<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

debug_fields!([Out] TrySendError<Out> { error });

impl<Out> StdError for TrySendError<Out> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}
