//! Back-pressure, both ways: who does not read holds up who writes, and nothing else.

use futures_util::{FutureExt, SinkExt, StreamExt, future::poll_fn};
use tower_transport::{Limits, Message, TransportExt};

use super::{pair_with, within};

fn message(i: usize) -> Message {
    Message::binary(vec![i as u8; 1024])
}

/// Sends until there is no more room for a while; how many were accepted.
async fn fill(transport: &mut (impl futures_util::Sink<Message, Error = tower_transport::Error> + Unpin)) -> usize {
    let mut accepted = 0;
    let mut waited = 0;
    while waited < 2000 {
        if poll_fn(|cx| std::task::Poll::Ready(transport.poll_ready_unpin(cx))).await.is_ready() {
            transport.start_send_unpin(message(accepted)).unwrap();
            accepted += 1;
            waited = 0;
        } else {
            waited += 1;
            tokio::task::yield_now().await;
        }
        assert!(accepted < 100_000, "no end of it");
    }
    accepted
}

#[tokio::test]
async fn a_handler_that_does_not_read_holds_its_client_up_and_no_more_than_the_bounds_wait() {
    let limits = Limits::new().write_buffer(8 * 1024);
    let (mut client, mut server) = pair_with(limits).await;
    let accepted = fill(&mut client).await;
    // The client's buffer and the server's inbox, each with one message over, and nothing in between.
    assert!((16..=20).contains(&accepted), "{accepted}");
    assert!(client.flush().now_or_never().is_none());
    let read = async {
        for i in 0..accepted {
            assert_eq!(server.next().await.unwrap().unwrap(), message(i));
        }
    };
    let (flushed, ()) = within(futures_util::future::join(client.flush(), read)).await;
    flushed.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_handler_up_and_may_still_send() {
    let (mut client, mut server) = pair_with(Limits::default()).await;
    let accepted = fill(&mut server).await;
    assert!(accepted > 64, "the buffers of the sockets hold more than ours");
    for i in 0..100 {
        within(client.send_message(message(i))).await.unwrap();
        assert_eq!(within(server.next()).await.unwrap().unwrap(), message(i));
    }
    let read = async {
        for i in 0..accepted {
            assert_eq!(client.next().await.unwrap().unwrap(), message(i));
        }
    };
    let (flushed, ()) = within(futures_util::future::join(server.flush(), read)).await;
    flushed.unwrap();
}

#[tokio::test]
async fn a_message_larger_than_every_buffer_passes() {
    let (mut client, mut server) = pair_with(Limits::new().write_buffer(1)).await;
    let large = Message::binary(vec![7; 300_000]);
    for _ in 0..3 {
        let (sent, received) =
            within(futures_util::future::join(client.send_message(large.clone()), server.next())).await;
        sent.unwrap();
        assert!(received.unwrap().unwrap() == large);
        let (sent, received) =
            within(futures_util::future::join(server.send_message(large.clone()), client.next())).await;
        sent.unwrap();
        assert!(received.unwrap().unwrap() == large);
    }
}
