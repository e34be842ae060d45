//! POSTs as a bad network makes them: from anywhere, cut anywhere. The handler gets each message once, in order.

use proptest::prelude::*;
use tower_transport::{Limits, Message};

use futures_util::{FutureExt, StreamExt};

use super::called::{server, whole};

/// In its framing (short ones only).
fn framed(message: &Message) -> Vec<u8> {
    let kind = u8::from(matches!(message, Message::Binary(_)));
    [&[kind, message.len() as u8], message.as_bytes()].concat()
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60).prop_map(Message::binary),
        "[a-z\r\n\0\u{e9}]{0,20}".prop_map(Message::text),
    ]
}

/// From which message a POST begins, as a share of those that there are, and how many of its bytes arrive.
fn any_post() -> impl Strategy<Value = (f64, Option<usize>)> {
    (0.0..1.0, proptest::option::of(0usize..400))
}

proptest! {
    #[test]
    fn whatever_arrives_is_taken_once_and_in_order(
        messages in proptest::collection::vec(any_message(), 1..20),
        posts in proptest::collection::vec(any_post(), 1..20),
        inbox in 1usize..200,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut server = server(Limits::new().write_buffer(inbox));
            let (_stream, token, mut session) = server.open().await;
            let (mut due, mut seen) = (0, Vec::new());
            for (share, cut) in posts {
                let first = (share * messages.len() as f64) as usize;
                let mut body: Vec<u8> = messages[first..].iter().flat_map(framed).collect();
                body.truncate(cut.unwrap_or(usize::MAX));
                let (status, now_due) = server.post(&token, first as u64, whole(body)).await;
                match status {
                    204 | 400 => assert!(first as u64 <= due),
                    409 => assert!(first as u64 > due && now_due == Some(due)),
                    other => panic!("{other}"),
                }
                // One is read for each POST, so that the inbox is full at times.
                seen.extend(session.next().now_or_never().map(|message| message.unwrap().unwrap()));
                due = server.post(&token, 0, whole("")).await.1.unwrap();
            }
            while let Some(message) = session.next().now_or_never() {
                seen.push(message.unwrap().unwrap());
            }
            assert_eq!(seen, messages[..due as usize]);
        });
    }
}
