//! Clients and servers over a transport that reconnects.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, Sink, Stream};
use tokio::time::timeout;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_transport::{
    BoxTransport, Channel, CloseCode, Error, QueueConfig, Receiver, Sender, TransportExt, channel,
    layer::reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
    service::{ByTag, Client, Server, Tagged},
    transport::{OutlivesConnection, Resumed},
};

use crate::service::support::{receive, send};

const HOUR: Duration = Duration::from_secs(3600);

type Number = Tagged<u32>;
type Far<Out> = Channel<Out, Out>;

/// The far ends of the connections that were made, and how much room the next one has.
#[derive(Clone)]
struct Peers<Out> {
    far: Arc<Mutex<VecDeque<Far<Out>>>>,
    room: usize,
    /// The session that the answer of each handshake reports: none, a new one, or one that goes on.
    sessions: Arc<Mutex<VecDeque<Session>>>,
}

#[derive(Clone, Copy)]
enum Session {
    Fresh,
    Resumed,
}

impl<Out: Clone + Send + 'static> Peers<Out> {
    fn new() -> Self {
        Self { far: Arc::default(), room: 64, sessions: Arc::default() }
    }

    fn reconnecting(&self, when_lost: WhenLost<Out>) -> BoxTransport<Out, Out> {
        let peers = self.clone();
        let connector = service_fn(move |_: http::Request<()>| {
            let (near, far) = channel::<Out, Out>(peers.room);
            peers.far.lock().unwrap().push_back(far);
            let mut response = http::Response::new(near);
            let session = peers.sessions.lock().unwrap().pop_front();
            if session.is_some() {
                response.extensions_mut().insert(OutlivesConnection);
            }
            if let Some(Session::Resumed) = session {
                response.extensions_mut().insert(Resumed);
            }
            std::future::ready(Ok::<_, Error>(response))
        });
        let layer = ReconnectLayer::new("ws://example.com/", Backoff::fixed(Duration::from_secs(1)));
        layer.when_lost(when_lost).layer(connector).into_boxed()
    }

    /// The oldest connection, once there is one.
    async fn accept(&self) -> Far<Out> {
        let next = async {
            loop {
                let far = self.far.lock().unwrap().pop_front();
                match far {
                    Some(far) => return far,
                    None => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        timeout(HOUR, next).await.expect("nobody connects")
    }
}

/// A driven transport as one.
struct Joined<Out>(Sender<Out, Out>, Receiver<Out, Out>);

impl<Out> Stream for Joined<Out> {
    type Item = Result<Out, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.1).poll_next(cx)
    }
}

impl<Out> Sink<Out> for Joined<Out> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Sink::poll_ready(Pin::new(&mut self.0), cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        Pin::new(&mut self.0).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

fn driven<Out: Send + 'static>(transport: BoxTransport<Out, Out>) -> BoxTransport<Out, Out> {
    let (sender, receiver, driver) = transport.drive(QueueConfig::values()).into_parts();
    tokio::spawn(driver);
    Joined(sender, receiver).into_boxed()
}

fn rejoined(transport: BoxTransport<Number, Number>) -> BoxTransport<Number, Number> {
    let (sink, stream) = TransportExt::into_split(transport);
    Halves(sink, stream).into_boxed()
}

/// The halves of a split transport as one.
struct Halves<S, R>(S, R);

impl<S: Unpin, R: Stream + Unpin> Stream for Halves<S, R> {
    type Item = R::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.1).poll_next(cx)
    }
}

impl<M, S: Sink<M> + Unpin, R: Unpin> Sink<M> for Halves<S, R> {
    type Error = S::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Pin::new(&mut self.0).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), S::Error> {
        Pin::new(&mut self.0).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

fn policies() -> [(&'static str, WhenLost<Number>); 3] {
    [("fail", WhenLost::Fail), ("drop", WhenLost::Drop), ("keep", WhenLost::Keep(Keep::values()))]
}

type Caller = Client<BoxTransport<Number, Number>, u32, u32, ByTag>;

fn call(client: &Caller, number: u32) -> tokio::task::JoinHandle<Result<u32, Error>> {
    tokio::spawn(client.clone().oneshot(number))
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn outcome(call: tokio::task::JoinHandle<Result<u32, Error>>) -> Result<u32, Error> {
    timeout(HOUR, call).await.expect("the call hangs").unwrap()
}

fn is_lost(error: &Error) -> bool {
    error.is_closed() && error.is_rejection() && error.may_have_been_executed()
}

#[tokio::test(start_paused = true)]
async fn every_call_in_flight_ends_at_a_loss_and_the_next_one_works() {
    for (name, when_lost) in policies() {
        for shape in ["plain", "driven", "split", "with a driver of the client"] {
            let peers = Peers::new();
            let transport = peers.reconnecting(when_lost.clone());
            let transport = match shape {
                "driven" => driven(transport),
                "split" => rejoined(transport),
                _ => transport,
            };
            let client: Caller = Client::by_tag(transport);
            if shape.starts_with("with") {
                tokio::spawn(client.drive());
            }
            let calls: Vec<_> = (0..3).map(|number| call(&client, number)).collect();
            settle().await;
            let mut first = peers.accept().await;
            let requests: Vec<_> = std::iter::from_fn(|| receive(&mut first)).collect();
            assert_eq!(requests.len(), 3, "{name}, {shape}");
            send(&mut first, Tagged { tag: requests[1].tag, value: 10 });
            settle().await;
            drop(first);
            let outcomes = futures_util::future::join_all(calls.into_iter().map(outcome)).await;
            assert_eq!(outcomes[1].as_ref().unwrap(), &10, "{name}, {shape}");
            for outcome in [&outcomes[0], &outcomes[2]] {
                let error = outcome.as_ref().unwrap_err();
                assert!(is_lost(error), "{name}, {shape}: {error:?}");
            }
            let next = call(&client, 7);
            let mut second = peers.accept().await;
            settle().await;
            let request = std::iter::from_fn(|| receive(&mut second)).last().expect(shape);
            assert_eq!(request.value, 7, "{name}, {shape}");
            send(&mut second, Tagged { tag: request.tag, value: 14 });
            assert_eq!(outcome(next).await.unwrap(), 14, "{name}, {shape}");
            assert_eq!(client.in_flight(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_sent_yet_is_sent_on_the_next_connection() {
    for (name, when_lost) in [("fail", WhenLost::Fail), ("drop", WhenLost::Drop)] {
        let peers = Peers { room: 1, ..Peers::new() };
        let client: Caller = Client::by_tag(peers.reconnecting(when_lost));
        let sent = call(&client, 1);
        settle().await;
        let waits = call(&client, 2);
        settle().await;
        drop(peers.accept().await);
        assert!(is_lost(&outcome(sent).await.unwrap_err()), "{name}");
        let mut far = peers.accept().await;
        let answered = async {
            loop {
                if let Some(request) = receive(&mut far) {
                    send(&mut far, request);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waits = tokio::select! {
            () = answered => unreachable!(),
            outcome = outcome(waits) => outcome,
        };
        assert_eq!(waits.unwrap(), 2, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_request_that_was_kept_is_nobodys() {
    let peers = Peers::new();
    let client: Caller = Client::by_tag(peers.reconnecting(WhenLost::Keep(Keep::values())));
    // Accepted while there is no connection, and then sent on the second.
    let first = call(&client, 1);
    settle().await;
    drop(peers.accept().await);
    assert!(is_lost(&outcome(first).await.unwrap_err()));
    let next = call(&client, 2);
    settle().await;
    let mut far = peers.accept().await;
    settle().await;
    let request = std::iter::from_fn(|| receive(&mut far)).last().unwrap();
    send(&mut far, Tagged { tag: request.tag - (1 << 10), value: 100 });
    send(&mut far, request);
    assert_eq!(outcome(next).await.unwrap(), 2);
    assert_eq!(client.unknown_answers(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_resumed_fails_no_call_and_a_fresh_one_fails_those_in_flight() {
    for session in [Session::Resumed, Session::Fresh] {
        let peers = Peers::new();
        peers.sessions.lock().unwrap().extend([Session::Fresh, session]);
        let client: Caller = Client::by_tag(peers.reconnecting(WhenLost::Fail));
        let first = call(&client, 1);
        settle().await;
        let mut far = peers.accept().await;
        let request = receive(&mut far).unwrap();
        drop(far);
        let mut far = peers.accept().await;
        settle().await;
        match session {
            Session::Resumed => {
                send(&mut far, request);
                assert_eq!(outcome(first).await.unwrap(), 1);
            }
            Session::Fresh => assert!(is_lost(&outcome(first).await.unwrap_err())),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_order_a_loss_with_calls_in_flight_ends_the_client_and_one_without_does_not() {
    let peers: Peers<u32> = Peers::new();
    let client = Client::in_order(peers.reconnecting(WhenLost::Fail));
    for number in 0..3 {
        let call = tokio::spawn(client.clone().oneshot(number));
        settle().await;
        let mut far = peers.accept().await;
        assert_eq!(receive(&mut far), Some(number));
        send(&mut far, 2 * number);
        assert_eq!(outcome(call).await.unwrap(), 2 * number);
    }
    let sent = tokio::spawn(client.clone().oneshot(4));
    settle().await;
    drop(peers.accept().await);
    let error = outcome(sent).await.unwrap_err();
    assert!(error.is_closed() && !error.is_rejection() && error.may_have_been_executed(), "{error:?}");
    let error = client.oneshot(5).await.unwrap_err();
    assert!(error.is_closed() && !error.may_have_been_executed(), "{error:?}");
}

#[tokio::test]
async fn of_the_calls_that_the_end_of_a_transport_fails_those_that_were_not_sent_say_so() {
    let (here, mut there) = channel::<Number, Number>(1);
    let mut client = Client::by_tag(here);
    let mut sent = client.ready().await.unwrap().call(1);
    assert!(futures_util::poll!(&mut sent).is_pending());
    let mut waits = client.ready().await.unwrap().call(2);
    assert!(futures_util::poll!(&mut waits).is_pending());
    assert!(receive(&mut there).is_some());
    drop(there);
    let error = waits.await.unwrap_err();
    assert!(!error.may_have_been_executed(), "{error:?}");
    assert!(sent.await.unwrap_err().may_have_been_executed());
    assert!(!client.ready().await.unwrap_err().may_have_been_executed());
}

/// A transport whose sink rejects large numbers.
struct Small<T>(T);

impl<T: Stream + Unpin> Stream for Small<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

impl<T: Sink<M, Error = Error> + Unpin, M: Copy> Sink<M> for Small<T>
where
    u64: From<Value<M>>,
    Value<M>: From<M>,
{
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Error> {
        let value = u64::from(Value::from(message));
        if value >= 1000 {
            return Err(Error::too_large(format!("{value} is a large number")));
        }
        Pin::new(&mut self.0).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// The judged facts of a message.
struct Value<M>(M);

impl<M> From<M> for Value<M> {
    fn from(message: M) -> Self {
        Self(message)
    }
}

impl From<Value<Number>> for u64 {
    fn from(message: Value<Number>) -> Self {
        message.0.value.into()
    }
}

impl From<Value<u32>> for u64 {
    fn from(message: Value<u32>) -> Self {
        message.0.into()
    }
}

/// Answers with the double, or never for 13.
fn double() -> impl Service<u32, Response = u32, Error = Error, Future: Send> + Clone + Send {
    service_fn(async |number: u32| {
        if number == 13 {
            std::future::pending::<()>().await;
        }
        Ok::<_, Error>(2 * number)
    })
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_transport_rejects_fails_that_call_alone_as_not_executed() {
    let (here, there) = channel(8);
    tokio::spawn(Server::as_they_finish(there, double()));
    let client = Client::by_tag(Small(here));
    let other = tokio::spawn(client.clone().oneshot(13));
    settle().await;
    let error = client.clone().oneshot(1000).await.unwrap_err();
    assert!(error.is_too_large() && !error.may_have_been_executed(), "{error:?}");
    assert_eq!(client.clone().oneshot(2).await.unwrap(), 4);
    assert!(!other.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_rejected_late_hangs_nobody_and_ends_no_client() {
    let (here, there) = channel::<Number, Number>(8);
    tokio::spawn(Server::as_they_finish(there, double()));
    let client: Caller = Client::by_tag(driven(Small(here).into_boxed()));
    let error = timeout(HOUR, client.clone().oneshot(1000)).await.expect("the call hangs").unwrap_err();
    assert!(error.is_too_large(), "{error:?}");
    assert_eq!(client.clone().oneshot(2).await.unwrap(), 4);
}

/// Answers with the double, after as many seconds as the number's hundreds.
fn slow_double() -> impl Service<u32, Response = u32, Error = Error, Future: Send> + Clone + Send {
    service_fn(async |number: u32| {
        tokio::time::sleep(Duration::from_secs((number / 100).into())).await;
        Ok::<_, Error>(2 * number)
    })
}

#[tokio::test(start_paused = true)]
async fn by_tag_a_rejected_answer_ends_its_call_once_the_others_are_answered() {
    for is_late in [false, true] {
        let (here, there) = channel(8);
        let there = if is_late { driven(Small(there).into_boxed()) } else { Small(there).into_boxed() };
        let server = Server::as_they_finish(there, slow_double());
        let handle = server.handle();
        let server = tokio::spawn(server);
        let client = Client::by_tag(here);
        let calls: Vec<_> = [500, 400, 1].map(|number| tokio::spawn(client.clone().oneshot(number))).into();
        let late = tokio::spawn({
            let client = client.clone();
            async move {
                // The rejected answer is ready after 5 seconds, the slower one of 499 after 4 more.
                tokio::time::sleep(Duration::from_millis(4500)).await;
                client.oneshot(499).await
            }
        });
        let [large, slow, quick] = <[_; 3]>::try_from(calls).unwrap();
        assert_eq!(outcome(quick).await.unwrap(), 2, "late: {is_late}");
        assert_eq!(outcome(slow).await.unwrap(), 800, "late: {is_late}");
        assert_eq!(outcome(late).await.unwrap(), 998, "late: {is_late}");
        let error = outcome(large).await.unwrap_err();
        assert!(error.is_closed() && error.may_have_been_executed(), "late: {is_late}: {error:?}");
        assert!(server.await.unwrap().unwrap_err().is_too_large(), "late: {is_late}");
        assert_eq!(handle.rejected_answers(), 1, "late: {is_late}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_order_an_answer_that_is_rejected_late_ends_every_call_that_waits() {
    let (here, there) = channel::<u32, u32>(8);
    let server = tokio::spawn(Server::in_order(driven(Small(there).into_boxed()), slow_double()));
    let client = Client::in_order(here);
    let calls: Vec<_> = [1, 600, 700].into_iter().map(|number| tokio::spawn(client.clone().oneshot(number))).collect();
    let answers = futures_util::future::join_all(calls.into_iter().map(outcome)).await;
    assert_eq!(answers[0].as_ref().unwrap(), &2);
    assert!(answers[1..].iter().all(|answer| answer.as_ref().is_err_and(Error::is_closed)), "{answers:?}");
    assert!(server.await.unwrap().unwrap_err().is_too_large());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_ends_its_call_once_the_others_are_answered() {
    use tower_transport::{Message, codec::JsonCodec, layer::codec::CodecLayer};

    let json = CodecLayer::new(JsonCodec::<Number>::new());
    let (mut here, there) = channel::<Message, Message>(8);
    let server = Server::as_they_finish(there.layer(json), slow_double());
    let handle = server.handle();
    let server = tokio::spawn(server);
    let request = |tag: u64, value: u32| Message::text(format!("{{\"tag\":{tag},\"value\":{value}}}"));
    here.send_message(request(1, 300)).await.unwrap();
    here.send_message(Message::text("{\"tag\":2}")).await.unwrap();
    let answer = timeout(HOUR, here.receive_message()).await.expect("no answer").unwrap().unwrap();
    assert_eq!(answer, request(1, 600));
    let Some(Ok(Message::Close(Some(frame)))) = here.receive_message().await else { panic!("not closed") };
    assert_eq!((frame.code(), frame.reason()), (CloseCode::INTERNAL, "a request could not be read"));
    assert!(server.await.unwrap().unwrap_err().is_codec());
    assert_eq!(handle.unreadable_requests(), 1);

    let (mut here, there) = channel::<Message, Message>(8);
    let there = there.layer(CodecLayer::new(JsonCodec::<u32>::new()));
    let server = tokio::spawn(Server::in_order(there, slow_double()));
    for request in ["300", "no number", "1"] {
        here.send_message(Message::text(request)).await.unwrap();
    }
    let answer = timeout(HOUR, here.receive_message()).await.expect("no answer").unwrap().unwrap();
    assert_eq!(answer, Message::text("600"));
    assert!(
        matches!(here.receive_message().await, Some(Ok(Message::Close(Some(_))))),
        "the next one is not its answer"
    );
    assert!(server.await.unwrap().unwrap_err().is_codec());
}

#[tokio::test(start_paused = true)]
async fn the_caller_of_a_rejected_answer_learns_the_close_code() {
    use tower_transport::{
        Message,
        codec::JsonCodec,
        layer::{codec::CodecLayer, limit::LimitLayer},
    };

    let (here, there) = channel::<Message, Message>(8);
    let there = there.layer(LimitLayer::new().max_message(100));
    let zeros = service_fn(async |len: usize| Ok::<_, Error>("0".repeat(len)));
    let server =
        Server::as_they_finish(there.layer(CodecLayer::new(JsonCodec::<Tagged<String>, Tagged<usize>>::new())), zeros);
    tokio::spawn(server);
    let client = Client::by_tag(here.layer(CodecLayer::new(JsonCodec::<Tagged<usize>, Tagged<String>>::new())));
    assert_eq!(client.clone().oneshot(3).await.unwrap(), "000");
    let error = timeout(HOUR, client.oneshot(200)).await.expect("the call hangs").unwrap_err();
    assert!(error.is_closed() && error.may_have_been_executed(), "{error:?}");
    let frame = error.close_frame().expect("a close frame");
    assert_eq!((frame.code(), frame.reason()), (CloseCode::INTERNAL, "an answer could not be sent"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_transport_rejects_is_replaced_by_what_the_application_makes_of_the_error() {
    let (here, there) = channel(8);
    tokio::spawn(Server::as_they_finish(Small(there), double()).on_rejected_answer(|error| {
        assert!(error.is_too_large());
        404
    }));
    let client = Client::by_tag(here);
    assert_eq!(client.clone().oneshot(600).await.unwrap(), 404);
    assert_eq!(client.oneshot(2).await.unwrap(), 4);

    let (here, there) = channel::<u32, u32>(8);
    tokio::spawn(Server::in_order(Small(there), double()).on_rejected_answer(|_| 404));
    let client = Client::in_order(here);
    let calls: Vec<_> = [1, 600, 2].into_iter().map(|number| tokio::spawn(client.clone().oneshot(number))).collect();
    let answers = futures_util::future::join_all(calls.into_iter().map(outcome)).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [2, 404, 4]);
}

#[tokio::test(start_paused = true)]
async fn in_order_an_answer_that_cannot_be_sent_is_never_made_up_for_by_the_next_one() {
    let (here, there) = channel::<u32, u32>(8);
    let server = tokio::spawn(Server::in_order(Small(there), double()));
    let client = Client::in_order(here);
    let calls: Vec<_> = [1, 600, 2].into_iter().map(|number| tokio::spawn(client.clone().oneshot(number))).collect();
    let answers = futures_util::future::join_all(calls.into_iter().map(outcome)).await;
    assert_eq!(answers[0].as_ref().unwrap(), &2, "what was before it is answered");
    assert!(answers[1].is_err() && answers[2].is_err());
    assert!(server.await.unwrap().unwrap_err().is_too_large());
}

#[tokio::test(start_paused = true)]
async fn a_server_over_a_transport_that_reconnects_answers_nobody_who_has_not_asked() {
    for shape in ["plain", "driven"] {
        let peers: Peers<Number> = Peers::new();
        let transport = peers.reconnecting(WhenLost::Fail);
        let transport = if shape == "driven" { driven(transport) } else { transport };
        let slow = service_fn(async |number: u32| {
            tokio::time::sleep(Duration::from_secs(number.into())).await;
            Ok::<_, Error>(number)
        });
        let server = tokio::spawn(Server::as_they_finish(transport, slow));
        let mut first = peers.accept().await;
        send(&mut first, Tagged { tag: 1, value: 10 });
        settle().await;
        drop(first);
        let mut second = peers.accept().await;
        send(&mut second, Tagged { tag: 1, value: 20 });
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(receive(&mut second), Some(Tagged { tag: 1, value: 20 }), "{shape}");
        assert!(receive(&mut second).is_none() && !server.is_finished(), "{shape}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_over_a_codec_ends_at_a_loss() {
    {
        use tower_transport::{Message, codec::JsonCodec, layer::codec::CodecLayer};

        let peers: Peers<Message> = Peers::new();
        let transport = peers.reconnecting(WhenLost::Drop).layer(CodecLayer::new(JsonCodec::<Number>::new()));
        let client = Client::by_tag(transport);
        let first = tokio::spawn(client.clone().oneshot(1));
        settle().await;
        drop(peers.accept().await);
        assert!(is_lost(&outcome(first).await.unwrap_err()));
        let next = tokio::spawn(client.clone().oneshot(2));
        let mut far = peers.accept().await;
        settle().await;
        let request = receive(&mut far).unwrap();
        send(&mut far, request);
        assert_eq!(outcome(next).await.unwrap(), 2);
        assert!(client.clone().ready().now_or_never().unwrap().is_ok());
    }
}
