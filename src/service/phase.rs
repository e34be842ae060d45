use std::task::{Context, Poll, ready};

use crate::{
    CloseCode, CloseFrame, Error, log,
    transport::{
        close_deadline::{CloseDeadline, WaitsFor},
        signal::Mark,
    },
};

/// The phases of a server.
///
/// ```text
///            the peer has closed, graceful_shutdown,        everything in flight
///            or a call cannot be answered                   is answered
///   Serving ----------------------------------> Draining ---------------------> Closing
///      \______________ the service has failed, or order cannot be kept ____________/
/// ```
pub(super) enum Phase {
    /// Requests are read.
    Serving,
    /// No more requests are read, and those in flight are finished.
    Draining {
        /// Whether the peer has closed.
        peer_closed: bool,
        /// The failure of the call that cannot be answered, if that is the reason.
        failure: Option<Failure>,
    },
    /// No more answers are sent. The future completes with the failure, if any, once the transport is closed.
    Closing(Option<Failure>),
}

/// The result of the server's future, and the reason that the peer gets with the close.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) reason: &'static str,
}

impl Failure {
    pub(super) fn of_service(error: Error) -> Self {
        Self { error, reason: "the service failed" }
    }

    pub(super) fn unreadable(error: Error) -> Self {
        let error = error.context("a request could not be read, which ended the server");
        Self { error, reason: "a request could not be read" }
    }

    pub(super) fn unanswered(error: Error) -> Self {
        let error = error.context("an answer was rejected, which ended the server");
        Self { error, reason: "an answer could not be sent" }
    }

    pub(super) fn close_frame(&self) -> CloseFrame {
        CloseFrame::new(CloseCode::INTERNAL, self.reason)
    }
}

impl Phase {
    /// Stops reading without a failure.
    pub(super) fn drain(&mut self, peer_closed: bool) {
        if let Self::Serving = self {
            *self = Self::Draining { peer_closed, failure: None };
        }
    }

    /// Stops reading because of a failure. Requests in flight are answered first. The first failure counts.
    pub(super) fn fail(&mut self, new: Failure) {
        match self {
            Self::Serving => *self = Self::Draining { peer_closed: false, failure: Some(new) },
            Self::Draining { failure, .. } => drop(failure.get_or_insert(new)),
            Self::Closing(_) => {}
        }
    }

    /// Returns the error of the future once a draining server has waited too long for its transport. The time runs only
    /// while the transport is due: the service may take as long as it likes.
    pub(super) fn poll_deadline(
        &mut self,
        deadline: &mut CloseDeadline,
        is_transport_due: bool,
        has_moved: bool,
        mark: Mark,
        cx: &mut Context<'_>,
    ) -> Poll<Error> {
        let Self::Draining { failure, .. } = self else { return Poll::Pending };
        if !is_transport_due {
            deadline.stop();
            return Poll::Pending;
        }
        ready!(deadline.poll(has_moved, WaitsFor::Room.unless_client(mark), cx));
        let error = close_timed_out(deadline);
        Poll::Ready(failure.take().map_or(error, |failure| failure.error))
    }
}

/// Returns the error for a transport that was given up.
pub(super) fn close_timed_out(deadline: &CloseDeadline) -> Error {
    let error = Error::timeout(format!(
        "the connection was cut: the peer did not take the last answers and the close within {:?} without progress \
         (Server::close_within)",
        deadline.limit()
    ));
    log::close_cut(&error, 0);
    error
}
