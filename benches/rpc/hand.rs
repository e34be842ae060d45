//! Written by hand: a map of pending calls, a driver task at each end, and a task for each call that is answered.

use std::collections::HashMap;

use futures_util::{FutureExt, SinkExt, StreamExt};
use harness::loopback::Loopback;
use tokio::sync::{mpsc, oneshot};
use tower::ServiceBuilder;
use tower_transport::{
    Limits, ServiceBuilderExt, Transport, codec::MessagePackCodec, service::Tagged, transport::websocket::WebSocket,
};

use crate::{PAYLOAD, Payload, load::Calls};

type Messages = Tagged<Payload>;
type Requests = mpsc::Receiver<(Payload, oneshot::Sender<Payload>)>;

#[derive(Clone)]
pub(crate) struct Hand(mpsc::Sender<(Payload, oneshot::Sender<Payload>)>);

impl Calls for Hand {
    async fn call(&mut self) {
        let (answer, future) = oneshot::channel();
        assert!(self.0.send((PAYLOAD, answer)).await.is_ok(), "the driver is there");
        assert_eq!(future.await.expect("an answer"), PAYLOAD);
    }
}

async fn drive<T>(mut transport: T, mut requests: Requests)
where
    T: Transport<Messages, In = Messages> + Unpin,
{
    let mut pending = HashMap::new();
    let mut tag = 0;
    loop {
        tokio::select! {
            request = requests.recv() => {
                let mut next = request;
                if next.is_none() { return }
                while let Some((value, answer)) = next {
                    tag += 1;
                    pending.insert(tag, answer);
                    if transport.feed(Tagged { tag, value }).await.is_err() { return }
                    next = requests.try_recv().ok();
                }
                if transport.flush().await.is_err() { return }
            }
            answer = transport.next() => {
                let Some(Ok(Tagged { tag, value })) = answer else { return };
                if let Some(answer) = pending.remove(&tag) {
                    let _ = answer.send(value);
                }
            }
        }
    }
}

/// Answers each call from a task of its own, so that a slow one holds up no other.
async fn serve<T>(mut transport: T)
where
    T: Transport<Messages, In = Messages> + Unpin,
{
    let (answers, mut ready) = mpsc::channel(128);
    loop {
        tokio::select! {
            request = transport.next() => {
                let Some(Ok(request)) = request else { return };
                let answers = answers.clone();
                tokio::spawn(async move { answers.send(request).await });
            }
            answer = ready.recv() => {
                let mut next = answer;
                while let Some(answer) = next {
                    if transport.feed(answer).await.is_err() { return }
                    next = ready.try_recv().ok();
                }
                if transport.flush().await.is_err() { return }
            }
        }
    }
}

/// Answers in the loop that reads: less than a peer has to do, for a handler that waits would hold up all others.
async fn serve_inline<T>(mut transport: T)
where
    T: Transport<Messages, In = Messages> + Unpin,
{
    while let Some(Ok(request)) = transport.next().await {
        let mut next = Some(request);
        while let Some(request) = next {
            if transport.feed(request).await.is_err() {
                return;
            }
            next = transport.next().now_or_never().flatten().and_then(Result::ok);
        }
        if transport.flush().await.is_err() {
            return;
        }
    }
}

fn start<T>(transport: T) -> Hand
where
    T: Transport<Messages, In = Messages, TransportError: Send> + Send + Unpin + 'static,
{
    let (calls, requests) = mpsc::channel(128);
    tokio::spawn(drive(transport, requests));
    Hand(calls)
}

pub(crate) async fn channel() -> Hand {
    let (here, there) = tower_transport::channel(128);
    tokio::spawn(serve(there));
    start(here)
}

pub(crate) async fn channel_inline() -> Hand {
    let (here, there) = tower_transport::channel(128);
    tokio::spawn(serve_inline(there));
    start(here)
}

pub(crate) async fn web_socket() -> Hand {
    let (client, server) = Loopback::bind().await.connect().await;
    let codec = || ServiceBuilder::new().codec(MessagePackCodec::<Messages>::new());
    tokio::spawn(serve(codec().service(WebSocket::server(server, Limits::default()))));
    start(codec().service(WebSocket::client(client, Limits::default())))
}
