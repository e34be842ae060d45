//! A message that a connection refuses, and one that it was accepted long before.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, Sink, SinkExt, Stream};
use http::Response;
use tokio::time::{Instant, timeout};
use tower::{Layer, ServiceBuilder};
use tower_transport::{
    Channel, CloseCode, CloseFrame, Error, Message, QueueConfig, Transport, TransportExt,
    layer::reconnect::{Backoff, Class, Keep, ReconnectLayer, State, WhenLost},
    test_util::fault::Fault,
};

use super::{Server, Step, closed, layer};

const HOUR: Duration = Duration::from_secs(3600);

/// The reaction of a connection's sink to a message.
type Judge = Arc<Mutex<dyn FnMut(&Message) -> Result<(), Error> + Send>>;

/// A connection that judges each message, and whose flush can be kept waiting.
struct Judged {
    inner: Fault<Channel>,
    judge: Judge,
    is_held: Arc<AtomicBool>,
}

impl Stream for Judged {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.inner).poll_next(cx)
    }
}

impl Sink<Message> for Judged {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.judge.lock().unwrap()(&message)?;
        Pin::new(&mut self.inner).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        if self.is_held.load(SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[derive(Clone)]
struct Judges {
    server: Server,
    judge: Judge,
    is_held: Arc<AtomicBool>,
}

impl Judges {
    fn new(judge: impl FnMut(&Message) -> Result<(), Error> + Send + 'static) -> Self {
        Self { server: Server::default(), judge: Arc::new(Mutex::new(judge)), is_held: Arc::default() }
    }

    /// Refuses what is longer than five bytes, as a transport that says no more than its kind.
    fn short() -> Self {
        Self::new(|message| if message.len() > 5 { Err(Error::too_large("over five bytes")) } else { Ok(()) })
    }

    fn stack(
        &self,
        layer: &ReconnectLayer,
    ) -> impl Transport<Message, In = Message, TransportError = Error> + Send + Unpin + use<> {
        let Self { judge, is_held, .. } = self.clone();
        let judged = ServiceBuilder::new().map_response(move |response: Response<Fault<Channel>>| {
            response.map(|inner| Judged { inner, judge: judge.clone(), is_held: is_held.clone() })
        });
        layer.layer(judged.service(self.server.clone()))
    }
}

fn keep() -> WhenLost<Message> {
    WhenLost::Keep(Keep::messages())
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_connection_refuses_is_the_error_of_its_own_send_and_nothing_else() {
    for when_lost in [WhenLost::Fail, WhenLost::Drop, keep()] {
        let server = Judges::short();
        let layer = layer().when_lost(when_lost);
        let handle = layer.handle();
        let mut transport = server.stack(&layer);
        transport.send("first".into()).await.unwrap();
        let error = transport.send("too long".into()).await.unwrap_err();
        assert!(error.is_rejection() && error.is_too_large(), "{error:?}");
        transport.send("next".into()).await.unwrap();
        let mut peer = server.server.accept();
        assert_eq!(peer.take(), ["first", "next"]);
        assert_eq!((server.server.attempts(), handle.lost()), (1, 0));
        peer.faults.cut();
        drop(peer);
        assert!(transport.receive_message().now_or_never().is_none());
        transport.send("again".into()).await.unwrap();
        assert_eq!(server.server.accept().take(), ["again"], "a message that was refused is not sent again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_kept_message_that_the_next_connection_refuses_is_dropped_and_told_once() {
    let server = Judges::short();
    let layer = layer().when_lost(keep());
    let handle = layer.handle();
    let mut transport = server.stack(&layer);
    // There is no connection yet that could refuse it.
    server.server.will(Step::Refuse(Error::refused("not yet")));
    for text in ["a", "too long", "b", "too long as well", "c"] {
        transport.feed(text.into()).now_or_never().unwrap().unwrap();
    }
    transport.flush().await.unwrap();
    let mut peer = server.server.accept();
    assert_eq!(peer.take(), ["a", "b", "c"]);
    for _ in 0..2 {
        let error = transport.receive_message().now_or_never().unwrap().unwrap().unwrap_err();
        assert!(error.is_rejection() && error.is_too_large(), "{error:?}");
    }
    assert!(transport.receive_message().now_or_never().is_none());
    assert_eq!((handle.lost(), handle.connections()), (2, 1));
    peer.faults.cut();
    assert!(transport.receive_message().now_or_never().is_none());
    transport.send("next".into()).await.unwrap();
    assert_eq!(server.server.accept().take(), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn a_kept_message_that_ends_each_connection_ends_the_transport_with_the_cause() {
    let server = Judges::new(|_| Ok(()));
    server.is_held.store(true, SeqCst);
    let layer = layer().when_lost(keep());
    let handle = layer.handle();
    let (sender, mut receiver, driver) = server.stack(&layer).drive(QueueConfig::messages()).into_parts();
    let driver = tokio::spawn(driver);
    sender.send("poison".into()).await.unwrap();
    let peers = server.server.clone();
    let resets = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let accepted = peers.lock().accepted.pop_front();
            if let Some(mut peer) = accepted {
                peer.put(closed(1011));
            }
        }
    });
    let error = timeout(HOUR, receiver.receive()).await.expect("an endless replay").unwrap().unwrap_err();
    assert_eq!(error.close_frame().unwrap().code().get(), 1011);
    assert!(error.to_string().contains("oldest kept message"), "{error}");
    assert!(matches!(handle.state(), State::Failed { .. }));
    assert_eq!(server.server.attempts(), 16);
    assert!(sender.send("more".into()).await.is_err());
    driver.await.unwrap().unwrap_err();
    resets.abort();
}

#[tokio::test(start_paused = true)]
async fn a_kept_message_is_not_given_up_while_its_user_does_not_read() {
    let server = Judges::new(|_| Ok(()));
    server.is_held.store(true, SeqCst);
    let layer = ReconnectLayer::new("ws://example.com/feed", Backoff::fixed(Duration::from_secs(30))).when_lost(keep());
    let mut transport = server.stack(&layer);
    transport.feed("waits".into()).await.unwrap();
    let start = Instant::now();
    while start.elapsed() < HOUR {
        // The peer cannot write to a user that does not read, and so it does not read either, until the line is cut.
        assert!(timeout(Duration::from_secs(1), transport.flush()).await.is_err());
        server.server.lock().accepted.pop_front();
    }
    server.is_held.store(false, SeqCst);
    timeout(HOUR, transport.flush()).await.unwrap().unwrap();
    assert_eq!(layer.handle().lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn kept_messages_get_ahead_over_connections_that_each_carry_a_few_of_them() {
    const MESSAGES: usize = 200;
    const EACH: usize = 3;

    let mut carried = 0;
    let server = Judges::new(move |_| {
        carried = (carried + 1) % (EACH + 1);
        if carried == 0 { Err(Error::io("the line is cut")) } else { Ok(()) }
    });
    server.server.will(Step::Refuse(Error::refused("not yet")));
    let layer = ReconnectLayer::new("ws://example.com/feed", Backoff::fixed(Duration::from_secs(60))).when_lost(keep());
    let mut transport = server.stack(&layer);
    for number in 0..MESSAGES {
        transport.feed(number.to_string().into()).now_or_never().expect("it is kept").unwrap();
    }
    timeout(24 * HOUR, transport.flush()).await.expect("it sends the same messages again and again").unwrap();
    let mut peers = std::mem::take(&mut server.server.lock().accepted);
    let received: Vec<_> = peers.iter_mut().flat_map(|peer| peer.take()).collect();
    assert_eq!(received, (0..MESSAGES).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(peers.len(), MESSAGES.div_ceil(EACH));
    assert_eq!(layer.handle().lost(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_kept_message_that_no_connection_gets_through_is_not_sent_again_for_hours() {
    let server = Judges::new(|_| Ok(()));
    server.is_held.store(true, SeqCst);
    let layer = ReconnectLayer::new("ws://example.com/feed", Backoff::fixed(Duration::from_secs(30))).when_lost(keep());
    let mut transport = server.stack(&layer);
    transport.feed("poison".into()).await.unwrap();
    let start = Instant::now();
    let error = loop {
        let _ = transport.flush().now_or_never();
        if let Some(peer) = server.server.lock().accepted.pop_front() {
            drop(peer);
        }
        match timeout(Duration::from_secs(1), transport.receive_message()).await {
            Ok(item) => break item.unwrap().unwrap_err(),
            Err(_) => assert!(start.elapsed() < HOUR, "sent {} times in an hour", server.server.attempts()),
        }
    };
    assert!(start.elapsed() >= Duration::from_secs(600), "{:?}", start.elapsed());
    assert!(error.to_string().contains("oldest kept message"), "{error}");
    assert!(matches!(layer.handle().state(), State::Failed { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_kept_message_on_which_each_connection_ends_in_its_first_poll_is_given_up_while_its_user_reads() {
    for failure in [Error::io("the line is cut"), closed_error(1012)] {
        let peers = Server::default();
        let judge: Judge = {
            let peers = peers.clone();
            Arc::new(Mutex::new(move |_: &Message| {
                // The stream of this connection ends as well.
                peers.lock().accepted.clear();
                Err(failure.clone())
            }))
        };
        let server = Judges { server: peers, judge, is_held: Arc::default() };
        server.server.will(Step::Refuse(Error::refused("not yet")));
        let layer =
            ReconnectLayer::new("ws://example.com/feed", Backoff::fixed(Duration::from_secs(60))).when_lost(keep());
        let mut transport = server.stack(&layer);
        transport.feed("poison".into()).now_or_never().expect("it is kept").unwrap();
        let item = timeout(HOUR, transport.receive_message()).await.expect("it is sent for hours");
        let error = item.unwrap().unwrap_err();
        assert!(error.to_string().contains("oldest kept message"), "{error}");
        assert_eq!(server.server.attempts(), 17, "one is refused");
        assert!(matches!(layer.handle().state(), State::Failed { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_with_messages_that_leave_is_no_reason_to_give_up() {
    let server = Judges::new(|_| Ok(()));
    let layer = layer().when_lost(keep());
    let mut transport = server.stack(&layer);
    for round in 0..50 {
        transport.send(round.to_string().into()).await.unwrap();
        server.server.accept().put(closed(1011));
        assert!(transport.receive_message().now_or_never().is_none());
    }
    transport.send("the last".into()).await.unwrap();
    assert_eq!(server.server.accept().take(), ["the last"]);
}

#[tokio::test(start_paused = true)]
async fn a_classifier_that_calls_everything_one_messages_business_leaves_no_sink_that_fails_forever() {
    for when_lost in [WhenLost::Fail, WhenLost::Drop, keep()] {
        let server = Judges::new(|_| Ok(()));
        let mut transport = server.stack(&layer().when_lost(when_lost).classify(|_| Class::Message));
        transport.send("first".into()).await.unwrap();
        drop(server.server.accept());
        let sent = async { while transport.send("again".into()).await.is_err() {} };
        timeout(HOUR, sent).await.expect("the sink fails forever");
        assert_eq!(server.server.accept().take().last().unwrap(), "again");
    }
}
#[tokio::test]
async fn a_message_over_the_limit_and_a_ping_of_126_bytes_do_not_end_a_websocket() {
    use tower_transport::{Limits, transport::websocket::WebSocket};

    let limits = Limits::new().message(1000);
    let connector = tower::service_fn(move |_: http::Request<()>| async move {
        let (near, far) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let mut far = WebSocket::server(far, Limits::default());
            while let Some(Ok(message)) = far.receive_message().await {
                if message.is_data() && far.send_message(message).await.is_err() {
                    return;
                }
            }
        });
        Ok::<_, Error>(Response::new(WebSocket::client(near, limits)))
    });
    let mut transport = Box::pin(layer().layer(connector));
    for message in [Message::binary(vec![0; 2000]), Message::Ping(vec![0; 126].into())] {
        let error = transport.send(message).await.unwrap_err();
        assert!(error.is_rejection() && error.is_too_large(), "{error:?}");
        transport.send("next".into()).await.unwrap();
        assert_eq!(transport.receive_message().await.unwrap().unwrap(), Message::text("next"));
    }
    assert_eq!(transport.handle().connections(), 1);
}

fn closed_error(code: u16) -> Error {
    let code = CloseCode::new(code).unwrap();
    Error::closed("the peer closed").with_close_frame(Some(CloseFrame::new(code, "")))
}
