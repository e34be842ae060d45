use std::{error::Error as StdError, fmt};

use super::frame::Rejection;
use crate::Error;

/// The failure of a call to a peer.
#[derive(Clone, Debug)]
pub enum CallError<F> {
    /// The application at the other end answered with its own error.
    Failed(F),
    /// There is no answer of the application: the peer rejected the call, the time is over, or the connection was lost.
    Unanswered(Error),
}

impl<F> CallError<F> {
    /// Returns the application's error.
    #[must_use]
    pub fn failure(&self) -> Option<&F> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Unanswered(_) => None,
        }
    }

    /// Returns whether the peer may have executed the call, at least in part. If it is `false`, a retry cannot execute
    /// it twice.
    #[must_use]
    pub fn may_have_been_executed(&self) -> bool {
        match self {
            Self::Failed(_) => true,
            Self::Unanswered(error) => error.may_have_been_executed(),
        }
    }

    pub(super) fn rejected(reason: Rejection) -> Self {
        let error = match reason {
            Rejection::TimedOut => Error::timeout(reason.as_str()),
            Rejection::Overloaded => Error::full(reason.as_str()),
            Rejection::ShuttingDown => Error::closed(reason.as_str()),
            Rejection::Unsendable => Error::too_large(reason.as_str()),
            Rejection::Panicked | Rejection::Streamed => Error::other(reason.as_str()),
        };
        Self::Unanswered(if reason.may_have_been_executed() { error } else { error.into_unsent() }.into_rejection())
    }
}

impl<F: fmt::Display> fmt::Display for CallError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Unanswered(error) => error.fmt(f),
        }
    }
}

impl<F: fmt::Display + fmt::Debug> StdError for CallError<F> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Failed(_) => None,
            Self::Unanswered(error) => error.source(),
        }
    }
}

impl<F> From<Error> for CallError<F> {
    fn from(error: Error) -> Self {
        Self::Unanswered(error)
    }
}

impl<F: fmt::Display> From<CallError<F>> for Error {
    /// Keeps an error of the transport as it is. An error of the application becomes one of the kind
    /// [`other`](Error::other), with its text.
    fn from(error: CallError<F>) -> Self {
        match error {
            CallError::Failed(failure) => Self::other(failure.to_string()),
            CallError::Unanswered(error) => error,
        }
    }
}
