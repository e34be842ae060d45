//! Inflates incoming messages within limits. Pure: no I/O.

use bytes::Bytes;
use flate2::{Decompress, DecompressError, FlushDecompress, Status};

use super::{
    Deflate, Stats,
    wire::{self, Kind},
};
use crate::{
    CloseCode, Error, Message, Text,
    zlib::{self, FLUSHED, SCRATCH},
};

/// The room beyond a message with which zlib stays on its fast path to the end: the longest match.
const SPARE: usize = 300;

const TOO_MUCH: &str = "it holds more than it says";

/// The incoming direction of one connection.
#[derive(Debug, Default)]
pub(super) struct Inflater {
    /// The messages received so far, if the context is kept: created for the first message that needs it.
    context: Option<Box<Decompress>>,
}

/// A message that cannot be delivered.
pub(super) struct Refused {
    pub(super) error: Error,
    /// The code with which the transport is closed if no later message could be inflated.
    pub(super) is_final: Option<CloseCode>,
}

impl Inflater {
    /// Returns whether a message is certainly as the peer's user sent it.
    #[inline]
    pub(super) fn passes(message: &Message) -> bool {
        match message {
            Message::Binary(payload) => !wire::may_be_marked(payload),
            _ => true,
        }
    }

    /// Returns the message as the peer's user sent it.
    pub(super) fn decode(&mut self, message: Message, deflate: &Deflate, stats: &Stats) -> Result<Message, Refused> {
        // Inspected in place: cutting off the mark would cost an allocation.
        let (code, marked) = match &message {
            Message::Binary(payload) => match wire::open(payload) {
                Some(opened) => opened,
                None => return Ok(wire::plain(message)),
            },
            _ => return Ok(message),
        };
        let refused = |error: Error, is_final: Option<CloseCode>| {
            stats.count_refused();
            // Without a code the stream goes on with the next message.
            let error = if is_final.is_some() { error.into_fatal() } else { error.into_rejection() };
            Refused { error, is_final }
        };
        // The mark alone can rule a message out. This is checked before a byte is inflated, because inflating is the
        // part that a peer can make expensive.
        if !deflate.inflates {
            let error = "the peer sent a compressed message, though the two ends have not agreed on compression: it is \
                         not inflated";
            return Err(refused(Error::protocol(error), None));
        }
        let Some(kind) = Kind::from_code(code) else {
            let error = format!("an incoming message is compressed in a way that is not known here: kind {code}");
            return Err(refused(Error::protocol(error), None));
        };
        if kind.is_kept && !deflate.keep_context {
            let error = "the peer keeps its compression context, and this end does not: set `Deflate::keep_context` on \
                         both ends";
            return Err(refused(Error::protocol(error), Some(CloseCode::PROTOCOL)));
        }
        match self.inflate(kind, marked, deflate) {
            Ok(inflated) => {
                stats.count_received(inflated.len(), message.len());
                Ok(inflated)
            }
            // Without a kept context each message stands alone, and the next one is as good as before. With one, the
            // window lacks this message, so no later one can be trusted.
            Err(error) => {
                let code = if error.is_too_large() { CloseCode::TOO_BIG } else { CloseCode::INVALID_PAYLOAD };
                Err(refused(error, kind.is_kept.then_some(code)))
            }
        }
    }

    fn inflate(&mut self, kind: Kind, marked: &[u8], deflate: &Deflate) -> Result<Message, Error> {
        let (data, length) = wire::split(marked).ok_or_else(|| bad("it is shorter than its mark says", None))?;
        let length = check(length, data.len(), deflate)?;
        let plain = if kind.is_kept {
            let context = self.context.get_or_insert_with(|| Box::new(zlib::new_decompress()));
            inflate(context, data, length, true)?
        } else {
            zlib::with_inflater(|state| inflate(state, data, length, false))?
        };
        if !kind.is_text {
            return Ok(Message::Binary(plain.into()));
        }
        let text = Text::try_from(Bytes::from(plain));
        text.map(Message::Text)
            .map_err(|error| Error::codec("an incoming compressed text is not UTF-8").with_source(error))
    }
}

/// Returns the claimed length if it is within the limits. Nothing is inflated or allocated before.
fn check(length: u32, compressed: usize, deflate: &Deflate) -> Result<usize, Error> {
    let limit = deflate.max_inflated;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !deflate.may_inflate(length) {
        return Err(Error::too_large(format!(
            "an incoming message of {length} bytes (compressed: {compressed}) is over the limit of {limit} bytes for \
             what is inflated: raise `Deflate::max_inflated`, or let the peer send smaller messages"
        )));
    }
    if !deflate.is_sound(length, compressed) {
        return Err(Error::too_large(format!(
            "an incoming message claims to inflate from {compressed} to {length} bytes, over the limit of {} to 1: \
             raise `Deflate::max_ratio` if the peer is to be trusted with that",
            deflate.max_ratio
        )));
    }
    Ok(length)
}

/// Inflates `data` to exactly `length` bytes, in memory of that size.
fn inflate(state: &mut Decompress, data: &[u8], length: usize, keep: bool) -> Result<Vec<u8>, Error> {
    if length <= SCRATCH {
        // With spare room, zlib saves more time than the copy costs.
        return zlib::with_buffer(|scratch| {
            scratch.reserve_exact(length + SPARE);
            run(state, data, length, keep, scratch)?;
            Ok(scratch.as_slice().to_vec())
        });
    }
    // Exactly what was announced and checked, so a message that lies about its length cannot make it grow.
    let mut plain = Vec::with_capacity(length);
    run(state, data, length, keep, &mut plain)?;
    Ok(plain)
}

/// Inflates into the capacity of `out`, to exactly `length` bytes.
fn run(state: &mut Decompress, data: &[u8], length: usize, keep: bool, out: &mut Vec<u8>) -> Result<(), Error> {
    let before = state.total_in();
    let mut status = state.decompress_vec(data, out, FlushDecompress::Sync).map_err(invalid)?;
    let read = usize::try_from(state.total_in() - before).unwrap_or(usize::MAX);
    match out.len() {
        given if given < length => return Err(bad("it holds less than it says, so it was cut", None)),
        given if given > length => return Err(bad(TOO_MUCH, None)),
        _ => {}
    }
    let rest = data.get(read..).unwrap_or_default();
    if !rest.is_empty() {
        if status == Status::StreamEnd {
            return Err(bad("something follows its last block", None));
        }
        // There was no room left, so the remaining data may only be the end of a block.
        status = finish(state, rest)?;
    }
    if keep {
        // The sender leaves out the end of its flush, which is the same for each message. The window needs it: without
        // it, the next message would begin in the middle of a block.
        if status != Status::StreamEnd {
            status = finish(state, &FLUSHED)?;
        }
        if status == Status::StreamEnd {
            // The peer starts a new context.
            state.reset(false);
        }
    }
    Ok(())
}

/// Reads data that must not produce more output.
fn finish(state: &mut Decompress, rest: &[u8]) -> Result<Status, Error> {
    // One byte of room, so that output is noticed, not only a lack of room.
    let (read, written) = (state.total_in(), state.total_out());
    let status = state.decompress(rest, &mut [0], FlushDecompress::Sync).map_err(invalid)?;
    if state.total_out() != written {
        return Err(bad(TOO_MUCH, None));
    }
    if state.total_in() - read != rest.len() as u64 {
        return Err(bad("something follows its last block", None));
    }
    Ok(status)
}

fn invalid(error: DecompressError) -> Error {
    bad("it is not deflate data", Some(error))
}

fn bad(why: &str, source: Option<DecompressError>) -> Error {
    let error = Error::codec(format!("an incoming compressed message cannot be inflated: {why}"));
    match source {
        Some(source) => error.with_source(source),
        None => error,
    }
}
