use std::{future::Future, task::Context};

use super::correlate::Respond;
use crate::{Error, in_flight::InFlight, threads::dyn_shared};

/// The requests of a server that are in flight, and their answers in the order in which they are sent.
pub(super) struct Answers<F, R, Req, Res>
where
    R: Respond<Req, Res>,
{
    respond: R,
    in_flight: InFlight<F, R::Tag, Res>,
    on_rejected: Option<OnRejected<R::Tag, Res>>,
    /// The answer that replaces a rejected one. It is the next to go, which keeps the order.
    substitute: Option<R::Out>,
}

/// Makes an answer of the error with which the transport rejected one.
pub(super) struct OnRejected<Tag, Res> {
    pub(super) copy: fn(&Tag) -> Tag,
    pub(super) answer: Box<dyn_shared!(Fn(&Error) -> Res)>,
}

impl<F, R, Req, Res, E> Answers<F, R, Req, Res>
where
    F: Future<Output = Result<Res, E>>,
    R: Respond<Req, Res>,
{
    pub(super) fn new(respond: R) -> Self {
        Self { respond, in_flight: InFlight::new(R::IN_ORDER), on_rejected: None, substitute: None }
    }

    pub(super) fn on_rejected(&mut self, hook: OnRejected<R::Tag, Res>) {
        self.on_rejected = Some(hook);
    }

    pub(super) fn request(&mut self, message: R::In) -> (R::Tag, Req) {
        self.respond.request(message)
    }

    /// Adds the future of a request and polls it.
    pub(super) fn push(&mut self, tag: R::Tag, future: F) -> Result<(), E> {
        self.in_flight.push(tag, future)
    }

    /// Polls the futures that were woken. Returns whether there were any.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Result<bool, E> {
        self.in_flight.poll(cx)
    }

    /// Returns the number of requests whose answers the transport has not accepted.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len() + usize::from(self.substitute.is_some())
    }

    /// Returns whether an answer can be sent now.
    pub(super) fn has_next(&self) -> bool {
        self.substitute.is_some() || self.in_flight.front().is_some()
    }

    /// Returns the next answer, and its tag if it can be replaced.
    pub(super) fn next(&mut self) -> Option<(R::Out, Option<R::Tag>)> {
        if let Some(answer) = self.substitute.take() {
            return Some((answer, None));
        }
        let (tag, answer) = self.in_flight.pop()?;
        let spare = self.on_rejected.as_ref().map(|hook| (hook.copy)(&tag));
        Some((self.respond.answer(tag, answer), spare))
    }

    /// Replaces a rejected answer by one that is made of the error. Returns `false` if the answer cannot be replaced.
    pub(super) fn replace(&mut self, tag: Option<R::Tag>, error: &Error) -> bool {
        if let (Some(tag), Some(hook)) = (tag, &self.on_rejected) {
            self.substitute = Some(self.respond.answer(tag, (hook.answer)(error)));
            return true;
        }
        false
    }

    /// Drops all requests in flight and their answers.
    pub(super) fn clear(&mut self) {
        self.in_flight.clear();
        self.substitute = None;
    }
}
