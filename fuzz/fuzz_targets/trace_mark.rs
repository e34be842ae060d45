//! A binary message of a peer, received with `propagate`: an error of the protocol, or a message (and a context,
//! perhaps) that is the same when it is sent on. The same bytes as text may be a `traceparent`, which survives being
//! printed.
#![no_main]

use futures_util::{FutureExt, SinkExt, StreamExt};
use libfuzzer_sys::fuzz_target;
use tower_layer::Layer;
use tower_transport::{
    Message, channel,
    layer::trace::{TraceContext, TraceLayer},
};

fuzz_target!(|input: &[u8]| {
    if let Ok(context) = std::str::from_utf8(input).unwrap_or_default().parse::<TraceContext>() {
        assert_eq!(context.to_string().parse::<TraceContext>().expect("what was printed is one"), context);
        assert_eq!(TraceContext::from_bytes(&context.to_bytes()), Some(context));
    }

    let layer = TraceLayer::client("fuzz").propagate(true);
    let (mut peer, here) = channel::<Message, Message>(1);
    let mut here = layer.layer(here);
    peer.send(Message::binary(input.to_vec())).now_or_never().expect("there is room").expect("it is open");
    let message = match here.next().now_or_never().flatten().expect("a message was sent") {
        Ok(message) => message,
        Err(error) => return assert!(error.is_protocol()),
    };
    let context = here.received().and_then(|received| received.context().copied());

    let every = std::num::NonZeroU32::MIN;
    let on = match context {
        Some(context) => layer.clone().sample_one_in(every).context_of(move |_| Some(context)),
        None => layer.clone(),
    };
    let (there, last) = channel::<Message, Message>(1);
    let (mut there, mut last) = (on.layer(there), layer.layer(last));
    there.send(message.clone()).now_or_never().expect("there is room").expect("it is open");
    assert_eq!(last.next().now_or_never().flatten().expect("it was sent").expect("it is well made"), message);
    assert_eq!(last.received().and_then(|received| received.context().copied()), context);
});
