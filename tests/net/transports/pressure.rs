use std::{num::NonZeroUsize, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tower_transport::{Message, QueueConfig, TransportExt};

use crate::{
    suite::{
        server::sessions,
        value::{Value, noise},
    },
    transports::carrier::{Carrier, Wire},
};

const SIZE: usize = 64 << 10;

/// The maximum in flight: the buffers of both ends and, over sockets, of the operating system in between.
const MOST: usize = (64 << 20) / SIZE;

fn nth(number: usize) -> Message {
    Message::binary(noise(SIZE, number as u64))
}

/// Writes until the transport takes no more for a while. How many it took.
async fn fill(wire: &mut Wire) -> usize {
    let mut taken = 0;
    while let Ok(sent) = timeout(Duration::from_millis(200), wire.feed(nth(taken))).await {
        sent.unwrap();
        taken += 1;
        assert!(taken < MOST, "nothing holds the writer up");
    }
    taken
}

pub(crate) async fn a_reader_that_rests_holds_up_the_writer<C: Carrier>() {
    let (mut near, mut far) = C::open(Vec::new()).await.connect().await;
    for is_back in [false, true] {
        let (writer, reader) = if is_back { (&mut far, &mut near) } else { (&mut near, &mut far) };
        let taken = fill(writer).await;
        // When the other reads it goes on, without a gap.
        let writing = async { writer.send(nth(taken)).await.unwrap() };
        let reading = async {
            for number in 0..=taken {
                assert!(reader.next().await.unwrap().unwrap() == nth(number), "number {number}");
            }
        };
        tokio::join!(writing, reading);
    }
}

pub(crate) async fn a_reader_that_rests_does_not_hold_up_what_it_writes_itself<C: Carrier>() {
    let (near, far) = C::open(Vec::new()).await.connect().await;
    let (mut near_sink, mut near_stream) = TransportExt::into_split(near);
    let (mut far_sink, far_stream) = TransportExt::into_split(far);
    // The client writes all it can, and the server reads nothing of it.
    let filling = tokio::spawn(async move {
        for number in 0.. {
            if near_sink.send(nth(number)).await.is_err() {
                break;
            }
        }
    });
    for number in 0..100 {
        far_sink.send(Message::text(format!("{number}"))).await.unwrap();
        assert_eq!(near_stream.next().await.unwrap().unwrap(), Message::text(format!("{number}")));
    }
    drop(far_stream);
    filling.abort();
}

/// Through the whole stack and a driver: in the end the sender is held up.
pub(crate) async fn a_reader_that_rests_holds_up_the_senders_of_the_whole_stack<C: Carrier>() {
    let (target, host, _) = C::open(Vec::new()).await.halves::<C>();
    let (client, ..) = target.stack();
    let mut sessions = sessions(host.arrivals, host.pings);
    let (sender, _receiver, driver) = client.drive(QueueConfig::values().max_messages(NonZeroUsize::MIN)).into_parts();
    tokio::spawn(driver);
    let (_, mut session) = sessions.recv().await.unwrap();
    let value = |number| Value { number, payload: noise(SIZE, number) };
    let mut taken = 0;
    while let Ok(sent) = timeout(Duration::from_millis(300), sender.send(value(taken))).await {
        sent.unwrap();
        taken += 1;
        assert!(taken < MOST as u64, "nothing holds the senders up");
    }
    let sending = async {
        sender.send(value(taken)).await.unwrap();
    };
    let hearing = async {
        for number in 0..=taken {
            assert!(session.next().await.unwrap().unwrap() == value(number), "number {number}");
        }
    };
    tokio::join!(sending, hearing);
}
