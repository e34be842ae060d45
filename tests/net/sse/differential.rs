//! The same streams by `sse-stream`, which has no known gap but that it gives up on what is not UTF-8.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use proptest::{collection::vec, prelude::*};
use sse_stream::SseByteStream;
use tower_transport::transport::sse::Parser;

use crate::sse::streams::parse;

/// Type, data and id of an event.
type Fields = (String, String, String);

/// Its raw blocks, read as the standard says: the id stays, and a block without data is no event.
fn by_sse_stream(pieces: &[&[u8]]) -> (Vec<Fields>, String, Option<u64>) {
    let pieces: Vec<Result<Bytes, std::io::Error>> =
        pieces.iter().map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let blocks: Vec<_> = SseByteStream::new(stream::iter(pieces)).collect().now_or_never().unwrap();
    let (mut events, mut last_id, mut retry) = (Vec::new(), None, None);
    for block in blocks {
        let block = block.unwrap();
        last_id = block.id.or(last_id);
        retry = block.retry.or(retry);
        if let Some(data) = block.data {
            let name = block.event.filter(|name| !name.is_empty()).unwrap_or_else(|| "message".to_owned());
            events.push((name, data, last_id.clone().unwrap_or_default()));
        }
    }
    (events, last_id.unwrap_or_default(), retry)
}

fn one_of(tokens: &'static [&'static str]) -> impl Strategy<Value = Cow<'static, str>> {
    prop::sample::select(tokens).prop_map(Cow::from)
}

/// Text that is likely to mean something: fields and line ends, and anything in between.
fn stream_text() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        8 => one_of(&["\n", "\r", "\r\n", "\n\n"]),
        8 => one_of(&["data", "data:", "data: ", "event:", "event: t", "id", "id: 1", "id:2", "retry: 7", ":"]),
        2 => one_of(&["\u{feff}", " ", "id: a\0b", "retry: 1x", "retry: 18446744073709551616", "Data: x"]),
        4 => "[^\0]{0,6}".prop_map(Cow::from),
    ];
    vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 2000 } else { 20_000 }))]

    #[test]
    fn any_text_gives_what_sse_stream_gives(text in stream_text(), cuts in vec(any::<prop::sample::Index>(), 0..5)) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).chain([0, text.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
        let parsed = parse(Parser::new(), pieces.iter().copied());
        let (events, last_id, retry) = by_sse_stream(&pieces);
        let ours = parsed.events.iter().map(|event| {
            (event.event_type().to_owned(), event.data().to_string(), event.last_event_id().to_owned())
        });
        prop_assert_eq!(ours.collect::<Vec<_>>(), events);
        // A block at the end that no blank line ends says nothing, but of the time to reconnect it has been heard
        // already.
        prop_assert_eq!(parsed.last_event_id, last_id);
        if text.ends_with("\n\n") {
            prop_assert_eq!(parsed.retry.map(|time| time.as_millis()), retry.map(u128::from));
        }
        prop_assert_eq!(parsed.error, None);
    }
}
