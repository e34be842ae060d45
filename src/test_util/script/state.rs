use std::{collections::VecDeque, fmt, task::Poll};

use super::{
    difference::difference,
    steps::{Step, What},
};
use crate::Error;

/// The position in the script: no waker in it.
pub(super) struct State<Out, In> {
    pub(super) steps: VecDeque<Step<Out, In>>,
    /// The number of completed steps.
    pub(super) done: usize,
    /// The number of stalls that are released before they are reached.
    pub(super) releases: usize,
    closed: bool,
    ended: bool,
}

impl<Out, In> State<Out, In> {
    pub(super) fn new(steps: VecDeque<Step<Out, In>>) -> Self {
        Self { steps, done: 0, releases: 0, closed: false, ended: false }
    }

    fn next(&self) -> Option<&What<Out, In>> {
        self.steps.front().map(|step| &step.what)
    }

    fn take(&mut self) -> Option<What<Out, In>> {
        let step = self.steps.pop_front()?;
        self.done += 1;
        self.skip_stalls();
        Some(step.what)
    }

    pub(super) fn skip_stalls(&mut self) {
        while self.releases > 0 && matches!(self.next(), Some(What::Stall)) {
            self.releases -= 1;
            self.steps.pop_front();
            self.done += 1;
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        match (self.closed, self.ended) {
            (true, _) => Err(Error::closed("this end of the scripted transport was closed")),
            (_, true) => Err(Error::closed("the script ended the transport")),
            _ => Ok(()),
        }
    }

    /// Returns the error that the sink must return now.
    fn send_failure(&mut self) -> Result<(), Error> {
        if matches!(self.next(), Some(What::FailSend(_)))
            && let Some(What::FailSend(error)) = self.take()
        {
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn receive(&mut self) -> Poll<Option<Result<In, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if !matches!(self.next(), Some(What::Give(_) | What::FailReceive(_) | What::End)) {
            return Poll::Pending;
        }
        Poll::Ready(match self.take() {
            Some(What::Give(message)) => Some(Ok(message)),
            Some(What::FailReceive(error)) => Some(Err(error)),
            _ => {
                self.ended = true;
                None
            }
        })
    }
}

impl<Out: PartialEq + fmt::Debug, In> State<Out, In> {
    pub(super) fn ready(&mut self) -> Poll<Result<(), Error>> {
        self.send_failure()?;
        self.check_open()?;
        match self.next() {
            // With no step left it is ready, so that surplus messages are detected.
            Some(What::Expect(_)) | None => Poll::Ready(Ok(())),
            Some(_) => Poll::Pending,
        }
    }

    pub(super) fn send(&mut self, message: &Out) -> Result<(), Error> {
        self.check_open()?;
        let number = self.done + 1;
        match self.next() {
            Some(What::Expect(due)) if due == message => {}
            Some(What::Expect(due)) => {
                panic!("the script expected another message, as step {number}:\n{}", difference(due, message))
            }
            Some(_) => panic!(
                "sent without readiness, at step {number} of the script ({}): {message:?}",
                self.steps.front().map_or("", |step| &step.text)
            ),
            None => panic!("sent after the last of the script's {} steps: {message:?}", self.done),
        }
        self.take();
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Poll<Result<(), Error>> {
        self.send_failure()?;
        match self.next() {
            Some(What::Flush) => {
                self.take();
                Poll::Ready(Ok(()))
            }
            Some(What::Stall) if self.steps.get(1).is_some_and(|step| matches!(step.what, What::Flush)) => {
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn close(&mut self) -> Poll<Result<(), Error>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        self.send_failure()?;
        // A close flushes as well.
        if matches!(self.next(), Some(What::Flush)) {
            self.take();
        }
        match self.next() {
            Some(What::Close) => {
                self.take();
            }
            Some(What::Expect(due)) => panic!("closed at step {} of the script, which expects {due:?}", self.done + 1),
            // The peer has closed already, or nothing is left to do.
            None => {}
            Some(_) => return Poll::Pending,
        }
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}
