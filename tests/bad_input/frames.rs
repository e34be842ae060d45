//! Frames that break RFC 6455: the error names the fault, the peer is told by a close code and then hung up on.

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_transport::{Error, Limits, Message};

use crate::{
    attack::Victim,
    wire::{BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, TEXT, close_code, frame},
    within,
};

const MESSAGE_LIMIT: usize = 4000;
const FRAME_LIMIT: usize = 1000;

fn limits() -> Limits {
    Limits::new().message(MESSAGE_LIMIT).frame(FRAME_LIMIT)
}

/// Sends the frames; gives the error, and the close code that the attacker read before the end of the connection.
async fn attacked(victim: Victim, frames: &[Frame]) -> (Error, Option<u16>) {
    let (mut attacker, mut socket) = victim.meet(limits()).await;
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes(victim.attacker())).collect();
    let attacker = async {
        attacker.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        attacker.read_to_end(&mut answer).await.unwrap();
        drop(attacker);
        close_code(&answer)
    };
    let victim = async {
        loop {
            match socket.next().await.expect("an error comes before the end") {
                Ok(message) => assert!(message.is_empty(), "{message:?}"),
                Err(error) => break error,
            }
        }
    };
    let (error, code) = within(async { tokio::join!(victim, attacker) }).await;
    assert!(socket.next().await.is_none(), "an error of the stream is final");
    (error, code)
}

macro_rules! refused {
    ($($name:ident: [$($frame:expr),+] => $is:ident, $code:literal, $says:expr;)*) => {$(
        mod $name {
            use super::*;

            async fn is_refused(victim: Victim) {
                let (error, code) = attacked(victim, &[$($frame),+]).await;
                assert!(error.$is(), "{error:?}");
                assert!(error.to_string().contains($says), "{error}");
                assert_eq!(code, Some($code));
            }

            #[tokio::test]
            async fn is_refused_by_a_server() {
                is_refused(Victim::Server).await;
            }

            #[tokio::test]
            async fn is_refused_by_a_client() {
                is_refused(Victim::Client).await;
            }
        }
    )*};
}

refused! {
    a_reserved_bit: [frame(FIN | 0x40 | TEXT, "a")] => is_protocol, 1002, "eserved";
    a_reserved_bit_of_a_control_frame: [frame(FIN | 0x10 | PING, "")] => is_protocol, 1002, "eserved";
    a_reserved_data_opcode: [frame(FIN | 3, "a")] => is_protocol, 1002, "pcode";
    a_reserved_control_opcode: [frame(FIN | 11, "")] => is_protocol, 1002, "pcode";
    a_wrong_mask: [frame(FIN | TEXT, "a").wrongly_masked()] => is_protocol, 1002, "mask";
    text_that_is_not_utf8: [frame(FIN | TEXT, [0xc0, 0xaf])] => is_protocol, 1007, "UTF-8";
    text_that_ends_within_a_character: [frame(TEXT, "a"), frame(FIN | CONTINUATION, [0xe2, 0x9c])] => is_protocol, 1007, "UTF-8";
    a_continuation_of_nothing: [frame(FIN | CONTINUATION, "a")] => is_protocol, 1002, "ontinu";
    a_message_within_a_message: [frame(TEXT, "a"), frame(FIN | TEXT, "b")] => is_protocol, 1002, "fragment";
    a_ping_in_fragments: [frame(PING, "a")] => is_protocol, 1002, "ragment";
    a_ping_over_125_bytes: [frame(FIN | PING, [0; 126])] => is_protocol, 1002, "ontrol frame";
    a_close_frame_with_half_a_code: [frame(FIN | CLOSE, [3])] => is_protocol, 1002, "lose";
    a_close_reason_that_is_not_utf8: [frame(FIN | CLOSE, [0x03, 0xe8, 0xff])] => is_protocol, 1007, "UTF-8";
    a_frame_over_the_limit: [frame(FIN | BINARY, [0; FRAME_LIMIT + 1])] => is_too_large, 1009, "1000";
    a_message_over_the_limit: [frame(BINARY, [0; 900]), frame(CONTINUATION, [0; 900]), frame(CONTINUATION, [0; 900]),
        frame(CONTINUATION, [0; 900]), frame(CONTINUATION, [0; 401])] => is_too_large, 1009, "4000";
    an_announced_length_of_2_to_the_62: [frame(FIN | BINARY, "a").announcing(1 << 62)] => is_too_large, 1009, "1000";
    an_announced_length_of_all_ones: [frame(FIN | BINARY, "a").announcing(u64::MAX)] => is_too_large, 1009, "1000";
}

#[tokio::test]
async fn a_close_code_that_may_not_be_sent_is_an_error_that_names_it_and_is_answered_with_1002() {
    for victim in [Victim::Server, Victim::Client] {
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            let payload = [&code.to_be_bytes()[..], b"words"].concat();
            let (error, answered) = attacked(victim, &[frame(FIN | CLOSE, payload)]).await;
            assert!(error.is_protocol(), "{error:?}");
            assert!(error.to_string().contains(&format!("code {code},")), "{error}");
            assert_eq!((error.close_frame(), answered), (None, Some(1002)), "{code}");
        }
    }
}

/// Legal but odd frames get through.
async fn received(victim: Victim, frames: impl IntoIterator<Item = Frame>) -> Message {
    let (mut attacker, mut socket) = victim.meet(limits()).await;
    for frame in frames {
        attacker.write_all(&frame.bytes(victim.attacker())).await.unwrap();
    }
    within(socket.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_character_may_be_cut_by_fragments() {
    for victim in [Victim::Server, Victim::Client] {
        let message = received(victim, [frame(TEXT, [0xe2]), frame(CONTINUATION, [0x9c]), frame(FIN, [0x93])]).await;
        assert_eq!(message, Message::text("\u{2713}"));
    }
}

#[tokio::test]
async fn a_message_may_come_in_frames_of_one_byte() {
    for victim in [Victim::Server, Victim::Client] {
        let body = std::iter::repeat_n(frame(CONTINUATION, "x"), MESSAGE_LIMIT - 1);
        let frames = std::iter::once(frame(BINARY, "x")).chain(body).chain([frame(FIN, "")]);
        assert_eq!(received(victim, frames).await, Message::binary(vec![b'x'; MESSAGE_LIMIT]));
    }
}

#[tokio::test]
async fn a_message_of_the_limits_length_is_within_it() {
    for victim in [Victim::Server, Victim::Client] {
        let part = |first| frame(first, [0; FRAME_LIMIT]);
        let frames = [part(BINARY), part(CONTINUATION), part(CONTINUATION), part(FIN)];
        assert_eq!(received(victim, frames).await.len(), MESSAGE_LIMIT);
    }
}
