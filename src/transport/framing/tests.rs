use proptest::{collection::vec, option, prelude::*};

use super::*;

/// Decodes `input`, which arrives in these pieces, and returns its messages or the first error.
fn decode(limit: usize, pieces: impl IntoIterator<Item = Bytes>) -> Result<Vec<Message>, Error> {
    let mut decoder = Decoder::new(limit);
    let mut messages = Vec::new();
    for mut piece in pieces {
        while let Some(message) = decoder.next(&mut piece)? {
            messages.push(message);
        }
        assert!(piece.is_empty(), "all is taken before more is asked for");
    }
    Ok(messages)
}

fn decode_whole(limit: usize, wire: &[u8]) -> Result<Vec<Message>, Error> {
    decode(limit, [Bytes::copy_from_slice(wire)])
}

fn encoded(messages: impl IntoIterator<Item = Message>) -> Bytes {
    let mut wire = BytesMut::new();
    messages.into_iter().for_each(|message| encode(&message, &mut wire));
    wire.freeze()
}

fn every_kind() -> [Message; 9] {
    [
        Message::text("text, é"),
        Message::text(""),
        Message::binary(vec![0xff; 70]),
        Message::binary(Bytes::new()),
        Message::Ping(Bytes::from_static(b"here?")),
        Message::Pong(Bytes::new()),
        Message::Close(None),
        Message::Close(Some(CloseFrame::new(CloseCode::NORMAL, ""))),
        Message::Close(Some(CloseFrame::new(CloseCode::AWAY, "é".repeat(61)))),
    ]
}

#[test]
fn each_kind_of_message_has_the_bytes_of_the_page_about_the_wire() {
    let bytes = |message| encoded([message]).to_vec();
    assert_eq!(bytes(Message::text("hi")), b"\x00\x02hi");
    assert_eq!(bytes(Message::binary(&b"\xff"[..])), b"\x01\x01\xff");
    assert_eq!(bytes(Message::Ping(Bytes::from_static(b"p"))), b"\x02\x01p");
    assert_eq!(bytes(Message::Pong(Bytes::new())), b"\x03\x00");
    assert_eq!(bytes(Message::Close(None)), b"\x04\x00");
    let frame = CloseFrame::new(CloseCode::AWAY, "bye");
    assert_eq!(bytes(Message::Close(Some(frame))), b"\x04\x05\x03\xe9bye");
}

#[test]
fn a_length_is_written_in_as_few_bytes_as_hold_it() {
    let head_of = |length: u64| {
        let mut wire = BytesMut::new();
        put_length(length, &mut wire);
        wire.to_vec()
    };
    assert_eq!(head_of(0), [0]);
    assert_eq!(head_of(63), [63]);
    assert_eq!(head_of(64), [0x40, 64]);
    assert_eq!(head_of(16_383), [0x7f, 0xff]);
    assert_eq!(head_of(16_384), [0x80, 0, 0x40, 0]);
    assert_eq!(head_of((1 << 30) - 1), [0xbf, 0xff, 0xff, 0xff]);
    assert_eq!(head_of(1 << 30), [0xc0, 0, 0, 0, 0x40, 0, 0, 0]);
    // RFC 9000, section A.1.
    assert_eq!(head_of(151_288_809_941_952_652), [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c]);
}

#[test]
fn a_length_that_takes_more_bytes_than_it_needs_is_read_all_the_same() {
    for head in [&b"\x01"[..], b"\x40\x01", b"\x80\0\0\x01", b"\xc0\0\0\0\0\0\0\x01"] {
        let wire = [&[TEXT], head, b"x"].concat();
        assert_eq!(decode_whole(8, &wire).unwrap(), [Message::text("x")]);
        assert_eq!(decode(8, wire.chunks(1).map(Bytes::copy_from_slice)).unwrap(), [Message::text("x")]);
    }
}

#[test]
fn wherever_the_bytes_are_cut_in_two_the_same_messages_are_read() {
    let wire = encoded(every_kind());
    for cut in 0..=wire.len() {
        let read = decode(200, [wire.slice(..cut), wire.slice(cut..)]).unwrap();
        assert_eq!(read, every_kind(), "cut at {cut}");
    }
}

#[test]
fn a_message_that_is_whole_in_what_was_read_is_not_copied() {
    let mut input = encoded([Message::binary(vec![1; 10]), Message::text("two")]);
    let memory = input.as_ptr() as usize..input.as_ptr() as usize + input.len();
    let mut decoder = Decoder::new(100);
    for _ in 0..2 {
        let payload = decoder.next(&mut input).unwrap().unwrap().into_bytes();
        assert!(memory.contains(&(payload.as_ptr() as usize)));
    }
    assert!(decoder.payload.capacity() == 0 && decoder.head.capacity() == 0, "and an idle decoder holds nothing");
}

#[test]
fn a_message_that_comes_in_pieces_is_copied_into_memory_that_it_fills() {
    let wire = encoded([Message::binary(vec![1; 5000])]);
    for size in [1, 7, 1000, 1024, 2600, 5002] {
        let mut decoder = Decoder::new(5000);
        let mut pieces = wire.chunks(size).map(Bytes::copy_from_slice);
        let message = pieces.find_map(|mut piece| {
            let message = decoder.next(&mut piece).unwrap();
            let (held, room) = (decoder.payload.len(), decoder.payload.capacity());
            assert!(room <= (2 * held).max(PIECE) && room <= 5000, "room for {room}, {held} held");
            message
        });
        assert_eq!(message.map(|message| message.len()), Some(5000), "in pieces of {size}");
    }
}

#[test]
fn a_length_that_is_never_made_true_allocates_nothing_to_speak_of() {
    let mut decoder = Decoder::new(usize::MAX);
    let mut head = BytesMut::from(&[BINARY][..]);
    put_length((1 << 62) - 1, &mut head);
    let mut input = head.freeze();
    assert!(decoder.next(&mut input).unwrap().is_none());
    assert_eq!(decoder.payload.capacity(), 0);
    assert!(decoder.next(&mut Bytes::from_static(b"x")).unwrap().is_none());
    assert_eq!(decoder.payload.capacity(), PIECE);
}

#[test]
fn a_payload_at_the_limit_is_read_and_one_over_it_refused_by_its_head() {
    let message = Message::binary(vec![0; 300]);
    let wire = encoded([message.clone()]);
    assert_eq!(decode(300, [wire.clone()]).unwrap(), std::slice::from_ref(&message));
    check_outgoing(&message, 300).unwrap();

    let error = decode(299, [wire.slice(..3)]).unwrap_err();
    assert!(error.is_too_large(), "{error}");
    assert!(error.to_string().contains("300 bytes is over the limit of 299 (Limits::message)"), "{error}");
    assert!(check_outgoing(&message, 299).unwrap_err().is_too_large());
}

#[test]
fn a_control_message_has_125_bytes_at_most_whatever_the_limit_of_data() {
    for limit in [0, 10, MAX_CONTROL, 1 << 20] {
        for kind in [PING, PONG, CLOSE] {
            let wire = [&[kind, 0x40, 126][..], &[b'x'; 126]].concat();
            let error = decode_whole(limit, &wire).unwrap_err();
            assert!(error.is_protocol(), "kind {kind}, limit {limit}: {error}");
        }
        let ping = Message::Ping(Bytes::from(vec![7; MAX_CONTROL]));
        check_outgoing(&ping, limit).unwrap();
        assert_eq!(decode(limit, [encoded([ping.clone()])]).unwrap(), [ping]);
        assert!(check_outgoing(&Message::Pong(Bytes::from(vec![7; 126])), limit).unwrap_err().is_too_large());
    }
}

#[test]
fn a_kind_that_there_is_not_is_an_error() {
    for kind in 5..=u8::MAX {
        let error = decode_whole(100, &[kind, 0]).unwrap_err();
        assert!(error.is_protocol() && error.to_string().contains(&format!("kind {kind}")), "{error}");
    }
}

#[test]
fn text_that_is_not_utf_8_is_an_error_whole_or_in_pieces() {
    let wire = [&[TEXT, 3][..], b"a\xc3\x28"].concat();
    assert!(decode_whole(100, &wire).unwrap_err().is_protocol());
    assert!(decode(100, wire.chunks(1).map(Bytes::copy_from_slice)).unwrap_err().is_protocol());
}

#[test]
fn a_close_with_a_code_that_must_not_be_sent_is_an_error() {
    for code in [0u16, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
        let wire = [&[CLOSE, 2][..], &code.to_be_bytes()].concat();
        let error = decode_whole(100, &wire).unwrap_err();
        assert!(error.is_protocol() && error.to_string().contains(&code.to_string()), "{error}");
    }
}

#[test]
fn a_close_of_one_byte_and_a_reason_that_is_not_utf_8_are_errors() {
    assert!(decode_whole(100, &[CLOSE, 1, 3]).unwrap_err().is_protocol());
    assert!(decode_whole(100, &[CLOSE, 3, 0x03, 0xe8, 0xff]).unwrap_err().is_protocol());
}

#[test]
fn a_reason_that_nobody_has_cut_is_cut_before_it_is_sent() {
    let wire = encoded([Message::Close(Some(CloseFrame::new(CloseCode::NORMAL, "é".repeat(100))))]);
    assert_eq!(wire.len(), 1 + 2 + 2 + 122, "kind, length, code, reason");
    let frame = CloseFrame::new(CloseCode::NORMAL, "é".repeat(61));
    assert_eq!(decode(100, [wire]).unwrap(), [Message::Close(Some(frame))]);
}

#[test]
fn only_between_two_messages_is_nothing_half_read() {
    let wire = encoded([Message::binary(vec![1; 100])]);
    let mut decoder = Decoder::new(100);
    assert!(decoder.is_between_messages());
    for (at, byte) in wire.iter().enumerate() {
        let message = decoder.next(&mut Bytes::copy_from_slice(&[*byte])).unwrap();
        let is_last = at + 1 == wire.len();
        assert_eq!((message.is_some(), decoder.is_between_messages()), (is_last, is_last), "after byte {at}");
    }
}

fn control() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=MAX_CONTROL).prop_map(Bytes::from)
}

fn any_message() -> impl Strategy<Value = Message> {
    let code = prop_oneof![1000..=1003u16, 1007..=1014u16, 3000..=4999u16];
    let frame = (code, "\\PC{0,30}").prop_map(|(code, reason)| CloseFrame::new(CloseCode::new(code).unwrap(), reason));
    prop_oneof![
        4 => "\\PC{0,100}".prop_map(Message::text),
        4 => vec(any::<u8>(), 0..300).prop_map(Message::binary),
        1 => (16_000..17_000usize, any::<u8>()).prop_map(|(size, byte)| Message::binary(vec![byte; size])),
        1 => control().prop_map(Message::Ping),
        1 => control().prop_map(Message::Pong),
        1 => option::of(frame).prop_map(Message::Close),
    ]
}

/// Bytes that are often nearly valid.
fn any_wire() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        vec(any::<u8>(), 0..20),
        any_message().prop_map(|message| encoded([message]).to_vec()),
        (0..7u8, any::<u64>()).prop_map(|(kind, length)| {
            let mut wire = BytesMut::from(&[kind][..]);
            put_length(length >> 2 >> (length % 62), &mut wire);
            wire.to_vec()
        }),
    ];
    vec(part, 0..6).prop_map(|parts| parts.concat())
}

/// Cuts `wire` before each given position.
fn pieces(wire: &Bytes, cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    cuts.extend([0, wire.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| wire.slice(pair[0]..pair[1])).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        messages in vec(any_message(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let wire = encoded(messages.clone());
        prop_assert_eq!(decode(20_000, pieces(&wire, &cuts)).unwrap(), messages);
    }

    #[test]
    fn whatever_a_peer_sends_the_answer_is_the_same_whole_and_in_pieces(
        wire in any_wire(),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
        limit in prop_oneof![0..300usize, Just(20_000), Just(usize::MAX)],
    ) {
        let wire = Bytes::from(wire);
        let in_pieces = decode(limit, pieces(&wire, &cuts));
        match (decode(limit, [wire]), in_pieces) {
            (Ok(whole), Ok(in_pieces)) => prop_assert_eq!(whole, in_pieces),
            (Err(whole), Err(in_pieces)) => prop_assert_eq!(whole.to_string(), in_pieces.to_string()),
            (whole, in_pieces) => prop_assert!(false, "{whole:?} whole, {in_pieces:?} in pieces"),
        }
    }

    #[test]
    fn what_is_read_was_within_the_limit_and_writes_as_no_more_bytes_than_it_was_read_from(
        wire in any_wire(),
        limit in 0..300usize,
    ) {
        let mut decoder = Decoder::new(limit);
        let mut input = Bytes::from(wire);
        let mut before = input.len();
        while let Ok(Some(message)) = decoder.next(&mut input) {
            prop_assert!(check_outgoing(&message, limit).is_ok());
            prop_assert!(encoded([message]).len() <= before - input.len());
            before = input.len();
        }
    }
}

#[test]
fn what_this_end_may_not_send_is_a_rejection_of_that_message() {
    for message in [Message::binary(vec![0; 11]), Message::text("x".repeat(11)), Message::Ping(vec![0; 126].into())] {
        let error = check_outgoing(&message, 10).unwrap_err();
        assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
    }
}

#[test]
fn a_message_in_parts_has_the_bytes_of_the_page_about_the_wire() {
    let in_parts = |message, most| {
        let mut wire = BytesMut::new();
        let count = encode_in_parts(&message, most, &mut wire);
        (count, wire.to_vec())
    };
    assert_eq!(in_parts(Message::text("hello"), 2), (3, b"\x05\x02he\x05\x02ll\x06\x01o".to_vec()));
    assert_eq!(
        in_parts(Message::binary(&b"\xff\xfe\xfd\xfc"[..]), 2),
        (2, b"\x05\x02\xff\xfe\x07\x02\xfd\xfc".to_vec())
    );
    assert_eq!(in_parts(Message::text("he"), 2), (1, b"\x00\x02he".to_vec()));
    assert_eq!(in_parts(Message::Ping(Bytes::from_static(b"ping")), 2), (1, b"\x02\x04ping".to_vec()));
}

#[test]
fn a_decoder_of_messages_alone_takes_parts_for_a_broken_protocol() {
    for kind in [PART, LAST_OF_TEXT, LAST_OF_BINARY] {
        assert!(decode_whole(8, &[kind, 1, b'x']).unwrap_err().is_protocol());
        let mut input = Bytes::copy_from_slice(&[kind, 1, b'x']);
        assert!(Decoder::new(8).next_unit(&mut input).unwrap().is_some());
        let mut large = Bytes::copy_from_slice(&[kind, 9]);
        assert!(Decoder::new(8).next_unit(&mut large).unwrap_err().is_too_large(), "by its head");
    }
    assert!(Decoder::new(8).next_unit(&mut Bytes::from_static(b"\x08\0")).unwrap_err().is_protocol());
}

#[test]
fn what_fits_is_counted_whole_and_the_first_always_fits() {
    let wire = encoded([Message::text("one"), Message::text("two"), Message::binary(vec![0; 100])]);
    assert_eq!(fitting(&wire, usize::MAX), (3, wire.len()));
    assert_eq!(fitting(&wire, 10), (2, 10));
    assert_eq!(fitting(&wire, 9), (1, 5));
    assert_eq!(fitting(&wire.slice(10..), 1), (1, 103));
    assert_eq!(fitting(&[], 10), (0, 0));
}
