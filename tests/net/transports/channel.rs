//! In memory; what is cut is cut between two messages.

use std::{
    future::ready,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use tower::service_fn;
use tower_transport::{Channel, Error, Message, channel};

use crate::transports::carrier::{Carrier, Cuts, Door, Route, SUBPROTOCOL, dial};

pub(crate) struct Channels;

/// Carries this many messages in total, then drops both ends. Returns whether it did.
async fn carry(mut near: Channel, mut far: Channel, messages: usize) -> bool {
    for _ in 0..messages {
        let (message, target) = tokio::select! {
            message = near.next() => (message, &mut far),
            message = far.next() => (message, &mut near),
        };
        let Some(Ok(message)) = message else { return false };
        if target.send(message).await.is_err() {
            return false;
        }
    }
    true
}

impl Carrier for Channels {
    const NEEDS_ANSWERS: bool = true;
    const UNITS: usize = 6;

    async fn open(budgets: Vec<usize>) -> Route {
        let (door, arrivals) = Door::new();
        let cuts = Cuts::default();
        let (counted, budgets) = (cuts.clone(), Arc::new(Mutex::new(budgets.into_iter())));
        let connector = service_fn(move |request: http::Request<()>| {
            let (near, link) = channel::<Message, Message>(4);
            let far = match budgets.lock().unwrap().next() {
                Some(budget) => {
                    let (there, far) = channel::<Message, Message>(4);
                    let cuts = counted.clone();
                    tokio::spawn(async move {
                        let is_cut = carry(link, there, budget).await;
                        cuts.fetch_add(usize::from(is_cut), Relaxed);
                    });
                    far
                }
                None => link,
            };
            let mut response = http::Response::new(near);
            let is_known = request.headers().contains_key(SEC_WEBSOCKET_PROTOCOL);
            if is_known {
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
            }
            door.enter(far, is_known);
            ready(Ok::<_, Error>(response))
        });
        Route { dial: dial(connector), url: "ws://channel.test/".to_owned(), arrivals, cuts }
    }
}
