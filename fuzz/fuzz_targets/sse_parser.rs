//! A byte for the limits, a length and that many bytes that say where the stream is cut, then an event stream: cut or
//! not, it comes to the same events and the same error; and written again and parsed, they are the same events.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use tower_transport::transport::sse::{Event, Parser};

type Outcome = (Vec<Event>, Option<String>, String, Option<std::time::Duration>);

fn outcome<'a>(mut parser: Parser, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut events = Vec::new();
    let mut error = None;
    'pieces: for piece in pieces {
        parser.push(Bytes::copy_from_slice(piece));
        loop {
            match parser.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(failed) => {
                    assert!(failed.is_too_large());
                    error = Some(failed.to_string());
                    break 'pieces;
                }
            }
        }
    }
    (events, error, parser.last_event_id().to_owned(), parser.retry())
}

/// Pieces of the lengths that `cuts` say, and the rest.
fn pieces<'a>(mut stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &cut in cuts {
        let (piece, rest) = stream.split_at(usize::from(cut).min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces.push(stream);
    pieces
}

fuzz_target!(|input: &[u8]| {
    let [limit, length, rest @ ..] = input else { return };
    let (cuts, stream) = rest.split_at(usize::from(*length).min(rest.len()));
    let parser = || match limit {
        0 => Parser::new(),
        limit => Parser::new().max_line(usize::from(*limit)).max_event(usize::from(*limit)),
    };
    let whole = outcome(parser(), [stream]);
    assert_eq!(outcome(parser(), pieces(stream, cuts)), whole);
    assert_eq!(outcome(parser(), stream.chunks(1)), whole);

    let mut again = BytesMut::new();
    for event in &whole.0 {
        event.encode(&mut again);
    }
    let (events, error, ..) = outcome(Parser::new(), [&again[..]]);
    assert_eq!((events, error), (whole.0, None));
});
