use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};

use futures_util::{FutureExt, SinkExt, StreamExt};
use tower::{Layer, Service};
use tower_transport::{
    Channel, Error, Message, channel,
    layer::resume::{Accepted, ResumeLayer, ResumedTransport, Session, SessionStore},
};

use super::{Row, message};

pub(super) fn rows() -> Vec<Row> {
    vec![Row { name: "+ resume, to the server", run: there }, Row { name: "+ resume, to the client", run: back }]
}

/// Both ends of one session, over the channel that the other rows use.
fn pair() -> (ResumedTransport<Channel>, Session<Channel>) {
    let (near, far) = channel::<Message, Message>(8);
    let mut near = Some(near);
    let connector = tower::service_fn(move |_: http::Request<()>| {
        std::future::ready(near.take().map(http::Response::new).ok_or_else(|| Error::refused("one connection only")))
    });
    let mut client = ResumeLayer::new().layer(connector);
    let store = SessionStore::new();
    let mut both = pin!(futures_util::future::join(client.call(http::Request::new(())), store.accept(far)));
    // The hello, and its answer.
    let _ = both.as_mut().now_or_never();
    let Some((Ok(response), Ok(Accepted::New(session)))) = both.now_or_never() else { panic!("it is open") };
    (response.into_body(), session)
}

fn there(messages: usize) {
    let (mut near, mut session) = pair();
    run(&mut near, &mut session, messages);
}

fn back(messages: usize) {
    let (mut near, mut session) = pair();
    run(&mut session, &mut near, messages);
}

/// As the other rows do it; and the sender looks for acknowledgements at times, as a driver would.
fn run<A, B>(from: &mut A, to: &mut B, messages: usize)
where
    A: SinkExt<Message> + StreamExt + Unpin,
    B: StreamExt + Unpin,
{
    let mut cx = Context::from_waker(Waker::noop());
    let value = message();
    for number in 0..messages {
        assert!(matches!(from.poll_ready_unpin(&mut cx), Poll::Ready(Ok(()))));
        assert!(from.start_send_unpin(black_box(&value).clone()).is_ok());
        assert!(matches!(from.poll_flush_unpin(&mut cx), Poll::Ready(Ok(()))));
        let Poll::Ready(Some(received)) = to.poll_next_unpin(&mut cx) else { panic!("the message is there") };
        black_box(received);
        if number % 64 == 0 {
            assert!(from.poll_next_unpin(&mut cx).is_pending());
        }
    }
}
