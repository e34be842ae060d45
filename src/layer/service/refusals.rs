use std::{collections::VecDeque, task::Context};

use crate::{Error, transport::wakers::WakerSlot};

/// The maximum number of refusals of outgoing messages that wait to be read from the stream.
pub const MAX_REFUSALS: usize = 64;

/// The reason why handing over stopped.
pub(super) enum Stop {
    /// One message was refused; the rest can go on.
    Refused(Error),
    /// The inner transport has failed.
    Broken(Error),
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(error) | Stop::Broken(error) => error,
        }
    }
}

/// Routes the errors of refused messages. Pure.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    to_stream: bool,
    /// Whether the stream has ended: from then on the sink returns the errors.
    ended: bool,
    waiting: VecDeque<Error>,
    reader: WakerSlot,
    count: u64,
}

impl Refusals {
    pub(super) fn new(to_stream: bool) -> Self {
        Self { to_stream, ..Self::default() }
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Records a refusal. A returned error is for the sink's caller.
    pub(super) fn refuse(&mut self, error: Error) -> Result<(), Error> {
        self.count += 1;
        let error = error.context("an outgoing message was refused");
        if !self.to_stream || self.ended {
            return Err(error);
        }
        if self.waiting.len() < MAX_REFUSALS {
            // So that layers above do not take it for an incoming message's.
            self.waiting.push_back(error.into_unsent());
        }
        self.reader.wake();
        Ok(())
    }

    /// Returns the next refusal for the stream.
    pub(super) fn next(&mut self) -> Option<Error> {
        self.waiting.pop_front()
    }

    /// Registers the pending stream to be woken by a refusal.
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        if self.to_stream {
            self.reader.register(cx);
        }
    }

    /// Records that the stream has ended.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }
}
