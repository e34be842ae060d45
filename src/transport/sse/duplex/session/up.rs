//! The POSTs, which fill the inbox. The newest has its turn.

use std::task::Context;

use bytes::Bytes;

use super::{Session, register, wake};
use crate::{
    Error,
    transport::{framing::Decoder, sse::duplex::inbox::Taken},
};

/// A POST that takes its turn.
#[derive(Debug)]
pub(in super::super) struct Turn {
    post: u64,
    /// The number of its next message.
    number: u64,
    decoder: Decoder,
    /// What is read and not decoded.
    pub(in super::super) input: Bytes,
    /// `input` is memory of its own.
    is_copied: bool,
}

/// How far a POST came.
#[derive(Debug)]
pub(in super::super) enum Step {
    /// All that was read is in the inbox, and there is room for more.
    Read,
    /// There is no room; the task is woken when there is.
    Full,
    /// Another POST came after it.
    Superseded,
    /// The session has ended.
    Over,
    /// What the client sent is no message, or too large.
    Bad(Error),
}

impl Turn {
    /// More was read.
    pub(in super::super) fn read(&mut self, input: Bytes) {
        self.input = input;
        self.is_copied = false;
    }

    /// Whether the body may end here.
    pub(in super::super) fn is_whole(&self) -> bool {
        self.decoder.is_between_messages() && self.input.is_empty()
    }
}

impl Session {
    /// Begins a POST whose first message has this number, and ends any other. `Err` has the number that is due, where this one is
    /// beyond it.
    pub(in super::super) fn begin(&self, number: u64) -> Result<Turn, u64> {
        let mut state = self.lock();
        let due = state.inbox.next();
        if number > due {
            return Err(due);
        }
        state.post += 1;
        wake(&mut state.poster);
        let decoder = Decoder::new(self.limits.message);
        Ok(Turn { post: state.post, number, decoder, input: Bytes::new(), is_copied: false })
    }

    /// The number of the message that is due.
    pub(in super::super) fn next(&self) -> u64 {
        self.lock().inbox.next()
    }

    /// Puts what was read into the inbox, as far as there is room.
    pub(in super::super) fn take(&self, turn: &mut Turn, cx: &Context<'_>) -> Step {
        let mut state = self.lock();
        if state.post != turn.post {
            return Step::Superseded;
        }
        let is_over = state.is_left || state.is_cut;
        loop {
            let is_new = turn.number >= state.inbox.next();
            if is_new && !state.inbox.has_room() && !is_over {
                register(&mut state.poster, cx);
                return Step::Full;
            }
            if is_new && !std::mem::replace(&mut turn.is_copied, true) {
                // A small message must not hold the HTTP server's buffer for as long as it waits.
                turn.input = Bytes::copy_from_slice(&turn.input);
            }
            match turn.decoder.next(&mut turn.input) {
                Ok(None) => {
                    register(&mut state.poster, cx);
                    return Step::Read;
                }
                Ok(Some(message)) if is_new && is_over && !state.inbox.passes_over(&message) => return Step::Over,
                Ok(Some(message)) => match state.inbox.take(turn.number, message) {
                    Taken::Late => return Step::Over,
                    Taken::New => {
                        turn.number += 1;
                        wake(&mut state.reader);
                    }
                    Taken::Again | Taken::Passed => turn.number += 1,
                },
                Err(error) => {
                    state.fault.get_or_insert_with(|| error.clone());
                    wake(&mut state.reader);
                    return Step::Bad(error);
                }
            }
        }
    }
}
