use futures_util::{SinkExt, StreamExt};
use tower_transport::{CloseCode, CloseFrame, Error, Message};

use crate::transports::{
    carrier::{Carrier, Wire},
    stack::both,
    talk::converse,
};

/// The messages that `wire` receives until its end: the data, and the close.
async fn all(wire: &mut Wire) -> (Vec<Message>, Option<CloseFrame>) {
    let (mut data, mut close) = (Vec::new(), None);
    while let Some(item) = wire.next().await {
        match item.unwrap() {
            Message::Close(frame) => close = frame,
            message if message.is_data() => data.push(message),
            _ => {}
        }
    }
    (data, close)
}

async fn closes(from: &mut Wire, to: &mut Wire) {
    let frame = CloseFrame::new(CloseCode::new(4321).unwrap(), "enough, é");
    let messages: Vec<_> = (0..50).map(|number| Message::text(format!("{number}").repeat(100))).collect();
    let closing = async {
        for message in &messages {
            from.feed(message.clone()).await.unwrap();
        }
        from.send(Message::Close(Some(frame.clone()))).await.unwrap();
        from.close().await.unwrap();
        // Reads on for the answer, as the closing end does.
        while from.next().await.is_some() {}
        let error: Error = from.send(Message::text("too late")).await.unwrap_err();
        assert!(error.is_closed(), "{error:?}");
    };
    let hearing = async {
        assert_eq!(all(to).await, (messages.clone(), Some(frame.clone())));
        to.close().await.unwrap();
    };
    tokio::join!(closing, hearing);
}

pub(crate) async fn a_close_brings_its_code_and_reason_after_all_that_was_sent<C: Carrier>() {
    let (mut near, mut far) = C::open(Vec::new()).await.connect().await;
    closes(&mut near, &mut far).await;
}

pub(crate) async fn a_server_that_closes_brings_its_code_and_reason<C: Carrier>() {
    let (mut near, mut far) = C::open(Vec::new()).await.connect().await;
    closes(&mut far, &mut near).await;
}

pub(crate) async fn an_end_that_is_dropped_ends_the_other<C: Carrier>() {
    for drops_client in [true, false] {
        let (near, far) = C::open(Vec::new()).await.connect().await;
        let mut left = if drops_client {
            drop(near);
            far
        } else {
            drop(far);
            near
        };
        while let Some(item) = left.next().await {
            match item {
                Ok(message) => assert!(!message.is_data(), "{message:?}"),
                Err(error) => assert!(error.is_closed(), "{error:?}"),
            }
        }
    }
}

pub(crate) async fn a_session_that_its_client_closes_is_over_at_the_server<C: Carrier>() {
    let (near, mut far) = converse(both::<C>(Vec::new()).await, 10).await;
    drop((near.sender, near.receiver));
    near.driving.await.unwrap().unwrap();
    assert!(far.receiver.receive().await.is_none());
    far.driving.await.unwrap().unwrap();
}
