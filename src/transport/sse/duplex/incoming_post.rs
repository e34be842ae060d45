//! The POSTs, which fill the inbox. The newest POST has its turn.

use bytes::Bytes;

use super::{
    inbox::Taken,
    locked::{Locked, Waiter},
};
use crate::{Error, transport::framing::Decoder};

/// The maximum number of messages taken under one lock. Duplicates and empty messages cost a peer two bytes each.
const AT_ONCE: usize = 1024;

/// A POST that has its turn.
#[derive(Debug)]
pub(super) struct Turn {
    post: u64,
    /// The number of its next message.
    number: u64,
    decoder: Decoder,
    /// Bytes that were read and not decoded.
    input: Bytes,
    /// The HTTP server's buffer, until it is dropped outside of the lock, since dropping it runs the server's code.
    /// `None` once `input` is memory of its own.
    buffer: Option<Bytes>,
}

/// The progress of a POST.
#[derive(Debug)]
pub(super) enum Step {
    /// All bytes read are in the inbox, and there is room for more.
    Read,
    /// There may be more to take, but the lock was held for long enough.
    Paused,
    /// There is no room. The task is woken when there is.
    Full,
    /// Another POST arrived after this one.
    Superseded,
    /// The session has ended.
    Over,
    /// The client's bytes are not a valid message, or the message is too large.
    Bad(Error),
}

impl Step {
    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::Read | Self::Full)
    }
}

impl Turn {
    /// Begins a POST whose first message has this number.
    pub(super) fn new(post: u64, number: u64, max_message: usize) -> Self {
        Self { post, number, decoder: Decoder::new(max_message), input: Bytes::new(), buffer: None }
    }

    /// Gives the turn the bytes that were read.
    pub(super) fn read(&mut self, input: Bytes) {
        self.buffer = Some(input.clone());
        self.input = input;
    }

    /// Drops the HTTP server's buffer once it is not needed. Call it without the lock: dropping it runs the server's
    /// code.
    pub(super) fn release(&mut self, is_copied: bool) {
        if is_copied || self.input.is_empty() {
            self.buffer = None;
        }
    }

    /// Returns whether the bytes read are memory of its own.
    pub(super) fn is_copied(&self) -> bool {
        self.buffer.is_none()
    }

    /// Returns whether the body may end here.
    pub(super) fn is_whole(&self) -> bool {
        self.decoder.is_between_messages() && self.input.is_empty()
    }

    /// Puts the bytes read into the inbox, as far as there is room.
    pub(super) fn fill(&mut self, state: &mut Locked<'_>, is_copied: &mut bool) -> Step {
        if state.post != self.post {
            return Step::Superseded;
        }
        let is_over = state.is_left || state.is_cut;
        for _ in 0..AT_ONCE {
            let is_new = self.number >= state.inbox.next();
            if is_new && !state.inbox.has_room() && !is_over {
                return Step::Full;
            }
            if is_new && !std::mem::replace(is_copied, true) {
                // A small message must not keep the HTTP server's buffer alive while it waits.
                self.input = Bytes::copy_from_slice(&self.input);
            }
            let taken = match self.decoder.next_unit(&mut self.input) {
                Ok(None) => return Step::Read,
                Ok(Some(unit)) if is_new && is_over && !state.inbox.passes_over(&unit) => return Step::Over,
                Ok(Some(unit)) => state.inbox.take(self.number, unit),
                Err(error) => Err(error),
            };
            match taken {
                Ok(Taken::Late) => return Step::Over,
                Ok(Taken::New) => {
                    self.number += 1;
                    state.wake(Waiter::Reader);
                }
                Ok(Taken::Part | Taken::Again | Taken::Passed) => self.number += 1,
                Err(error) => {
                    state.fault.get_or_insert_with(|| error.clone());
                    state.wake(Waiter::Reader);
                    return Step::Bad(error);
                }
            }
        }
        Step::Paused
    }
}
