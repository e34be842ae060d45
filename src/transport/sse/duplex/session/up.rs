//! The POSTs, which fill the inbox. The newest POST has its turn.

use std::task::Context;

use bytes::Bytes;

use super::{Locked, Session, Who};
use crate::{
    Error,
    transport::{framing::Decoder, sse::duplex::inbox::Taken},
};

/// The maximum number of messages taken under one lock. Duplicates and empty messages cost a peer two bytes each.
const AT_ONCE: usize = 1024;

/// A POST that has its turn.
#[derive(Debug)]
pub(in super::super) struct Turn {
    post: u64,
    /// The number of its next message.
    number: u64,
    decoder: Decoder,
    /// Bytes that were read and not decoded.
    pub(in super::super) input: Bytes,
    /// The HTTP server's buffer, until it is dropped outside of the lock, since dropping it runs the server's code.
    /// `None` once `input` is memory of its own.
    buffer: Option<Bytes>,
}

/// The progress of a POST.
#[derive(Debug)]
pub(in super::super) enum Step {
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
    fn waits(&self) -> bool {
        matches!(self, Self::Read | Self::Full)
    }
}

impl Turn {
    /// Returns whether the body may end here.
    pub(in super::super) fn is_whole(&self) -> bool {
        self.decoder.is_between_messages() && self.input.is_empty()
    }
}

impl Session {
    /// Begins a POST whose first message has this number, and ends any other one. Returns `Err` with the expected
    /// number if this one is beyond it.
    pub(in super::super) fn begin(&self, number: u64) -> Result<Turn, u64> {
        let mut state = self.lock();
        let due = state.inbox.next();
        if number > due {
            return Err(due);
        }
        state.post += 1;
        state.wake(Who::Poster);
        let decoder = Decoder::new(self.limits.message);
        Ok(Turn { post: state.post, number, decoder, input: Bytes::new(), buffer: None })
    }

    /// Returns the number of the next expected message.
    pub(in super::super) fn next(&self) -> u64 {
        self.lock().inbox.next()
    }

    /// Gives the turn the bytes that were read.
    pub(in super::super) fn read(&self, turn: &mut Turn, input: Bytes) {
        self.count_moved(input.len());
        turn.buffer = Some(input.clone());
        turn.input = input;
    }

    /// Puts the bytes read into the inbox, as far as there is room.
    pub(in super::super) fn take(&self, turn: &mut Turn, cx: &Context<'_>) -> Step {
        let mut is_copied = turn.buffer.is_none();
        let step = self.look(Who::Poster, cx, Step::waits, |state| fill(state, turn, &mut is_copied));
        if is_copied || turn.input.is_empty() {
            turn.buffer = None;
        }
        step
    }
}

fn fill(state: &mut Locked<'_>, turn: &mut Turn, is_copied: &mut bool) -> Step {
    if state.post != turn.post {
        return Step::Superseded;
    }
    let is_over = state.is_left || state.is_cut;
    for _ in 0..AT_ONCE {
        let is_new = turn.number >= state.inbox.next();
        if is_new && !state.inbox.has_room() && !is_over {
            return Step::Full;
        }
        if is_new && !std::mem::replace(is_copied, true) {
            // A small message must not keep the HTTP server's buffer alive while it waits.
            turn.input = Bytes::copy_from_slice(&turn.input);
        }
        let taken = match turn.decoder.next_unit(&mut turn.input) {
            Ok(None) => return Step::Read,
            Ok(Some(unit)) if is_new && is_over && !state.inbox.passes_over(&unit) => return Step::Over,
            Ok(Some(unit)) => state.inbox.take(turn.number, unit),
            Err(error) => Err(error),
        };
        match taken {
            Ok(Taken::Late) => return Step::Over,
            Ok(Taken::New) => {
                turn.number += 1;
                state.wake(Who::Reader);
            }
            Ok(Taken::Part | Taken::Again | Taken::Passed) => turn.number += 1,
            Err(error) => {
                state.fault.get_or_insert_with(|| error.clone());
                state.wake(Who::Reader);
                return Step::Bad(error);
            }
        }
    }
    Step::Paused
}
