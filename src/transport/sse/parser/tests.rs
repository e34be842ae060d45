use super::*;

fn parse(chunks: &[&[u8]]) -> (Parser, Vec<Event>) {
    let mut parser = Parser::new();
    let mut events = Vec::new();
    for chunk in chunks {
        parser.push(Bytes::copy_from_slice(chunk));
        while let Some(event) = parser.next_event().unwrap() {
            events.push(event);
        }
    }
    (parser, events)
}

fn data(chunks: &[&[u8]]) -> Vec<String> {
    parse(chunks).1.iter().map(|event| event.data().to_string()).collect()
}

fn failure(mut parser: Parser, chunks: &[&[u8]]) -> Error {
    for chunk in chunks {
        parser.push(Bytes::copy_from_slice(chunk));
        loop {
            match parser.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    parser.push(Bytes::from_static(b"\n\ndata: more\n\n"));
                    assert_eq!(parser.next_event().unwrap_err().to_string(), error.to_string(), "it stays");
                    return error;
                }
            }
        }
    }
    panic!("no error");
}

#[test]
fn the_data_of_one_line_in_one_chunk_is_a_slice_of_the_chunk() {
    let chunk = Bytes::from_static(b"data: abc\n\n");
    let mut parser = Parser::new();
    parser.push(chunk.clone());
    let event = parser.next_event().unwrap().unwrap();
    assert_eq!(event.data().as_ptr(), chunk[6..].as_ptr());
}

#[test]
fn an_event_comes_out_with_the_carriage_return_that_ends_it() {
    assert_eq!(data(&[b"data: a\r\r"]), ["a"]);
    assert_eq!(data(&[b"data: a\r", b"\ndata: b\r", b"\n", b"\r", b"\n"]), ["a\nb"]);
}

#[test]
fn what_only_looks_like_a_byte_order_mark_belongs_to_the_first_line() {
    assert_eq!(data(&[b"\xef", b"\xbb", b"\xbf", b"data: a\n\n"]), ["a"]);
    assert_eq!(data(&[b"\xef\xbb", b"data: a\n\ndata: b\n\n"]), ["b"]);
    assert_eq!(data(&[b"\xef\xbb", b"\n\ndata: b\n\n"]), ["b"]);
}

#[test]
fn an_id_counts_from_the_blank_line_on_even_without_data() {
    let (parser, events) = parse(&[b"id: 1\n"]);
    assert_eq!((parser.last_event_id(), events.len()), ("", 0));
    let (parser, events) = parse(&[b"id: 1\n\nid: 2\ndata: cut"]);
    assert_eq!((parser.last_event_id(), events.len()), ("1", 0));
}

#[test]
fn an_id_that_was_taken_back_is_not_the_one_that_never_was() {
    let (_, events) = parse(&[b"data: a\n\nid: 1\n\nid\ndata: a\n\n"]);
    assert_eq!(events[0], Event::new("a"));
    assert_eq!(events[1], Event::new("a").id("").unwrap(), "so that writing it again takes the id back");
}

#[test]
fn a_stream_goes_on_from_the_id_of_the_one_before() {
    let mut parser = Parser::new().resume_from("7");
    assert_eq!(parser.last_event_id(), "7");
    parser.push(Bytes::from_static(b"data: a\n\n"));
    assert_eq!(parser.next_event().unwrap().unwrap().last_event_id(), "7");
}

#[test]
fn only_digits_that_fit_are_a_time_to_reconnect() {
    let retry = |value: &str| parse(&[format!("retry: {value}\n").as_bytes()]).0.retry();
    assert_eq!(retry("1500"), Some(Duration::from_millis(1500)));
    assert_eq!(retry("18446744073709551615"), Some(Duration::from_millis(u64::MAX)));
    for ignored in ["", "+1", "-1", "1.5", "1x", " 1", "18446744073709551616", "\u{661}"] {
        assert_eq!(retry(ignored), None, "{ignored:?}");
    }
}

#[test]
fn data_over_the_limit_is_an_error_that_names_it_wherever_it_is_cut() {
    let parser = || Parser::new().max_event(4);
    assert_eq!(
        failure(parser(), &[b"data: 12345\n"]).to_string(),
        "an event's data is over the limit of 4 bytes (Parser::max_event)"
    );
    for chunks in [
        &[b"data: 12345".as_slice()] as &[&[u8]],
        &[b"data: 12", b"345"],
        &[b"data: 12\n", b"data: 34"],
        &[b"data: \xff\xff\n"],
    ] {
        assert!(failure(parser(), chunks).is_too_large(), "{chunks:?}");
    }
    let mut fits = parser();
    fits.push(Bytes::from_static(b"data: 1\ndata:34\n\ndata: 1234\n\n"));
    assert_eq!(fits.next_event().unwrap().unwrap().data(), "1\n34");
    assert_eq!(fits.next_event().unwrap().unwrap().data(), "1234");
}

#[test]
fn another_line_over_the_limit_is_an_error_that_names_it() {
    let parser = || Parser::new().max_line(8);
    for chunks in [&[b"id: 12345\n".as_slice()] as &[&[u8]], &[b"event: ", b"ab"], &[b"whatever it is"]] {
        let error = failure(parser(), chunks);
        assert_eq!(error.to_string(), "a line of the event stream is over the limit of 8 bytes (Parser::max_line)");
    }
    let mut long = parser();
    long.push(Bytes::from_static(b"data: longer than that\n\n"));
    assert_eq!(long.next_event().unwrap().unwrap().data(), "longer than that");
}

#[test]
fn a_comment_may_be_of_any_length_and_nothing_of_it_is_kept() {
    let mut parser = Parser::new().max_line(8).max_event(8);
    parser.push(Bytes::from_static(b":"));
    for _ in 0..100 {
        assert_eq!(parser.next_event().unwrap(), None);
        parser.push(Bytes::from_static(b"0123456789: data: x"));
    }
    parser.push(Bytes::from_static(b"\r\ndata: a\n\n"));
    assert_eq!(parser.next_event().unwrap().unwrap().data(), "a");
}

#[test]
fn a_chunk_that_is_pushed_too_early_is_not_lost() {
    let mut parser = Parser::new();
    parser.push(Bytes::from_static(b"data: a\n\nda"));
    parser.push(Bytes::from_static(b"ta: b\n\n"));
    assert_eq!(parser.next_event().unwrap().unwrap().data(), "a");
    assert_eq!(parser.next_event().unwrap().unwrap().data(), "b");
}
