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
    transport::OutlivesConnection,
};

use super::{Row, message, through};

/// As `OptimizedBuilder::new()` builds it: what this layer accepts is kept, and the resume layer below holds it.
pub(crate) const RECONNECT: &str = "+ reconnect";
pub(crate) const FAIL: &str = "+ reconnect, fail";
/// Where no layer below holds the messages, so that this one clones each of them.
pub(crate) const KEEP: &str = "+ reconnect, keep";

pub(super) fn rows() -> Vec<Row> {
    vec![
        Row { name: RECONNECT, run: |messages| through(layer_fn(as_shipped::<Channel>), message(), messages) },
        Row {
            name: FAIL,
            run: |messages| {
                through(layer_fn(|channel: Channel| connected(channel, WhenLost::Fail, false)), message(), messages);
            },
        },
        Row {
            name: KEEP,
            run: |messages| {
                through(layer_fn(|channel: Channel| connected(channel, keep(), false)), message(), messages);
            },
        },
    ]
}

fn keep() -> WhenLost<Message> {
    WhenLost::Keep(Keep::messages())
}

/// As `OptimizedBuilder::new()` has it over its resume layer, whose own cost has rows of its own.
pub(super) fn as_shipped<T>(
    transport: T,
) -> impl Transport<Message, In = Message, TransportError = Error> + Unpin + use<T>
where
    T: Transport<Message, In = Message> + Unpin,
{
    connected(transport, keep(), true)
}

/// Over a connector whose one connection is this transport, and connected.
fn connected<T>(
    transport: T,
    when_lost: WhenLost<Message>,
    outlives: bool,
) -> impl Transport<Message, In = Message, TransportError = Error> + Unpin + use<T>
where
    T: Transport<Message, In = Message> + Unpin,
{
    let mut transport = Some(transport);
    let connector = service_fn(move |_: Request<()>| {
        let Some(transport) = transport.take() else {
            return ready(Err(Error::refused("there is one connection only")));
        };
        let mut response = Response::new(transport);
        if outlives {
            response.extensions_mut().insert(OutlivesConnection);
        }
        ready(Ok(response))
    });
    let layer = ReconnectLayer::new("ws://example.com/", Backoff::none()).when_lost(when_lost);
    let mut transport = layer.layer(connector);
    assert!(matches!(transport.poll_next_unpin(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    transport
}
