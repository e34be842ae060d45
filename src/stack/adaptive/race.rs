//! The engine: staggered attempts in one future, as RFC 8305 (section 5) staggers addresses. Nothing is spawned.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, header};

use super::{
    Decision, Reason, TransportKind,
    attempt::Attempt,
    endpoints::Endpoint,
    memory::LastOutcome,
    plan::Plan,
    policy::{Diagnosis, Effect, Scope, diagnose, objects, weight},
};
use crate::{
    Error,
    layer::reconnect::{Class, classify},
    rt::Timer,
    threads::dyn_send,
};

/// How much longer UDP may be silent after the server has answered over TCP, even if only to refuse. The first value
/// leaves time for the loss of a first packet (RFC 9002, section 6.2.2: 1 s) and the second packet. The second value
/// applies if UDP was dead or blocked recently.
const SILENCE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(1));

/// The future of one transport.
pub(super) type Dialing<T> = Pin<Box<dyn_send!(Future<Output = Result<Response<T>, Error>>)>>;

/// Creates the transport of each kind.
pub(super) trait Dial {
    /// The type that all kinds produce.
    type Transport;

    fn dial(&self, kind: TransportKind, request: Request<()>) -> Dialing<Self::Transport>;
}

/// One attempt. The first transport starts immediately. Each following one starts when the head start of the previous
/// one is over, or at once if that one fails. The first transport to connect wins, and the others are dropped.
pub(super) struct Race<D: Dial> {
    dial: D,
    attempt: Attempt,
    plan: Plan,
    head_start: Duration,
    /// Fires when the head start is over, or when UDP was silent for long enough.
    timer: Timer,
    waiting: Vec<(TransportKind, Request<()>)>,
    running: Vec<(TransportKind, Dialing<D::Transport>)>,
    failures: Failures,
    /// Whether the next transport must be started.
    wants_more: bool,
}

/// The outcome of one transport.
type Done<T> = (TransportKind, Result<Response<T>, Error>);

/// The outcome of a race.
pub(super) type Outcome<T> = Result<(TransportKind, Response<T>), Error>;

impl<D: Dial> Race<D> {
    /// Creates a race over `endpoints`, in the order in which they are tried. Each gets a clone of `request` with its
    /// own URI.
    pub(super) fn new(
        dial: D,
        attempt: Attempt,
        endpoints: Vec<Endpoint>,
        request: &Request<()>,
        head_start: Duration,
    ) -> Self {
        let plan = Plan::new(endpoints.iter().map(|endpoint| endpoint.candidate.clone()));
        let to = |endpoint: Endpoint| {
            let mut request = request.clone();
            *request.uri_mut() = endpoint.uri;
            (endpoint.candidate.kind, request)
        };
        Self {
            dial,
            attempt,
            plan,
            head_start,
            timer: Timer::new(),
            waiting: endpoints.into_iter().map(to).collect(),
            running: Vec::new(),
            failures: Failures::default(),
            wants_more: true,
        }
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    fn start(&mut self) {
        self.wants_more = false;
        let Some(kind) = self.plan.start() else { return };
        let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == kind) else { return };
        // The order is the plan's, so this list need not keep one.
        let (_, request) = self.waiting.swap_remove(at);
        self.running.push((kind, self.dial.dial(kind, request)));
        self.attempt.report(Decision::Started { kind, after: self.attempt.age() });
        if self.plan.has_more() { self.timer.set(self.head_start) } else { self.watch_the_last() }
    }

    fn failed(&mut self, kind: TransportKind, error: Error) {
        let diagnosis = diagnose(kind, &error);
        let (reason, after) = (diagnosis.reason, self.attempt.age());
        let observations = &self.attempt.observations;
        // Remembered although the attempt may succeed by another transport: a later attempt knows how long to wait
        // for UDP.
        observations.memory.lock().failed(&self.attempt.origin, kind, reason, observations.now());
        // Those that would fail in the same way are cut now: their answers could only delay the error.
        let dropped = self.plan.failed(kind, diagnosis.effect);
        self.running.retain(|(running, _)| !dropped.contains(running));
        self.failures.push(kind, diagnosis, error.clone());
        self.attempt.report(match diagnosis.effect {
            Effect::FallBack | Effect::Stop(Scope::Plaintext) => Decision::FellBack { kind, reason, error, after },
            Effect::Stop(_) => Decision::Stopped { kind, reason, error, after },
        });
        // The next transport does not wait for the rest of the head start.
        self.wants_more = true;
        if !self.plan.has_more() {
            self.watch_the_last();
        }
    }

    /// No transport is left to start: no head start runs, and UDP may not be silent for long if TCP has brought an
    /// answer.
    fn watch_the_last(&mut self) {
        self.timer.clear();
        if matches!(*self.running, [(TransportKind::WebTransport, _)]) && self.failures.have_answer() {
            self.timer.set(self.silence());
        }
    }

    /// Returns how long UDP may still be silent.
    fn silence(&self) -> Duration {
        let Attempt { observations, origin, .. } = &self.attempt;
        let (memory, now) = (observations.memory.lock(), observations.now());
        match memory.last(origin, TransportKind::WebTransport, now) {
            Some(LastOutcome::Failed(Reason::PathDead | Reason::UdpBlocked, ago)) if memory.is_recent(ago) => SILENCE.1,
            _ => SILENCE.0,
        }
    }

    /// Handles the timer: starts the next transport or gives up on UDP.
    fn timer_fired(&mut self) {
        if self.plan.has_more() {
            self.wants_more = true;
        } else if let Some((kind, _)) = self.running.pop() {
            self.failed(kind, Error::timeout("nothing came back over UDP, although the server answered over TCP"));
        }
    }

    fn won(&mut self, kind: TransportKind, response: &Response<D::Transport>) {
        // Dropped before the connection is returned, so that the losers do not hold sockets for its whole life.
        self.running.clear();
        self.waiting.clear();
        let chosen = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|chosen| chosen.to_str().ok());
        let observations = &self.attempt.observations;
        observations.memory.lock().worked(&self.attempt.origin, kind, chosen, observations.now());
        self.attempt.report(Decision::Connected { kind, after: self.attempt.age() });
    }

    fn fail(&mut self) -> Error {
        let error = std::mem::take(&mut self.failures).into_error();
        self.attempt.report(Decision::Failed { error: error.clone(), after: self.attempt.age() });
        error
    }

    /// Polls the transports in progress, the first started first, and returns the outcome of the first one that is
    /// done.
    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<Done<D::Transport>> {
        for (at, (_, dialing)) in self.running.iter_mut().enumerate() {
            if let Poll::Ready(result) = dialing.as_mut().poll(cx) {
                let (kind, _) = self.running.remove(at);
                return Poll::Ready((kind, result));
            }
        }
        Poll::Pending
    }
}

impl<D: Dial + Unpin> Future for Race<D> {
    type Output = Outcome<D::Transport>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if this.wants_more {
                this.start();
            }
            match this.poll_running(cx) {
                Poll::Ready((kind, Ok(response))) => {
                    this.won(kind, &response);
                    return Poll::Ready(Ok((kind, response)));
                }
                Poll::Ready((kind, Err(error))) => this.failed(kind, error),
                // Nothing runs and nothing is left to start, so nothing would wake this future.
                Poll::Pending if this.plan.is_over() => return Poll::Ready(Err(this.fail())),
                Poll::Pending => {
                    // After the transports: one that is ready at the same moment wins over the start of another.
                    std::task::ready!(this.timer.poll(cx));
                    this.timer_fired();
                }
            }
        }
    }
}

/// The failures of one attempt so far.
#[derive(Debug, Default)]
struct Failures(Vec<Failure>);

#[derive(Debug)]
struct Failure {
    kind: TransportKind,
    diagnosis: Diagnosis,
    error: Error,
}

impl Failures {
    fn push(&mut self, kind: TransportKind, diagnosis: Diagnosis, error: Error) {
        self.0.push(Failure { kind, diagnosis, error });
    }

    /// Returns whether the server, or a proxy in front of it, has answered, even if only to refuse.
    fn have_answer(&self) -> bool {
        self.0.iter().any(|failure| {
            let reason = failure.diagnosis.reason;
            failure.kind != TransportKind::WebTransport
                && matches!(reason, Reason::UpgradeRefused | Reason::Tls | Reason::Cut)
        })
    }

    /// Combines all failures into one error. Its source, kind and status are those of the failure that the caller can
    /// do most about; its message names each failure, that one first. The failure with the greatest weight decides
    /// whether another attempt is worthwhile, and when.
    fn into_error(mut self) -> Error {
        let weigh = |failure: &Failure| weight(failure.diagnosis, &failure.error);
        // Stable: of equal failures, the earlier one comes first.
        self.0.sort_by_key(|failure| std::cmp::Reverse(weigh(failure)));
        let decides = self.0.first().map(|Failure { error, .. }| (classify(error), error.retry_after()));
        // A failure that stopped the attempt concerns all transports, so it goes first.
        let stops =
            |failure: &Failure| matches!(failure.diagnosis.effect, Effect::Stop(scope) if scope != Scope::Plaintext);
        self.0.sort_by_key(|failure| !stops(failure) && !objects(&failure.error));
        let each: Vec<_> = self.0.iter().map(|Failure { kind, error, .. }| format!("{kind}: {error}")).collect();
        let (Some((class, retry_after)), Some(Failure { error, .. })) = (decides, self.0.into_iter().next()) else {
            return Error::config("no transport is available: all are switched off or require TLS (https://)");
        };
        let (was, had) = (classify(&error), error.retry_after());
        let mut error = error.context(format!("no transport connected; {}", each.join("; ")));
        if class != Class::Final && was == Class::Final {
            error = error.into_temporary();
        }
        match retry_after {
            Some(time) if had.is_none() => error.with_retry_after(time),
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests;
