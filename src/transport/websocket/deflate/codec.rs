//! The messages of one connection with permessage-deflate (RFC 7692, section 7.2). Pure: no I/O.

use std::mem;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::{
    PerMessageDeflate,
    negotiation::{Agreed, Direction, MIN_WINDOW_BITS},
    prepared,
};
use crate::{
    CloseCode, Error, Message, Text,
    message::trailer::{self, Layer},
    transport::websocket::frame_loop::{Failure, not_utf8, violation},
    zlib::{self, Deflater, FLUSHED, Level, SCRATCH},
};

/// The room beyond a message with which zlib stays on its fast path to the end: the longest match.
const SPARE: usize = 300;

/// The number of bytes by which a message may grow and still be sent compressed, if its context is kept. Otherwise
/// messages that are too small to shrink would end the context, and those after them could not refer to it.
const GROWTH: usize = 64;

/// The maximum number of deflate streams in one message. A block with `BFINAL` ends a stream, and starting another one
/// costs more than a block.
const STREAMS: u32 = 1024;

/// The state of the extension on one connection.
#[derive(Debug)]
pub(crate) struct PerMessage {
    config: PerMessageDeflate,
    agreed: Agreed,
    is_client: bool,
    /// The server's answer.
    parameters: Box<str>,
    /// With context takeover: created for the first message that needs it.
    deflater: Option<Deflater>,
    inflater: Option<Decompress>,
}

impl PerMessage {
    pub(super) fn new(config: PerMessageDeflate, agreed: Agreed, is_client: bool, parameters: &str) -> Self {
        Self { config, agreed, is_client, parameters: parameters.into(), deflater: None, inflater: None }
    }

    /// Returns what the server answered.
    pub(crate) fn parameters(&self) -> &str {
        &self.parameters
    }

    fn own(&self) -> Direction {
        if self.is_client { self.agreed.client } else { self.agreed.server }
    }

    fn peers(&self) -> Direction {
        if self.is_client { self.agreed.server } else { self.agreed.client }
    }

    /// Returns the payload of an outgoing data message, compressed. Returns `None` if the message is sent as it is.
    pub(crate) fn compress(&mut self, message: &Message) -> Option<Bytes> {
        if message.len() < self.config.min_size {
            return None;
        }
        let payload = match message {
            // Already compressed, by the layer.
            Message::Binary(bytes)
                if trailer::kind(Layer::Compression, bytes).is_some_and(|kind| kind != trailer::PLAIN) =>
            {
                return None;
            }
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.as_bytes(),
            _ => return None,
        };
        let own = self.own();
        // Data can be compressed to a window of 8 bits, but not by zlib. Uncompressed messages are always valid.
        let is_off = payload.is_empty() || self.config.level == Level::NONE || own.window_bits < MIN_WINDOW_BITS;
        if is_off || self.config.compress_if.as_ref().is_some_and(|wants| !wants(message)) {
            return None;
        }
        let alone = |level, window_bits| {
            zlib::with_deflater(level, window_bits, |deflater| {
                deflater.compress(payload, &[], |size| size < payload.len())
            })
        };
        if let Some(prepared) = prepared::find(payload) {
            // The message is not in this end's context. The peer's window moves on by it, so nothing before it can be
            // referred to.
            if let Some(deflater) = &mut self.deflater {
                deflater.reset();
            }
            return prepared.compressed(self.config.level, own.window_bits, alone);
        }
        if !own.takes_over {
            return alone(self.config.level, own.window_bits);
        }
        let deflater = self.deflater.get_or_insert_with(|| Deflater::new(self.config.level, own.window_bits));
        let compressed = deflater.compress(payload, &[], |size| size < payload.len() + GROWTH);
        if compressed.is_none() {
            // Sent as it is, the message is not in the peer's context.
            deflater.reset();
        }
        compressed
    }

    /// Returns an incoming message of at most `limit` bytes that was compressed.
    pub(crate) fn inflate(&mut self, payload: &[u8], is_text: bool, limit: usize) -> Result<Message, Failure> {
        let inflated = self.inflate_payload(payload, limit).map_err(|fault| match fault {
            Fault::TooLarge => {
                let error = Error::too_large(format!(
                    "an incoming message of {} bytes inflates to more than the limit of {limit} bytes; raise \
                     `Limits::message`, or send less at once",
                    payload.len()
                ));
                Failure(error, Some(CloseCode::TOO_BIG))
            }
            Fault::Invalid(why) => violation(format_args!("a compressed message cannot be inflated: {why}")),
        })?;
        if !is_text {
            return Ok(Message::Binary(inflated));
        }
        Text::try_from(inflated).map(Message::Text).map_err(|_| not_utf8())
    }

    fn inflate_payload(&mut self, payload: &[u8], limit: usize) -> Result<Bytes, Fault> {
        if self.peers().takes_over {
            inflate(self.inflater.get_or_insert_with(zlib::new_decompress), payload, limit)
        } else {
            zlib::with_inflater(|state| inflate(state, payload, limit))
        }
    }
}

/// Why a compressed message cannot be inflated.
#[derive(Debug)]
enum Fault {
    /// It inflates to more than the limit.
    TooLarge,
    /// It is not deflate data.
    Invalid(Box<dyn std::error::Error + Send + Sync>),
}

fn inflate(state: &mut Decompress, payload: &[u8], limit: usize) -> Result<Bytes, Fault> {
    zlib::with_buffer(|buffer| {
        let most = limit.saturating_add(SPARE);
        buffer.reserve_exact((SCRATCH + SPARE).min(most));
        let result = run(state, payload, limit, most, buffer);
        if buffer.capacity() <= SCRATCH + 2 * SPARE {
            return result.map(|()| Bytes::copy_from_slice(buffer));
        }
        // The thread must not keep a large buffer, whatever came of the message.
        let mut own = mem::take(buffer);
        result?;
        own.shrink_to_fit();
        Ok(own.into())
    })
}

/// Inflates to the end of `out`, which grows to at most `most` bytes, as its content does.
fn run(state: &mut Decompress, payload: &[u8], limit: usize, most: usize, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut streams = 0;
    // The sender leaves out the end of its flush (RFC 7692, section 7.2.1).
    for (mut input, is_payload) in [(payload, true), (&FLUSHED[..], false)] {
        loop {
            if out.len() == out.capacity() {
                out.reserve_exact(most.min(out.len() * 2) - out.len());
            }
            let before = (state.total_in(), out.len());
            let status = state
                .decompress_vec(input, out, FlushDecompress::Sync)
                .map_err(|error| Fault::Invalid(error.into()))?;
            if out.len() > limit {
                return Err(Fault::TooLarge);
            }
            let read = state.total_in() - before.0;
            let is_stuck = read == 0 && out.len() == before.1;
            input = usize::try_from(read).ok().and_then(|read| input.get(read..)).unwrap_or_default();
            if status == Status::StreamEnd {
                streams += 1;
                if streams == STREAMS {
                    return Err(Fault::Invalid(format!("it consists of more than {STREAMS} streams").into()));
                }
                state.reset(false);
                if input.is_empty() {
                    // A message that ends with its stream has no flush.
                    if is_payload {
                        return Ok(());
                    }
                    break;
                }
            } else if input.is_empty() && out.len() < out.capacity() {
                break;
            } else if is_stuck && out.len() < out.capacity() {
                return Err(Fault::Invalid("its data does not go on".into()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn end(config: PerMessageDeflate, takes_over: bool, window_bits: u8, is_client: bool) -> PerMessage {
        let direction = Direction { takes_over, window_bits };
        PerMessage::new(config.min_size(0), Agreed { server: direction, client: direction }, is_client, "")
    }

    fn pair(takes_over: bool, window_bits: u8) -> (PerMessage, PerMessage) {
        let end = |is_client| end(PerMessageDeflate::new(), takes_over, window_bits, is_client);
        (end(true), end(false))
    }

    fn inflated(payload: &[u8]) -> Result<Bytes, Fault> {
        pair(false, 15).1.inflate_payload(payload, LIMIT)
    }

    /// Random data, repetitions, and both.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            (any::<u8>(), 0..70_000usize).prop_map(|(byte, len)| vec![byte; len]),
            (0..40usize).prop_map(|times| b"{\"symbol\":\"ACME\",\"price\":101.25}".repeat(times)),
            (any::<u32>(), 0..5000usize).prop_map(|(seed, len)| noise(seed, len)),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    fn noise(mut seed: u32, len: usize) -> Vec<u8> {
        let byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        std::iter::repeat_with(byte).take(len).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_one_end_compresses_the_other_inflates(
            payloads in prop::collection::vec((payload(), any::<bool>(), any::<bool>()), 1..8),
            takes_over in any::<bool>(),
            window_bits in 9..=15_u8,
            level in 0..=9_u8,
            is_client in any::<bool>(),
        ) {
            let config = PerMessageDeflate::new().level(Level::try_from(level).unwrap());
            let mut here = end(config.clone(), takes_over, window_bits, is_client);
            let mut there = end(config, takes_over, window_bits, !is_client);
            for (payload, is_prepared, is_repeated) in payloads {
                let mut message = Message::binary(payload);
                if is_prepared {
                    message = message.into_prepared();
                }
                for _ in 0..1 + usize::from(is_repeated) {
                    let compressed = here.compress(&message);
                    prop_assert!(!(message.is_empty() && compressed.is_some()));
                    if let Some(compressed) = compressed {
                        prop_assert!(compressed.len() < message.len() + GROWTH);
                        let inflated = there.inflate_payload(&compressed, LIMIT).unwrap();
                        prop_assert_eq!(Message::Binary(inflated), message.clone());
                    }
                }
            }
        }

        #[test]
        fn random_data_never_panics_and_stays_within_the_limit(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5),
            limit in 0..1000usize,
            takes_over in any::<bool>(),
        ) {
            let (_, mut server) = pair(takes_over, 15);
            for payload in payloads {
                if let Ok(inflated) = server.inflate_payload(&payload, limit) {
                    prop_assert!(inflated.len() <= limit);
                }
            }
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_understood() {
        // RFC 7692, sections 7.2.3.1 to 7.2.3.5.
        let (_, mut server) = pair(true, 15);
        assert_eq!(server.inflate_payload(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], LIMIT).unwrap(), "Hello");
        assert_eq!(server.inflate_payload(&[0xf2, 0x00, 0x11, 0x00, 0x00], LIMIT).unwrap(), "Hello");
        // A stored block.
        assert_eq!(inflated(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00]).unwrap(), "Hello");
        // A block with BFINAL, and without the byte that should follow it.
        let mut last = vec![0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(inflated(&last).unwrap(), "Hello");
        last.pop();
        assert_eq!(inflated(&last).unwrap(), "Hello");
        // Two blocks.
        let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(inflated(&two).unwrap(), "Hello");
        // An empty message, in both forms.
        assert_eq!(inflated(&[0x00]).unwrap(), "");
        assert_eq!(inflated(&[]).unwrap(), "");
    }

    #[test]
    fn messages_go_on_after_a_block_with_bfinal() {
        let (_, mut server) = pair(true, 15);
        for _ in 0..3 {
            let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
            assert_eq!(server.inflate_payload(&last, LIMIT).unwrap(), "Hello");
            assert_eq!(server.inflate_payload(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], LIMIT).unwrap(), "Hello");
        }
        // Several in one message.
        let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(server.inflate_payload(&last.repeat(3), LIMIT).unwrap(), "HelloHelloHello");
        let error = server.inflate_payload(&last.repeat(STREAMS as usize), LIMIT).unwrap_err();
        assert!(matches!(error, Fault::Invalid(_)), "{error:?}");
    }

    #[test]
    fn exactly_the_limit_passes_and_a_byte_more_does_not() {
        for limit in [1, 100, SCRATCH - 1, SCRATCH, SCRATCH + SPARE, SCRATCH + SPARE + 1, 1 << 20] {
            for takes_over in [false, true] {
                let (mut client, mut server) = pair(takes_over, 15);
                let message = Message::binary(vec![7; limit.max(100)]);
                let compressed = client.compress(&message).unwrap();
                if limit >= 100 {
                    assert_eq!(server.inflate_payload(&compressed, limit).unwrap().len(), limit);
                }
                let (_, mut server) = pair(takes_over, 15);
                let error = server.inflate_payload(&compressed, message.len() - 1).unwrap_err();
                assert!(matches!(error, Fault::TooLarge), "{limit}: {error:?}");
            }
        }
    }

    #[test]
    fn data_that_is_not_deflate_is_invalid() {
        for bad in [&[0x07][..], &[0xff; 10], &[0x00, 0x05, 0x00, 0x00, 0x00], b"plain text"] {
            assert!(matches!(inflated(bad), Err(Fault::Invalid(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_message_refers_to_earlier_ones_with_context_takeover_alone() {
        let message = Message::binary(noise(7, 2000));
        let (mut client, mut server) = pair(true, 15);
        let first = client.compress(&Message::binary([&noise(7, 2000)[..], &[1; 200]].concat())).unwrap();
        let second = client.compress(&message).unwrap();
        assert!(second.len() < 50, "{}", second.len());
        assert_eq!(server.inflate_payload(&first, LIMIT).unwrap().len(), 2200);
        assert_eq!(Message::Binary(server.inflate_payload(&second, LIMIT).unwrap()), message);
        let (mut client, _) = pair(false, 15);
        assert!(client.compress(&message).is_none(), "noise does not shrink");
    }

    #[test]
    fn a_context_that_neither_end_has_seen_costs_nothing() {
        let (mut client, mut server) = pair(false, 15);
        let compressed = client.compress(&Message::text("a".repeat(1000))).unwrap();
        assert_eq!(server.inflate_payload(&compressed, LIMIT).unwrap().len(), 1000);
        assert!(client.deflater.is_none() && server.inflater.is_none());
    }

    #[test]
    fn messages_that_should_not_be_compressed_are_sent_as_they_are() {
        let direction = Direction { takes_over: true, window_bits: 15 };
        let agreed = Agreed { server: direction, client: direction };
        let with = |config: PerMessageDeflate, agreed| PerMessage::new(config, agreed, true, "");
        let (long, short) = (Message::text("a".repeat(256)), Message::text("a".repeat(255)));
        let mut default = with(PerMessageDeflate::new(), agreed);
        assert!(default.compress(&long).is_some());
        for message in [short, Message::Ping(vec![1; 300].into()), Message::Close(None)] {
            assert!(default.compress(&message).is_none(), "{message:?}");
        }
        assert!(with(PerMessageDeflate::new().level(Level::NONE), agreed).compress(&long).is_none());
        let config = PerMessageDeflate::new().compress_if(|message| matches!(message, Message::Binary(_)));
        assert!(with(config.clone(), agreed).compress(&long).is_none());
        assert!(with(config, agreed).compress(&Message::binary(vec![1; 300])).is_some());
        // The peer asked for a window that zlib cannot use.
        let tiny = Agreed { client: Direction { takes_over: false, window_bits: 8 }, ..agreed };
        assert!(with(PerMessageDeflate::new(), tiny).compress(&long).is_none());
        let marked = trailer::append(&[0; 300], Layer::Compression, 1);
        assert!(default.compress(&Message::Binary(marked)).is_none());
    }

    #[test]
    fn a_prepared_message_is_compressed_once_for_each_set_of_settings() {
        let message = Message::text("it was a dark and stormy night; ".repeat(20)).into_prepared();
        let send = |takes_over, window_bits, level: u8| {
            let config = PerMessageDeflate::new().level(Level::try_from(level).unwrap());
            end(config, takes_over, window_bits, true).compress(&message.clone()).unwrap()
        };
        let first = send(false, 15, 1);
        assert_eq!(send(false, 15, 1).as_ptr(), first.as_ptr());
        assert_eq!(send(true, 15, 1).as_ptr(), first.as_ptr());
        assert_ne!(send(false, 10, 1).as_ptr(), first.as_ptr());
        assert_ne!(send(false, 15, 6).as_ptr(), first.as_ptr());
        let copy = Message::text(message.as_text().unwrap().to_owned());
        assert_ne!(pair(false, 15).0.compress(&copy).unwrap().as_ptr(), first.as_ptr());
    }
}
