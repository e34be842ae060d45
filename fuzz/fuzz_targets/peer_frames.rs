//! Frames for both roles of a peer of calls, four bytes each: the kind, the number of the call, and two of contents. A
//! call and a stream with requests of this end are in flight. Whatever comes, the peer neither panics nor holds more than
//! its bounds, and either it ends with an error of the protocol or a full queue, or it still answers.
#![no_main]

use std::{
    num::{NonZeroU32, NonZeroUsize},
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, SinkExt, Stream, StreamExt, future::BoxFuture, stream};
use libfuzzer_sys::fuzz_target;
use tower_service::Service;
use tower_transport::{
    channel,
    service::peer::{CallOptions, Frame, Frames, IncomingCall, PeerBuilder, Rejection, Reply},
};

type Wire = Frames<u16, u16, u16>;
type Numbers = Pin<Box<dyn Stream<Item = Result<u16, u16>> + Send>>;

const LAST: u64 = 1 << 40;

#[derive(Clone)]
struct Handler;

impl Service<IncomingCall<u16>> for Handler {
    type Response = Reply<u16, Numbers>;
    type Error = u16;
    type Future = BoxFuture<'static, Result<Self::Response, u16>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), u16>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: IncomingCall<u16>) -> Self::Future {
        async move {
            match call.request % 5 {
                0 => Ok(Reply::One(call.request)),
                1 => Ok(Reply::Stream(stream::iter((0..call.request).map(Ok)).boxed())),
                2 => Ok(Reply::Stream(call.requests.map(|request| request.map_err(|_| 0)).boxed())),
                3 => Err(call.request),
                _ => std::future::pending().await,
            }
        }
        .boxed()
    }
}

fn frame(bytes: [u8; 4]) -> Option<Frame<u16, u16, u16>> {
    let [kind, id, high, low] = bytes;
    let (id, value) = (u64::from(id), u16::from_be_bytes([high, low]));
    // Small amounts, and those near the end of a number.
    let amount = if high < 128 { u32::from(low) } else { u32::MAX - u32::from(low) };
    let rejections = [
        Rejection::Overloaded,
        Rejection::ShuttingDown,
        Rejection::TimedOut,
        Rejection::Panicked,
        Rejection::Unsendable,
        Rejection::Streamed,
    ];
    Some(match kind % 13 {
        0 => {
            let mut options = CallOptions::default();
            options.answers = if kind & 16 == 0 { 0 } else { amount };
            options.has_more = kind & 32 != 0;
            Frame::Call { id, request: value, options }
        }
        1 => Frame::Request { id, request: value },
        2 => Frame::RequestsEnd { id },
        3 => Frame::RequestCredit { id, requests: amount },
        4 => Frame::Accepted { id },
        5 => Frame::Item { id, answer: value },
        6 => Frame::AnswerCredit { id, answers: amount },
        7 => Frame::Answer { id, answer: (value % 2 == 0).then_some(value) },
        8 => Frame::Failure { id, failure: value },
        9 => Frame::Rejected { id, reason: rejections[usize::from(low) % rejections.len()] },
        10 => Frame::Cancel { id },
        11 => Frame::Notification { request: value },
        _ => return None,
    })
}

fuzz_target!(|input: &[u8]| {
    let (mut far, near) = channel(16);
    let limit = NonZeroUsize::new(8).unwrap_or(NonZeroUsize::MIN);
    let settings = PeerBuilder::new(Wire::new()).max_calls(limit).max_incoming_calls(limit);
    let (mut caller, mut peer) = settings.window(NonZeroU32::new(3).unwrap_or(NonZeroU32::MIN)).build(near, Handler);
    let mut unary = caller.clone();
    let ready = unary.poll_ready(&mut Context::from_waker(futures_util::task::noop_waker_ref()));
    assert!(ready.is_ready());
    let mut call = Some(unary.call(1));
    let mut stream = Some(caller.stream(2, true).now_or_never().expect("there is a place").expect("it has not ended"));
    let mut ended = None;
    for bytes in input.chunks_exact(4).take(1000) {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        match frame(bytes) {
            Some(frame) => {
                let _ = far.feed(frame).now_or_never();
            }
            // Steps of this end, in place of a frame.
            None => match bytes[1] % 6 {
                0 => drop(call.take()),
                1 => drop(stream.take()),
                2 => {
                    let _ = stream.as_mut().and_then(|stream| stream.next().now_or_never());
                }
                3 => {
                    let _ = stream.as_mut().and_then(|stream| stream.send(7).now_or_never());
                }
                4 => while let Some(Some(_)) = far.next().now_or_never() {},
                _ => {
                    let _ = caller.notify(9);
                }
            },
        }
        if ended.is_none() {
            ended = (&mut peer).now_or_never();
        }
        assert!(caller.in_flight() <= 8);
    }
    for _ in 0..20 {
        while let Some(Some(_)) = far.next().now_or_never() {}
        if ended.is_none() {
            ended = (&mut peer).now_or_never();
        }
    }
    match ended {
        Some(Err(error)) => assert!(error.is_protocol() || error.is_closed(), "{error}"),
        Some(Ok(())) => panic!("nobody closed it"),
        None => {
            // A call is answered, or told that there are too many.
            let request = Frame::Call { id: LAST, request: 5, options: CallOptions::default() };
            assert!(far.send(request).now_or_never().is_some_and(|sent| sent.is_ok()), "it does not read");
            for _ in 0..20 {
                assert!((&mut peer).now_or_never().is_none());
                while let Some(Some(Ok(frame))) = far.next().now_or_never() {
                    if let Frame::Answer { id: LAST, .. } | Frame::Rejected { id: LAST, .. } = frame {
                        return;
                    }
                }
            }
            panic!("the peer no longer answers");
        }
    }
});
