use std::num::NonZeroU32;

use futures_util::{FutureExt, SinkExt, StreamExt, poll};
use tower_transport::{
    Channel, TransportExt, channel, contract_tests,
    test_util::{
        contract::block_on,
        fault::{
            Direction::{Incoming, Outgoing},
            Fault, Faults,
        },
    },
};

fn pair() -> (Fault<Channel<u32>>, Channel<u32>, Faults) {
    let (here, there) = channel(16);
    let faults = Faults::new();
    (here.layer(faults.layer()), there, faults)
}

fn pair_without_a_fault() -> (Fault<Channel<usize>>, Channel<usize>) {
    let (here, there) = channel(1);
    (here.layer(Faults::new().layer()), there)
}
contract_tests!(mod without_a_fault, pair = pair_without_a_fault(), message = |i| i);

/// All that is there.
fn received(end: &mut (impl StreamExt<Item = Result<u32, tower_transport::Error>> + Unpin)) -> Vec<u32> {
    std::iter::from_fn(|| end.next().now_or_never().flatten()).map(Result::unwrap).collect()
}

fn send(
    end: &mut (impl SinkExt<u32, Error = tower_transport::Error> + Unpin),
    messages: impl IntoIterator<Item = u32>,
) {
    for message in messages {
        end.send(message).now_or_never().unwrap().unwrap();
    }
}

#[test]
fn a_stall_holds_one_direction_and_its_end_wakes() {
    let (mut here, mut there, faults) = pair();
    block_on(async {
        faults.stall(Outgoing);
        send(&mut there, [7]);
        assert_eq!(received(&mut here), [7]);
        let mut sending = here.send_message(1);
        assert!(poll!(&mut sending).is_pending());
        faults.resume(Outgoing);
        sending.await.unwrap();
        assert_eq!(received(&mut there), [1]);

        faults.stall(Incoming);
        send(&mut there, [8]);
        let mut receiving = here.receive_message();
        assert!(poll!(&mut receiving).is_pending());
        faults.resume(Incoming);
        assert_eq!(receiving.await.unwrap().unwrap(), 8);
    });
}

#[test]
fn a_stall_holds_the_flush_and_the_close() {
    let (mut here, _there, faults) = pair();
    faults.stall(Outgoing);
    assert!(SinkExt::<u32>::flush(&mut here).now_or_never().is_none());
    assert!(SinkExt::<u32>::close(&mut here).now_or_never().is_none());
    faults.resume(Outgoing);
    SinkExt::<u32>::close(&mut here).now_or_never().unwrap().unwrap();
}

#[test]
fn so_many_messages_are_lost_and_no_more() {
    let (mut here, mut there, faults) = pair();
    faults.lose(Outgoing, 2);
    send(&mut here, 0..5);
    assert_eq!(received(&mut there), [2, 3, 4]);
    faults.lose(Incoming, 1);
    send(&mut there, 0..3);
    assert_eq!(received(&mut here), [1, 2]);
}

#[test]
fn a_seed_says_which_messages_are_lost() {
    let arrived = |seed| {
        let (mut here, mut there, faults) = pair();
        faults.lose_some(Outgoing, NonZeroU32::new(3).unwrap(), seed);
        (0..100)
            .flat_map(|n| {
                send(&mut here, [n]);
                received(&mut there)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(arrived(7), arrived(7));
    assert_ne!(arrived(7), arrived(8));
    assert!((40..90).contains(&arrived(7).len()), "{}", arrived(7).len());
}

#[test]
fn a_slow_peer_takes_one_message_a_permit() {
    let (mut here, mut there, faults) = pair();
    block_on(async {
        faults.permit(Outgoing, 0);
        let mut sending = here.send_message(1);
        assert!(poll!(&mut sending).is_pending());
        faults.permit(Outgoing, 1);
        sending.await.unwrap();
        assert!(poll!(here.send_message(2)).is_pending());
        assert_eq!(received(&mut there), [1]);

        send(&mut there, [1, 2, 3]);
        faults.permit(Incoming, 2);
        assert_eq!(received(&mut here), [1, 2]);
        faults.permit(Incoming, 1);
        assert_eq!(received(&mut here), [3]);
    });
}

#[test]
fn a_cut_wakes_a_reader_and_ends_both_directions() {
    let (mut here, mut there, faults) = pair();
    block_on(async {
        let mut receiving = here.receive_message();
        assert!(poll!(&mut receiving).is_pending());
        faults.cut();
        assert!(receiving.await.unwrap().unwrap_err().is_closed());
        assert!(here.receive_message().await.is_none());
        assert!(here.receive_message().await.is_none());
        assert!(here.send_message(1).await.unwrap_err().is_closed());
    });
    drop(here);
    assert!(there.next().now_or_never().unwrap().is_none());
}

#[test]
fn a_half_open_connection_swallows_everything_and_says_nothing() {
    let (mut here, mut there, faults) = pair();
    faults.half_open();
    // More than there is room for.
    send(&mut here, 0..100);
    assert_eq!(received(&mut there), [0; 0]);
    send(&mut there, [1]);
    drop(there);
    assert!(here.next().now_or_never().is_none());
    faults.cut();
    assert!(here.next().now_or_never().unwrap().unwrap().unwrap_err().is_closed());
}

#[test]
fn a_transport_that_is_wrapped_later_begins_without_a_fault() {
    let (here, _there, faults) = pair();
    faults.cut();
    let (next, mut peer) = channel::<u32, u32>(1);
    let mut next = next.layer(faults.layer());
    send(&mut next, [1]);
    assert_eq!(received(&mut peer), [1]);
    faults.stall(Outgoing);
    assert!(next.send_message(2).now_or_never().is_none());
    drop(here);
}
