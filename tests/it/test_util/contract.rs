//! Each check finds what breaks its rule, and nothing else does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tower_transport::{
    channel,
    test_util::contract::{Check, Contract, block_on},
};

use crate::test_util::broken::{Broken, Fault};

/// The checks that fail, and what they say.
fn failures(fault: Fault) -> Vec<(Check, String)> {
    let contract = Contract::new(
        async || {
            let (here, there) = channel(4);
            (Broken::new(here, fault), there)
        },
        |i: usize| i,
    );
    let run = |check| {
        let panic = catch_unwind(AssertUnwindSafe(|| block_on(contract.check(check)))).err()?;
        Some((check, panic.downcast_ref::<String>().expect("a message").clone()))
    };
    Check::ALL.into_iter().filter_map(run).collect()
}

#[track_caller]
fn only(fault: Fault, check: Check, says: &str) {
    each(fault, &[check], says);
}

/// For what breaks several rules at once.
#[track_caller]
fn each(fault: Fault, checks: &[Check], says: &str) {
    let failures = failures(fault);
    let names: Vec<_> = failures.iter().map(|(check, _)| *check).collect();
    assert_eq!(names, checks, "{fault:?}: {failures:#?}");
    for (check, message) in &failures {
        for part in [format!("contract broken: {check}\n"), check.rule().to_owned(), says.to_owned()] {
            assert!(message.contains(&part), "{message:?} does not say {part:?}");
        }
    }
}

#[test]
fn the_layer_without_a_fault_keeps_the_contract() {
    assert!(failures(Fault::Nothing).is_empty(), "{:#?}", failures(Fault::Nothing));
}

#[test]
fn readiness_finds_a_place_that_is_forgotten() {
    only(Fault::ForgetsAPlaceItGave, Check::Readiness, "was Ready, and then Pending");
}

#[test]
fn readiness_finds_a_place_that_a_flush_uses() {
    only(Fault::LetsAFlushUseThePlace, Check::Readiness, "Pending after a poll_flush");
}

#[test]
fn back_pressure_finds_a_buffer_without_a_bound() {
    only(Fault::HasNoBound, Check::BackPressure, "more than 65536 messages were accepted");
}

#[test]
fn order_finds_a_message_that_is_lost() {
    only(Fault::LosesOne, Check::Order, "message 150 arrived where message 149 was due");
}

#[test]
fn order_finds_two_messages_that_changed_places() {
    only(Fault::SwapsTwo, Check::Order, "message 150 arrived where message 149 was due");
}

#[test]
fn order_finds_a_message_that_is_repeated() {
    only(Fault::RepeatsOne, Check::Order, "message 149 arrived, and nothing was due");
}

#[test]
fn order_finds_a_message_that_is_changed() {
    only(Fault::ChangesOne, Check::Order, "a message that was never sent: 100149 arrived where message 149 was due");
}

#[test]
fn flush_finds_a_flush_that_is_only_claimed() {
    only(Fault::ClaimsToHaveFlushed, Check::Flush, "poll_flush was Ready, but");
}

#[test]
fn cancellation_finds_a_dropped_send_that_is_repeated() {
    // And the check of the readiness, which asks for the next place before it flushes, as a dropped send does.
    each(Fault::RepeatsASendThatWasDropped, &[Check::Readiness, Check::Cancellation], "arrived");
}

#[test]
fn close_finds_a_close_that_the_peer_never_sees() {
    only(Fault::SwallowsTheClose, Check::Close, "the peer's stream does not end");
}

#[test]
fn close_finds_the_last_messages_lost() {
    only(Fault::LosesTheLastAtTheClose, Check::Close, "ended before all that had been accepted");
}

#[test]
fn close_finds_a_closed_sink_that_takes_messages() {
    only(Fault::IsReadyWhenClosed, Check::Close, "poll_ready of a closed sink is Ready");
}

#[test]
fn cut_finds_a_sink_that_swallows_messages_for_a_peer_that_is_gone() {
    only(Fault::SwallowsWhatNobodyReads, Check::Cut, "the peer is gone, but the sink does not fail");
}

#[test]
fn cut_finds_an_error_that_does_not_say_closed() {
    only(Fault::HidesThatItIsClosed, Check::Cut, "fails with another error: something went wrong");
}

#[test]
fn wake_ups_finds_a_reader_that_is_forgotten() {
    only(Fault::ForgetsTheReader, Check::WakeUps, "poll_next was Pending, a message was flushed");
}

#[test]
fn wake_ups_finds_a_writer_that_is_forgotten() {
    only(Fault::ForgetsTheWriter, Check::WakeUps, "poll_ready was Pending, the peer read");
}

#[test]
fn wake_ups_finds_that_an_older_waker_is_woken() {
    only(Fault::WakesTheFirstWaker, Check::WakeUps, "the newest waker was not woken");
}

#[test]
fn wake_ups_finds_one_waker_for_both_halves() {
    only(Fault::HasOneWakerForBothHalves, Check::WakeUps, "the reader was not woken");
}

#[test]
fn duplex_finds_a_reader_that_waits_for_the_writer() {
    only(Fault::ReadsOnlyWhenItMayWrite, Check::Duplex, "while the outgoing");
}

#[test]
fn what_is_ready_without_room_is_found_wherever_nobody_reads() {
    let checks = [Check::BackPressure, Check::Duplex, Check::Cancellation, Check::WakeUps];
    each(Fault::IsReadyWithoutRoom, &checks, "start_send failed right after poll_ready was Ready");
}

#[test]
fn a_stream_that_forgets_its_end_is_found_by_every_end() {
    each(Fault::ForgetsTheEnd, &[Check::Close, Check::Cut], "Pending");
}
