use std::{
    future::ready,
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use futures_sink::Sink;
use futures_util::StreamExt;
use http::{Request, Response};
use tower::{layer::layer_fn, service_fn};
use tower_layer::Layer;
use tower_transport::{
    Channel, Error, Message,
    layer::reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
};

use super::{Row, message, through};

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { name: "+ reconnect", run: |messages| through(connected(|| WhenLost::Fail), message(), messages) },
        Row {
            name: "+ reconnect, keep",
            run: |messages| through(connected(|| WhenLost::Keep(Keep::messages())), message(), messages),
        },
    ]
}

/// At both ends, over a connector whose one connection is the channel, and connected.
fn connected(when_lost: fn() -> WhenLost<Message>) -> impl Layer<Channel, Service: Sink<Message> + Stream + Unpin> {
    layer_fn(move |channel: Channel| {
        let mut channel = Some(channel);
        let connector = service_fn(move |_: Request<()>| {
            ready(channel.take().map(Response::new).ok_or_else(|| Error::refused("there is one connection only")))
        });
        let layer = ReconnectLayer::new("ws://example.com/", Backoff::none()).when_lost(when_lost());
        let mut transport = layer.layer(connector);
        assert!(matches!(transport.poll_next_unpin(&mut Context::from_waker(Waker::noop())), Poll::Pending));
        transport
    })
}
