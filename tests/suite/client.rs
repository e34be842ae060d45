//! The client's half of each case. It needs no runtime, so that it runs in a page too.

use std::{future::Future, pin::pin, time::Duration};

use futures_util::{
    SinkExt, StreamExt,
    future::{Either, LocalBoxFuture, join, join_all, select},
};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_transport::{
    Error, MaybeSend, MaybeSync, Message, QueueConfig, ServiceBuilderExt, TransportExt,
    codec::RkyvCodec,
    layer::{
        compression::CompressionLayer,
        reconnect::Backoff,
        resume::{ResumeHandle, ResumeLayer, SessionId, Verdict},
    },
    service::{Client, Tagged},
    stack::OptimizedTransport,
};

use super::{
    ACK_DELAY, CLIENT, End, Pings, REPLAY, SERVER, Wire, batch, before_close, close_frame, deflate, doubled, heartbeat,
    nth_message, of_all_sizes, optimized, rate,
    value::{Value, codec, noise, nth},
};

/// The connector of a transport under test.
pub trait Dial:
    Service<http::Request<()>, Response = http::Response<Wire>, Error = Error, Future: MaybeSend + 'static>
    + Clone
    + MaybeSend
    + MaybeSync
    + 'static
{
}

impl<D> Dial for D where
    D: Service<http::Request<()>, Response = http::Response<Wire>, Error = Error, Future: MaybeSend + 'static>
        + Clone
        + MaybeSend
        + MaybeSync
        + 'static
{
}

/// The transport under test, and where it connects to.
pub struct Target<D> {
    pub dial: D,
    pub url: String,
    pub pings: Pings,
    /// Resolves once the server's half has come as far. Until then nothing may be dropped.
    pub meet: LocalBoxFuture<'static, ()>,
}

impl<D: Dial> Target<D> {
    /// Connects as a client that offers nothing.
    pub async fn connect(&self) -> http::Response<Wire> {
        let request = http::Request::get(&self.url).body(()).unwrap();
        self.dial.clone().oneshot(request).await.unwrap()
    }

    async fn wire(&self) -> Wire {
        self.connect().await.into_body()
    }

    /// The whole layered stack.
    pub fn stack(self) -> (End, ResumeHandle, LocalBoxFuture<'static, ()>) {
        let resume = ResumeHandle::new();
        let layer = ResumeLayer::new().handle(resume.clone()).ack_delay(ACK_DELAY).replay_bytes(REPLAY);
        let layers = ServiceBuilder::new()
            .codec(codec())
            .batch(batch())
            .layer(rate())
            .reconnect(self.url, Backoff::fixed(Duration::from_millis(2)))
            .layer(layer)
            .per_connection(CompressionLayer::new(deflate()));
        let end = match self.pings {
            Pings::Its => layers.per_connection(heartbeat()).service(self.dial).into_boxed(),
            Pings::Answered => layers.per_connection(heartbeat().answer_pings()).service(self.dial).into_boxed(),
            Pings::Messages => layers.per_connection(heartbeat().application_level()).service(self.dial).into_boxed(),
        };
        (end, resume, self.meet)
    }
}

/// Fails when the session of `resume` is lost before `work` is done.
pub async fn unless_lost<F: Future>(resume: &ResumeHandle, work: F) -> F::Output {
    let mut verdicts = resume.verdicts();
    let watching = async move {
        loop {
            let verdict = verdicts.changed().await;
            assert!(!matches!(verdict, Verdict::Fresh { .. }), "the session was lost: {verdict:?}");
        }
    };
    match select(pin!(work), pin!(watching)).await {
        Either::Left((output, _)) => output,
        Either::Right((never, _)) => never,
    }
}

/// How an end leaves a conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Leaves {
    /// It closes, and its driver ends without an error.
    InOrder,
    /// It reads on until the other end has closed.
    AfterTheOther,
    /// It is dropped, and so is the other.
    Dropped,
}

/// Says the first `values` of `own`, and hears as many of the `other`'s, in order. Leaves once the other has, too.
pub async fn speak(end: End, own: u8, other: u8, values: u64, meet: impl Future, leaves: Leaves) {
    let (mut sender, mut receiver, driver) = end.drive(QueueConfig::values()).into_parts();
    let talking = async {
        let saying = async {
            for number in 0..values {
                let said = sender.send(nth(own, number)).await;
                said.unwrap_or_else(|error| panic!("end {own} at {number}: {error:?}"));
            }
            sender.flush().await.unwrap_or_else(|error| panic!("end {own} flushes: {error:?}"));
        };
        let hearing = async {
            for number in 0..values {
                match receiver.receive().await {
                    Some(Ok(value)) => {
                        assert!(value == nth(other, number), "end {own} heard {} for {number}", value.number)
                    }
                    end => panic!("end {own} heard {end:?} for {number}"),
                }
            }
        };
        join(saying, hearing).await;
        meet.await;
        // And nothing comes that was not said.
        if leaves == Leaves::AfterTheOther {
            assert!(receiver.receive().await.is_none());
        }
        drop((sender, receiver));
    };
    match select(pin!(talking), pin!(driver)).await {
        Either::Left(((), driver)) if leaves != Leaves::Dropped => driver.await.unwrap(),
        Either::Left(_) => {}
        // The other end's close may end the driver first.
        Either::Right((ended, talking)) => {
            ended.unwrap();
            talking.await;
        }
    }
}

pub async fn values_arrive_in_order_both_ways<D: Dial>(target: Target<D>) -> SessionId {
    converse(target, 2000, Leaves::InOrder).await
}

pub async fn a_session_that_its_client_closes_is_over_at_the_server<D: Dial>(target: Target<D>) -> SessionId {
    converse(target, 10, Leaves::InOrder).await
}

pub async fn wherever_connections_are_cut_nothing_is_lost_or_doubled<D: Dial>(target: Target<D>) -> SessionId {
    converse(target, 3000, Leaves::Dropped).await
}

/// Early cuts: in the handshake, in the exchange of resume, in the first batches.
pub async fn a_batch_that_was_cut_in_two_comes_whole<D: Dial>(target: Target<D>) -> SessionId {
    converse(target, 300, Leaves::Dropped).await
}

async fn converse<D: Dial>(target: Target<D>, values: u64, leaves: Leaves) -> SessionId {
    let (end, resume, meet) = target.stack();
    let mut id = None;
    // A session that is closed has none.
    let meet = async {
        meet.await;
        id = resume.id();
    };
    unless_lost(&resume, speak(end, CLIENT, SERVER, values, meet, leaves)).await;
    id.unwrap()
}

pub const SENDERS: u64 = 50;
pub const EACH: u64 = 100;

pub async fn many_senders_lose_none_of_thousands_of_messages<D: Dial>(target: Target<D>) {
    let (end, _, meet) = target.stack();
    let (sender, _receiver, driver) = end.drive(QueueConfig::values()).into_parts();
    let sending = (0..SENDERS).map(|from| {
        let sender = sender.clone();
        async move {
            for number in 0..EACH {
                let payload = noise(number as usize % 40, from);
                sender.send(Value { number: from << 32 | number, payload }).await.unwrap();
            }
        }
    });
    let talking = async {
        join_all(sending).await;
        meet.await;
    };
    if let Either::Right((ended, _)) = select(pin!(talking), pin!(driver)).await {
        panic!("the connection ended: {ended:?}");
    }
}

/// The transport as it is: what the layers do to a message is theirs.
pub async fn messages_from_empty_to_large_arrive_as_they_were_sent<D: Dial>(target: Target<D>) {
    let mut wire = target.wire().await;
    send_all(&mut wire).await;
    hear_all(&mut wire).await;
    target.meet.await;
}

pub async fn send_all(wire: &mut Wire) {
    for message in of_all_sizes() {
        wire.send(message).await.unwrap();
    }
}

pub async fn hear_all(wire: &mut Wire) {
    for expected in of_all_sizes() {
        let message = wire.next().await.unwrap().unwrap();
        let (size, is_text) = (message.len(), message.as_text().is_some());
        assert!(message == expected, "{size} bytes, text: {is_text}");
    }
}

pub async fn a_close_brings_its_code_and_reason_after_all_that_was_sent<D: Dial>(target: Target<D>) {
    closes(&mut target.wire().await).await;
}

pub async fn a_server_that_closes_brings_its_code_and_reason<D: Dial>(target: Target<D>) {
    is_closed(&mut target.wire().await).await;
}

pub async fn closes(wire: &mut Wire) {
    for message in before_close() {
        wire.feed(message).await.unwrap();
    }
    wire.send(Message::Close(Some(close_frame()))).await.unwrap();
    wire.close().await.unwrap();
    // Reads on for the answer, as the closing end does.
    while wire.next().await.is_some() {}
    let error: Error = wire.send(Message::text("too late")).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");
}

pub async fn is_closed(wire: &mut Wire) {
    let (mut data, mut close) = (Vec::new(), None);
    while let Some(item) = wire.next().await {
        match item.unwrap() {
            Message::Close(frame) => close = frame,
            message if message.is_data() => data.push(message),
            _ => {}
        }
    }
    assert_eq!((data, close), (before_close(), Some(close_frame())));
    wire.close().await.unwrap();
}

pub async fn a_client_that_is_dropped_ends_the_server<D: Dial>(target: Target<D>) {
    let wire = target.wire().await;
    target.meet.await;
    drop(wire);
}

pub async fn a_server_that_is_dropped_ends_the_client<D: Dial>(target: Target<D>) {
    let wire = target.wire().await;
    target.meet.await;
    ends(wire).await;
}

/// Reads until the end, before which no data comes.
pub async fn ends(mut wire: Wire) {
    while let Some(item) = wire.next().await {
        match item {
            Ok(message) => assert!(!message.is_data(), "{message:?}"),
            Err(error) => assert!(error.is_closed(), "{error:?}"),
        }
    }
}

fn connect_optimized<D: Dial>(target: Target<D>) -> (OptimizedTransport<Wire>, LocalBoxFuture<'static, ()>) {
    // The first connection may be cut too.
    (optimized(target.pings).connect_lazily(target.dial, target.url), target.meet)
}

async fn round_trips(transport: OptimizedTransport<Wire>, messages: u64, meet: impl Future) {
    let (sender, mut receiver) = transport.split();
    let saying = async {
        for number in 0..messages {
            sender.send(nth_message(number)).await.unwrap();
        }
    };
    let hearing = async {
        for number in 0..messages {
            let message = loop {
                let message = receiver.receive().await.expect("it goes on").unwrap();
                if message.is_data() {
                    break message;
                }
            };
            assert!(message == nth_message(number), "number {number}");
        }
    };
    join(saying, hearing).await;
    meet.await;
}

pub async fn the_recommended_stack_agrees_on_all_it_has<D: Dial>(target: Target<D>) {
    let (mut transport, meet) = connect_optimized(target);
    transport.send_message(Message::text("hello")).await.unwrap();
    assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("hello"));
    let agreed = transport.capabilities();
    assert!(agreed.batch() && agreed.compression() && agreed.resume(), "{agreed:?}");
    assert_eq!(transport.handle().resume().unwrap().verdict(), Some(Verdict::New));
    round_trips(transport, 2000, meet).await;
}

pub async fn the_recommended_stack_loses_nothing_where_it_is_cut<D: Dial>(target: Target<D>) {
    let (transport, meet) = connect_optimized(target);
    let handle = transport.handle();
    unless_lost(handle.resume().unwrap(), round_trips(transport, 2000, meet)).await;
}

pub async fn a_peer_that_knows_nothing_gets_plain_messages<D: Dial>(target: Target<D>) {
    let response = target.connect().await;
    assert!(!response.headers().contains_key(http::header::SEC_WEBSOCKET_PROTOCOL));
    let mut wire = response.into_body();
    for message in [Message::text("plain"), nth_message(7), nth_message(9)] {
        wire.send_message(message.clone()).await.unwrap();
        assert!(wire.receive_message().await.unwrap().unwrap() == message);
    }
}

fn request(number: u64) -> Value {
    Value { number, payload: (0..number as u8).collect() }
}

pub async fn a_service_answers_calls_in_order<D: Dial>(target: Target<D>) {
    let wire = target.wire().await;
    let mut client = Client::in_order(ServiceBuilder::new().codec(RkyvCodec::<Value>::new()).service(wire));
    for number in 0..200 {
        assert_eq!(client.ready().await.unwrap().call(request(number)).await.unwrap(), doubled(request(number)));
    }
}

pub async fn a_service_answers_many_calls_at_once_as_they_finish<D: Dial>(target: Target<D>) {
    let wire = target.wire().await;
    let client = Client::by_tag(ServiceBuilder::new().codec(RkyvCodec::<Tagged<Value>>::new()).service(wire));
    let calls: Vec<_> = (0..500).map(|number| client.clone().oneshot(request(number))).collect();
    for (number, answer) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), doubled(request(number as u64)));
    }
    assert_eq!((client.in_flight(), client.unknown_answers()), (0, 0));
}
