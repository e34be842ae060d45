//! Byte streams, cut in pieces and parsed.

use bytes::Bytes;
use tower_transport::{
    Error,
    transport::sse::{Event, Parser},
};

/// The outcome of one stream.
#[derive(Debug, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) events: Vec<Event>,
    pub(crate) last_event_id: String,
    pub(crate) retry: Option<std::time::Duration>,
    pub(crate) error: Option<String>,
}

/// Parses the pieces one after the other, up to the end or the first error.
pub(crate) fn parse<'a>(mut parser: Parser, pieces: impl IntoIterator<Item = &'a [u8]>) -> Parsed {
    let mut events = Vec::new();
    let read = || -> Result<(), Error> {
        for piece in pieces {
            parser.push(Bytes::copy_from_slice(piece));
            while let Some(event) = parser.next_event()? {
                events.push(event);
            }
        }
        Ok(())
    };
    let error = read().err().map(|error| error.to_string());
    Parsed { events, last_event_id: parser.last_event_id().to_owned(), retry: parser.retry(), error }
}

/// Parses the whole, which must come to the same as every cut in two, and as byte by byte.
pub(crate) fn parse_cut_anywhere(name: &str, parser: impl Fn() -> Parser, stream: &[u8]) -> Parsed {
    let whole = parse(parser(), [stream]);
    assert_eq!(parse(parser(), stream.chunks(1)), whole, "{name}, byte by byte");
    for at in 0..=stream.len() {
        let (first, second) = stream.split_at(at);
        assert_eq!(parse(parser(), [first, second]), whole, "{name}, cut at {at}");
    }
    whole
}
