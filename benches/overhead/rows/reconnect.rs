use std::{
    future::ready,
    task::{Context, Poll, Waker},
};

use futures_util::StreamExt;
use http::{Request, Response};
use tower::{layer::layer_fn, service_fn};
use tower_layer::Layer;
use tower_transport::{
    Channel, Error, Message, Transport,
    layer::reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
};

use super::{Row, message, through};

pub(crate) const RECONNECT: &str = "+ reconnect";
pub(crate) const KEEP: &str = "+ reconnect, keep";

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: RECONNECT,
            run: |messages| through(layer_fn(|channel| connected(channel, WhenLost::Fail)), message(), messages),
        },
        Row {
            name: KEEP,
            run: |messages| {
                let keep = || WhenLost::Keep(Keep::messages());
                through(layer_fn(|channel: Channel| connected(channel, keep())), message(), messages);
            },
        },
    ]
}

/// Over a connector whose one connection is this transport, and connected.
pub(super) fn connected<T>(
    transport: T,
    when_lost: WhenLost<Message>,
) -> impl Transport<Message, In = Message, TransportError = Error> + Unpin + use<T>
where
    T: Transport<Message, In = Message> + Unpin,
{
    let mut transport = Some(transport);
    let connector = service_fn(move |_: Request<()>| {
        ready(transport.take().map(Response::new).ok_or_else(|| Error::refused("there is one connection only")))
    });
    let layer = ReconnectLayer::new("ws://example.com/", Backoff::none()).when_lost(when_lost);
    let mut transport = layer.layer(connector);
    assert!(matches!(transport.poll_next_unpin(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    transport
}
