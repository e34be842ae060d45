//! The server's half of each case. It is given the connections, and runs natively.

use std::{collections::HashMap, future::ready, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{
    sync::{
        Barrier,
        mpsc::{UnboundedReceiver, unbounded_channel},
    },
    task::JoinSet,
};
use tower::{ServiceBuilder, service_fn};
use tower_transport::{
    Error, QueueConfig, ServiceBuilderExt, TransportExt,
    codec::RkyvCodec,
    layer::{
        compression::CompressionLayer,
        resume::{Accepted, SessionId, SessionStore},
    },
    service::{Server, Tagged},
    stack::{Capabilities, OptimizedAcceptor, OptimizedTransport},
};

use super::{
    ACK_DELAY, CLIENT, End, Pings, REPLAY, SERVER, Wire, batch,
    client::{EACH, Leaves, SENDERS, closes, ends, hear_all, is_closed, send_all, speak},
    deflate, doubled, heartbeat, optimized, rate,
    value::{Value, codec, noise},
};

/// A connection at the server.
pub struct Arrival {
    pub wire: Wire,
    /// Whether the handshake chose [`OptimizedAcceptor::SUBPROTOCOL`].
    pub is_known: bool,
}

/// The connections of a case.
pub struct Host {
    pub arrivals: UnboundedReceiver<Arrival>,
    pub pings: Pings,
    /// Both halves wait here until the other has heard all.
    pub meet: Arc<Barrier>,
}

impl Host {
    async fn wire(&mut self) -> Wire {
        self.arrivals.recv().await.unwrap().wire
    }
}

/// Accepts sessions of the whole layered stack. One that its client never heard of is among them, where a cut was early.
pub fn sessions(mut arrivals: UnboundedReceiver<Arrival>, pings: Pings) -> UnboundedReceiver<(SessionId, End)> {
    let store = SessionStore::<Wire>::new().ack_delay(ACK_DELAY).replay_bytes(REPLAY);
    let (begun, sessions) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(arrival) = arrivals.recv().await {
            let layers = ServiceBuilder::new().layer(CompressionLayer::new(deflate()));
            let wire = match pings {
                Pings::Its => layers.layer(heartbeat()).service(arrival.wire).into_boxed(),
                Pings::Answered => layers.layer(heartbeat().answer_pings()).service(arrival.wire).into_boxed(),
                Pings::Messages => layers.layer(heartbeat().application_level()).service(arrival.wire).into_boxed(),
            };
            let (store, begun) = (store.clone(), begun.clone());
            tokio::spawn(async move {
                if let Ok(Accepted::New(session)) = store.accept(wire).await {
                    let id = session.id();
                    let end = ServiceBuilder::new().codec(codec()).batch(batch()).layer(rate()).service(session);
                    let _ = begun.send((id, end.into_boxed()));
                }
            });
        }
    });
    sessions
}

/// Returns the session that said and heard all. One that the client never heard of ends with the case.
async fn converse(host: Host, values: u64, leaves: Leaves) -> SessionId {
    let Host { arrivals, pings, meet } = host;
    let mut sessions = sessions(arrivals, pings);
    let mut speaking = JoinSet::new();
    loop {
        tokio::select! {
            Some((id, session)) = sessions.recv() => {
                let meet = meet.clone();
                speaking.spawn(async move {
                    speak(session, SERVER, CLIENT, values, meet.wait(), leaves).await;
                    id
                });
            }
            Some(done) = speaking.join_next() => return done.expect("the server hears all"),
        }
    }
}

pub async fn values_arrive_in_order_both_ways(host: Host) -> SessionId {
    converse(host, 2000, Leaves::AfterTheOther).await
}

pub async fn a_session_that_its_client_closes_is_over_at_the_server(host: Host) -> SessionId {
    converse(host, 10, Leaves::AfterTheOther).await
}

pub async fn wherever_connections_are_cut_nothing_is_lost_or_doubled(host: Host) -> SessionId {
    converse(host, 3000, Leaves::Dropped).await
}

pub async fn a_batch_that_was_cut_in_two_comes_whole(host: Host) -> SessionId {
    converse(host, 300, Leaves::Dropped).await
}

pub async fn many_senders_lose_none_of_thousands_of_messages(host: Host) {
    let mut sessions = sessions(host.arrivals, host.pings);
    let (_, session) = sessions.recv().await.unwrap();
    let (_sender, mut heard, driver) = session.drive(QueueConfig::values()).into_parts();
    tokio::spawn(driver);
    let mut next = HashMap::new();
    for _ in 0..SENDERS * EACH {
        let value = heard.receive().await.unwrap().unwrap();
        let (from, number) = (value.number >> 32, value.number & 0xffff_ffff);
        let due = next.entry(from).or_insert(0);
        assert_eq!(number, *due, "of sender {from}");
        assert_eq!(value.payload, noise(number as usize % 40, from));
        *due += 1;
    }
    assert_eq!(next.len() as u64, SENDERS);
    host.meet.wait().await;
}

pub async fn messages_from_empty_to_large_arrive_as_they_were_sent(mut host: Host) {
    let mut wire = host.wire().await;
    hear_all(&mut wire).await;
    send_all(&mut wire).await;
    host.meet.wait().await;
}

pub async fn a_close_brings_its_code_and_reason_after_all_that_was_sent(mut host: Host) {
    is_closed(&mut host.wire().await).await;
}

pub async fn a_server_that_closes_brings_its_code_and_reason(mut host: Host) {
    closes(&mut host.wire().await).await;
}

pub async fn a_client_that_is_dropped_ends_the_server(mut host: Host) {
    let wire = host.wire().await;
    host.meet.wait().await;
    ends(wire).await;
}

pub async fn a_server_that_is_dropped_ends_the_client(mut host: Host) {
    let wire = host.wire().await;
    host.meet.wait().await;
    drop(wire);
}

/// Sends back what comes in.
async fn echo(transport: OptimizedTransport<Wire>) {
    let (sender, mut receiver) = transport.split();
    while let Some(Ok(message)) = receiver.receive().await {
        if message.is_data() && sender.send(message).await.is_err() {
            return;
        }
    }
}

/// Serves the recommended stack until the client has heard all.
async fn serve_optimized(mut host: Host) {
    let acceptor: OptimizedAcceptor<Wire> = optimized(host.pings).acceptor();
    tokio::spawn(async move {
        while let Some(arrival) = host.arrivals.recv().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(Some(session)) = acceptor.accept_over(arrival.wire, arrival.is_known).await {
                    echo(session).await;
                }
            });
        }
    });
    host.meet.wait().await;
}

pub async fn the_recommended_stack_agrees_on_all_it_has(host: Host) {
    serve_optimized(host).await;
}

pub async fn the_recommended_stack_loses_nothing_where_it_is_cut(host: Host) {
    serve_optimized(host).await;
}

pub async fn a_peer_that_knows_nothing_gets_plain_messages(mut host: Host) {
    let arrival = host.arrivals.recv().await.unwrap();
    assert!(!arrival.is_known);
    let acceptor: OptimizedAcceptor<Wire> = optimized(host.pings).acceptor();
    let session = acceptor.accept_over(arrival.wire, false).await.unwrap().unwrap();
    assert_eq!(session.capabilities(), Capabilities::NONE);
    echo(session).await;
}

pub async fn a_service_answers_calls_in_order(mut host: Host) {
    let wire = ServiceBuilder::new().codec(RkyvCodec::<Value>::new()).service(host.wire().await);
    let ended = Server::in_order(wire, service_fn(|value| ready(Ok::<_, Error>(doubled(value))))).await;
    // A client that hangs up ends the server, without an error if the transport has a closing handshake.
    assert!(ended.as_ref().map_or_else(Error::is_closed, |()| true), "{ended:?}");
}

pub async fn a_service_answers_many_calls_at_once_as_they_finish(mut host: Host) {
    let wire = ServiceBuilder::new().codec(RkyvCodec::<Tagged<Value>>::new()).service(host.wire().await).into_boxed();
    // Each takes another time, so that answers overtake one another.
    let service = service_fn(async |value: Value| {
        tokio::time::sleep(Duration::from_millis(value.number * 7 % 5)).await;
        Ok::<_, Error>(doubled(value))
    });
    let _ = Server::as_they_finish(wire, service).concurrency(NonZeroUsize::new(32).unwrap()).await;
}
