use proptest::prelude::*;

use super::*;

fn position() -> impl Strategy<Value = Position> {
    any::<(u64, u64, u64, u64)>().prop_map(|(received, digest, first, sent)| Position { received, digest, first, sent })
}

fn window() -> impl Strategy<Value = Window> {
    any::<(u32, u32)>().prop_map(|(messages, bytes)| Window { messages, bytes })
}

fn own() -> impl Strategy<Value = Own> {
    let session = proptest::option::of((any::<Bytes16>(), any::<Bytes16>(), position()));
    prop_oneof![
        (any::<u64>(), window(), session, any::<bool>()).prop_map(|(epoch, window, session, is_unread)| Own::Hello(
            Hello { epoch, window, session, is_unread: is_unread && session.is_some() }
        )),
        (any::<bool>(), any::<Bytes16>(), any::<Bytes16>(), window(), position(), any::<bool>()).prop_map(
            |(is_resumed, id, token, window, position, is_unread)| Own::Welcome(Welcome {
                is_resumed,
                id,
                token,
                window,
                position,
                is_unread: is_unread && is_resumed
            })
        ),
        any::<(u64, u64)>().prop_map(|(received, sent)| Own::Ack(Ack { received, sent })),
        any::<(u64, u64)>().prop_map(|(received, sent)| Own::Bye(Ack { received, sent })),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(own in own()) {
        let Ok(Parsed::Own(again)) = read(own.into_message()) else { panic!("not read") };
        prop_assert!(again == own);
    }

    #[test]
    fn what_is_cut_or_longer_is_refused(own in own(), cut in any::<usize>()) {
        let bytes = own.into_message().into_bytes();
        let (body, mark) = bytes.split_at(bytes.len() - trailer::LEN);
        let short = [&body[..cut % body.len()], mark].concat();
        prop_assert!(read(Message::binary(short)).err().unwrap().is_protocol());
        let long = [body, &[0], mark].concat();
        prop_assert!(read(Message::binary(long)).err().unwrap().is_protocol());
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(kind: u8, body in proptest::collection::vec(any::<u8>(), 0..120)) {
        let message = Message::Binary(trailer::append(&body, Layer::Resume, kind));
        if let Ok(Parsed::Own(own)) = read(message.clone()) {
            prop_assert!(own.into_message() == message);
        }
    }
}

#[test]
fn another_version_is_named() {
    let hello = Hello { epoch: 1, window: Window::default(), session: None, is_unread: false };
    let mut bytes = Own::Hello(hello).into_message().into_bytes().to_vec();
    bytes[0] = 7;
    let error = read(Message::binary(bytes)).err().unwrap();
    assert!(error.is_protocol() && error.to_string().contains("version 7"), "{error}");
}
