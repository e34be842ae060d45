use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::{FutureExt, SinkExt, StreamExt, future::join, poll};
use tower_transport::{
    Error, Message, TransportExt,
    test_util::{
        contract::block_on,
        script::{Script, ScriptHandle, Scripted},
    },
};

fn text(text: &str) -> Message {
    Message::text(text)
}

fn next(transport: &mut Scripted) -> Option<Message> {
    transport.next().now_or_never().map(|item| item.expect("not the end").expect("no error"))
}

/// Returns the text of the panic that must come.
fn panic_of(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("a panic");
    panic.downcast_ref::<String>().expect("a message").clone()
}

#[test]
fn a_message_comes_in_only_after_the_one_that_is_expected_before_it() {
    let (mut transport, script) = Script::new().expect(text("ask")).give(text("answer")).build();
    assert_eq!(next(&mut transport), None);
    transport.send_message(text("ask")).now_or_never().unwrap().unwrap();
    assert_eq!(next(&mut transport), Some(text("answer")));
    assert!(script.is_done());
}

#[test]
fn nothing_can_be_sent_before_what_is_given_is_received() {
    let (mut transport, _script) = Script::new().give(text("first")).expect(text("second")).build();
    assert!(transport.send_message(text("second")).now_or_never().is_none());
    assert_eq!(next(&mut transport), Some(text("first")));
    transport.send_message(text("second")).now_or_never().unwrap().unwrap();
}

#[test]
fn each_step_wakes_the_half_whose_turn_is_next() {
    let (transport, script) = Script::new().expect(text("a")).give(text("b")).expect(text("c")).end().build();
    let (mut sink, mut stream) = TransportExt::into_split(transport);
    block_on(join(
        async {
            sink.send(text("a")).await.unwrap();
            sink.send(text("c")).await.unwrap();
        },
        async {
            assert_eq!(stream.next().await.unwrap().unwrap(), text("b"));
            assert!(stream.next().await.is_none());
        },
    ));
    assert!(script.is_done());
}

#[test]
fn a_stall_holds_both_directions_until_it_is_released() {
    let (mut transport, script) = Script::new().stall().expect(text("a")).stall().give(text("b")).build();
    block_on(async {
        let mut send = transport.send_message(text("a"));
        assert!(poll!(&mut send).is_pending());
        script.release();
        send.await.unwrap();
        assert!(poll!(transport.next()).is_pending());
        script.release();
        assert_eq!(transport.next().await.unwrap().unwrap(), text("b"));
    });
}

#[test]
fn a_stall_that_is_released_early_is_none() {
    let (mut transport, script) = Script::new().expect(text("a")).stall().give(text("b")).build();
    script.release();
    transport.send_message(text("a")).now_or_never().unwrap().unwrap();
    assert_eq!(next(&mut transport), Some(text("b")));
}

#[test]
fn a_flush_that_the_script_asks_for_waits_behind_a_stall() {
    let (mut transport, script) = Script::<Message>::new().expect(text("a")).expect(text("b")).stall().flush().build();
    transport.feed(text("a")).now_or_never().unwrap().unwrap();
    transport.feed(text("b")).now_or_never().unwrap().unwrap();
    assert!(transport.flush().now_or_never().is_none());
    script.release();
    assert!(!script.is_done());
    transport.flush().now_or_never().unwrap().unwrap();
    assert!(script.is_done());
}

#[test]
fn steps_can_be_appended_while_a_reader_waits() {
    let (mut transport, script) = Script::<Message>::new().build();
    block_on(async {
        let mut receive = transport.receive_message();
        assert!(poll!(&mut receive).is_pending());
        script.append(Script::new().give(text("late")));
        assert_eq!(receive.await.unwrap().unwrap(), text("late"));
    });
}

#[test]
fn errors_come_where_the_script_says() {
    let (mut transport, _script): (_, ScriptHandle) = Script::new()
        .fail_send(Error::timeout("too slow"))
        .expect(text("again"))
        .fail_receive(Error::protocol("nonsense"))
        .end()
        .build();
    assert!(transport.send_message(text("lost")).now_or_never().unwrap().unwrap_err().is_timeout());
    transport.send_message(text("again")).now_or_never().unwrap().unwrap();
    assert!(transport.next().now_or_never().unwrap().unwrap().unwrap_err().is_protocol());
    assert!(transport.next().now_or_never().unwrap().is_none());
    assert!(transport.next().now_or_never().unwrap().is_none());
    assert!(transport.send_message(text("too late")).now_or_never().unwrap().unwrap_err().is_closed());
}

#[test]
fn a_close_is_a_step_and_closes_the_sink() {
    let (mut transport, script): (_, ScriptHandle) = Script::new().expect(text("bye")).close().end().build();
    transport.feed(text("bye")).now_or_never().unwrap().unwrap();
    transport.close().now_or_never().unwrap().unwrap();
    assert!(transport.feed(text("more")).now_or_never().unwrap().unwrap_err().is_closed());
    assert!(transport.next().now_or_never().unwrap().is_none());
    assert!(script.is_done());
}

#[test]
fn another_message_than_the_expected_panics_with_the_difference() {
    let message = panic_of(|| {
        let (mut transport, _script) = Script::<Message>::new().expect(text("this")).build();
        let _ = transport.send_message(text("that")).now_or_never();
    });
    assert!(message.contains("as step 1"), "{message}");
    assert!(message.contains("-     \"this\",") && message.contains("+     \"that\","), "{message}");
}

#[test]
fn one_message_too_many_panics() {
    let message = panic_of(|| {
        let (mut transport, _script) = Script::<Message>::new().expect(text("one")).build();
        let _ = transport.send_message(text("one")).now_or_never();
        let _ = transport.send_message(text("two")).now_or_never();
    });
    assert!(message.contains("sent after the last of the script's 1 steps"), "{message}");
}

#[test]
fn a_send_without_readiness_panics() {
    let message = panic_of(|| {
        let (mut transport, _script) = Script::<Message>::new().stall().expect(text("one")).build();
        let _ = transport.start_send_unpin(text("one"));
    });
    assert!(message.contains("sent without readiness, at step 1 of the script (stall)"), "{message}");
}

#[test]
fn an_early_close_panics() {
    let message = panic_of(|| {
        let (mut transport, _script) = Script::<Message>::new().expect(text("one")).build();
        let _ = transport.close().now_or_never();
    });
    assert!(message.contains("closed at step 1 of the script, which expects"), "{message}");
}

#[test]
fn a_script_that_is_not_finished_panics_at_the_drop_and_tells_what_is_left() {
    let message = panic_of(|| {
        let (mut transport, _script) = Script::<Message>::new().give(text("read")).give(text("unread")).end().build();
        assert_eq!(next(&mut transport), Some(text("read")));
    });
    assert!(message.ends_with("what is left:\n  give Text(\"unread\")\n  end"), "{message}");
}

#[test]
fn an_unfinished_script_does_not_hide_the_panic_of_the_test() {
    let message = panic_of(|| {
        let (_transport, _script) = Script::<Message>::new().end().build();
        panic!("{}", "the test's own");
    });
    assert_eq!(message, "the test's own");
}
