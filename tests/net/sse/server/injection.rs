//! Whatever an application puts into an event, it stays one event.

use std::convert::Infallible;

use futures_util::stream;
use proptest::prelude::*;
use tower_transport::transport::sse::{Event, EventStream, Parser};

use super::text;

/// The events that a client reads from the body.
fn read(events: Vec<Event>) -> Vec<Event> {
    let mut body = EventStream::new(stream::iter(events.into_iter().map(Ok::<_, Infallible>)));
    let mut parser = Parser::new();
    parser.push(text(&mut body).into());
    std::iter::from_fn(|| parser.next_event().unwrap()).collect()
}

#[test]
fn no_line_end_in_the_data_begins_another_field_or_event() {
    let attempts = [
        "x\n\ndata: forged",
        "x\r\rdata: forged",
        "x\r\n\r\nevent: admin\r\ndata: forged",
        "x\nid: 666",
        "x\rretry: 0",
        "\n\n\n",
        ":\n\n:",
        "x\u{2028}data: forged\u{85}data: forged\u{b}",
        "\u{feff}data: forged",
        "\0\n\0",
    ];
    for attempt in attempts {
        let events = read(vec![Event::new(attempt).id("1").unwrap(), Event::new("next")]);
        assert_eq!(events.len(), 2, "{attempt:?}");
        let data = attempt.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(events[0].data(), data.as_str());
        assert_eq!((events[0].event_type(), events[0].last_event_id()), ("message", "1"), "{attempt:?}");
        assert_eq!((events[1].data().as_str(), events[1].last_event_id()), ("next", "1"), "{attempt:?}");
    }
}

#[test]
fn a_type_or_an_id_with_a_line_end_cannot_be_made() {
    for line_end in ["\n", "\r", "\r\n"] {
        let attempt = format!("a{line_end}data: forged{line_end}{line_end}");
        assert!(Event::new("").event(&attempt).unwrap_err().is_config());
        assert!(Event::new("").id(&attempt).unwrap_err().is_config());
    }
}

proptest! {
    #[test]
    fn any_texts_are_as_many_events(texts in proptest::collection::vec("[\r\n:a d\\x00i\u{feff}]{0,40}", 1..20)) {
        let events = read(texts.iter().map(|text| Event::new(text.as_str())).collect());
        let data: Vec<_> = events.iter().map(|event| event.data().to_string()).collect();
        let sent: Vec<_> = texts.iter().map(|text| text.replace("\r\n", "\n").replace('\r', "\n")).collect();
        prop_assert_eq!(data, sent);
    }
}
