//! A byte for the role (lowest bit: 0 the peer is a client, 1 a server) and whether the peer begins well (second bit),
//! then what it sends: a length of two bytes, a kind of mark (over 7: no mark), a body. Messages and an error that says
//! which of both is at fault, and the end.
#![no_main]

use futures_util::{FutureExt, SinkExt, StreamExt};
use libfuzzer_sys::fuzz_target;
use tower_service::Service;
use tower_transport::{
    Channel, Error, Message, Transport, channel,
    layer::resume::{Accepted, ResumeLayer, SessionStore},
};

const MARK: [u8; 7] = [3, 0xf8, b't', b't', b'x', 1, 0xff];

fuzz_target!(|input: &[u8]| {
    let Some((&role, mut rest)) = input.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _guard = runtime.enter();
    let (mut peer, own) = channel::<Message, Message>(64);
    if role & 2 != 0 {
        let opening = if role & 1 == 0 { opening(1, 82) } else { opening(2, 74) };
        peer.send(opening).now_or_never().expect("there is room").expect("it is open");
    }
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (entry, after) = after.split_at(length);
        rest = after;
        let Some((&kind, body)) = entry.split_first() else { continue };
        let mark: &[u8] = if kind < 8 { &[&[kind][..], &MARK].concat() } else { &[] };
        let message = Message::binary([body, mark].concat());
        if peer.send(message).now_or_never().is_none() {
            break;
        }
    }
    if role & 1 == 0 {
        match SessionStore::new().accept(own).now_or_never() {
            Some(Ok(Accepted::New(session))) => read(session),
            Some(Ok(Accepted::Resumed)) => panic!("there was no session"),
            Some(Err(error)) => check(&error),
            None => {}
        }
    } else {
        let mut own = Some(own);
        let connector = Connector(move || own.take());
        let mut connector = tower_layer::Layer::layer(&ResumeLayer::new(), connector);
        match connector.call(http::Request::new(())).now_or_never() {
            Some(Ok(response)) => read(response.into_body()),
            Some(Err(error)) => check(&error),
            None => {}
        }
    }
});

/// A hello or welcome that begins a session: all but the version is zero.
fn opening(kind: u8, length: usize) -> Message {
    let mut body = vec![0; length];
    body[0] = 1;
    Message::binary([&body[..], &[kind], &MARK].concat())
}

fn check(error: &Error) {
    assert!(error.is_protocol() || error.is_closed(), "{error:?}");
}

/// All that the peer said, after two messages of our own that it may acknowledge.
fn read<T>(mut transport: T)
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    for _ in 0..2 {
        let _ = transport.send(Message::text("x")).now_or_never();
    }
    for _ in 0..200 {
        match transport.next().now_or_never() {
            Some(Some(Ok(_))) => {}
            Some(Some(Err(error))) => {
                check(&error);
                assert!(transport.next().now_or_never().expect("it has ended").is_none());
                return;
            }
            Some(None) | None => return,
        }
    }
    panic!("more messages than there were");
}

/// A connector of the one connection that there is.
struct Connector<F>(F);

impl<F: FnMut() -> Option<Channel>> Service<http::Request<()>> for Connector<F> {
    type Response = http::Response<Channel>;
    type Error = Error;
    type Future = std::future::Ready<Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<()>) -> Self::Future {
        std::future::ready((self.0)().map(http::Response::new).ok_or_else(|| Error::refused("one connection only")))
    }
}
