use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;

use super::{AdaptiveTransport, dial::Connectors, race::Race, shared::Session};
use crate::{Error, stack::unusable::Unusable};

/// The future of an [`AdaptiveConnector`](super::AdaptiveConnector): one attempt, including every connect in progress.
///
/// Dropping this future cancels all of them.
#[must_use = "futures do nothing unless awaited"]
pub struct AdaptiveConnecting(State);

enum State {
    Race(Box<Race<Connectors>>),
    /// The attempt could not begin, or the future is done.
    Failed(Error),
}

impl AdaptiveConnecting {
    pub(super) fn new(race: Result<Race<Connectors>, Error>) -> Self {
        Self(race.map_or_else(State::Failed, |race| State::Race(Box::new(race))))
    }
}

impl Future for AdaptiveConnecting {
    type Output = Result<Response<AdaptiveTransport>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let race = match &mut self.0 {
            State::Race(race) => race,
            State::Failed(error) => return Poll::Ready(Err(error.clone())),
        };
        let outcome = ready!(Pin::new(&mut **race).poll(cx));
        let attempt = race.attempt().clone();
        self.0 = State::Failed(Error::closed("polled after the connection was made"));
        let (kind, response) = outcome?;
        let session = Session::new(attempt, kind);
        let mut response = response.map(|transport| transport.watched_by(session.clone()));
        response.extensions_mut().insert(kind);
        let (told, disowned) = (session.clone(), session.clone());
        response.extensions_mut().insert(Unusable::new(move |error| told.died(error), move || disowned.disown()));
        response.extensions_mut().insert(session);
        Poll::Ready(Ok(response))
    }
}

impl fmt::Debug for AdaptiveConnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveConnecting").finish_non_exhaustive()
    }
}
