//! The POSTs, which fill the inbox. The newest has its turn.

use std::task::Context;

use bytes::Bytes;

use super::{Locked, Session, Who};
use crate::{
    Error,
    transport::{framing::Decoder, sse::duplex::inbox::Taken},
};

/// How many messages are taken under one lock. Those that came before, and the empty ones, cost a peer two bytes each.
const AT_ONCE: usize = 1024;

/// A POST that takes its turn.
#[derive(Debug)]
pub(in super::super) struct Turn {
    post: u64,
    /// The number of its next message.
    number: u64,
    decoder: Decoder,
    /// What is read and not decoded.
    pub(in super::super) input: Bytes,
    /// The HTTP server's buffer, until it is let go of outside of the lock: dropping it is the server's own business. `None` once `input`
    /// is memory of its own.
    buffer: Option<Bytes>,
}

/// How far a POST came.
#[derive(Debug)]
pub(in super::super) enum Step {
    /// All that was read is in the inbox, and there is room for more.
    Read,
    /// There may be more to take, and the lock was held for long enough.
    Paused,
    /// There is no room; the task is woken when there is.
    Full,
    /// Another POST came after it.
    Superseded,
    /// The session has ended.
    Over,
    /// What the client sent is no message, or too large.
    Bad(Error),
}

impl Step {
    fn waits(&self) -> bool {
        matches!(self, Self::Read | Self::Full)
    }
}

impl Turn {
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
        state.wake(Who::Poster);
        let decoder = Decoder::new(self.limits.message);
        Ok(Turn { post: state.post, number, decoder, input: Bytes::new(), buffer: None })
    }

    /// The number of the message that is due.
    pub(in super::super) fn next(&self) -> u64 {
        self.lock().inbox.next()
    }

    /// Hands the turn what was read.
    pub(in super::super) fn read(&self, turn: &mut Turn, input: Bytes) {
        self.count_moved(input.len());
        turn.buffer = Some(input.clone());
        turn.input = input;
    }

    /// Puts what was read into the inbox, as far as there is room.
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
            // A small message must not hold the HTTP server's buffer for as long as it waits.
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
