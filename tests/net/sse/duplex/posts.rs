//! The size of one POST: proxies have limits of their own (nginx: 1 MiB, by its defaults).

use std::{
    convert::Infallible,
    future::Ready,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, SinkExt, StreamExt, future::Either};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use support::proxy::slow_line;
use tower::{Layer, Service};
use tower_transport::{
    Error, Message, TransportExt,
    layer::heartbeat::HeartbeatLayer,
    transport::sse::{SseDuplex, SseDuplexBody, SseDuplexConnector, SseDuplexServer},
};

use super::{
    connect,
    fake::Fake,
    proxy::{Fate, Proxy},
    serve, sessions, within,
};

/// The size that nginx accepts.
const MIB: usize = 1 << 20;

/// A server behind a proxy that answers a request whose body is over `most` bytes by 413, as nginx does.
#[derive(Clone)]
struct Behind<S> {
    server: S,
    most: usize,
    refused: Arc<AtomicUsize>,
}

impl<S> Service<Request<Incoming>> for Behind<S>
where
    S: Service<Request<Incoming>, Response = Response<SseDuplexBody>, Error = Infallible>,
{
    type Response = Response<SseDuplexBody>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<SseDuplexBody>, Infallible>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.server.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if request.body().size_hint().exact().is_none_or(|bytes| bytes > self.most as u64) {
            self.refused.fetch_add(1, SeqCst);
            let mut response = Response::new(SseDuplexBody::default());
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            return Either::Left(std::future::ready(Ok(response)));
        }
        Either::Right(self.server.call(request))
    }
}

/// Serves `server` behind such a proxy, and counts what that refuses.
pub(super) async fn behind_a_proxy<S>(server: S, most: usize) -> (SocketAddr, Arc<AtomicUsize>)
where
    S: Service<Request<Incoming>, Response = Response<SseDuplexBody>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let refused = Arc::new(AtomicUsize::new(0));
    (serve(Behind { server, most, refused: refused.clone() }).await, refused)
}

/// A server that sends the length of each message back, and how many POSTs its proxy has refused.
async fn measuring(most: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let server = SseDuplexServer::new(|mut session: SseDuplex, _| async move {
        while let Some(Ok(message)) = session.receive_message().await {
            if message.is_data() && session.send_message(Message::text(message.len().to_string())).await.is_err() {
                return;
            }
        }
    });
    behind_a_proxy(server, most).await
}

fn payload(length: usize) -> Message {
    Message::binary((0..length).map(|i| (i % 251) as u8).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_message_over_what_a_proxy_takes_arrives_by_the_defaults() {
    let (address, refused) = measuring(MIB).await;
    let mut client = connect(SseDuplexConnector::new(), address).await;
    for length in [2_000_000, 10, 4 << 20, 983_040, 983_031] {
        within(client.send_message(payload(length))).await.unwrap();
        assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::text(length.to_string()));
    }
    assert_eq!(refused.load(SeqCst), 0);
    within(client.close(None)).await.unwrap();
}

#[tokio::test]
async fn many_messages_go_in_posts_that_a_proxy_takes() {
    let (address, refused) = measuring(40_000).await;
    let mut client = connect(SseDuplexConnector::new().max_post(40_000), address).await;
    let lengths: Vec<usize> = (0..200).map(|i| i * 700).collect();
    let (mut write, mut read) = futures_util::StreamExt::split(client);
    let send = async {
        for length in &lengths {
            write.feed(payload(*length)).await.unwrap();
        }
        write.flush().await.unwrap();
    };
    let receive = async {
        for length in &lengths {
            assert_eq!(read.next().await.unwrap().unwrap(), Message::text(length.to_string()));
        }
    };
    within(futures_util::future::join(send, receive)).await;
    assert_eq!(refused.load(SeqCst), 0);
    client = write.reunite(read).unwrap();
    within(client.close(None)).await.unwrap();
}

#[tokio::test]
async fn a_message_in_parts_arrives_once_and_whole_though_posts_are_lost() {
    let (server, mut sessions) = sessions(Default::default()).await;
    // The fate of the first part; the others are carried.
    let fates = vec![Fate::CutTheAnswer, Fate::CutAfter(3000), Fate::BadGateway];
    let proxy = Proxy::start(server, fates).await;
    let mut client = connect(SseDuplexConnector::new().max_post(5000), proxy.address).await;
    let mut server = sessions.recv().await.unwrap();
    let text = Message::text("\u{e9}\u{2713}".repeat(10_000));
    let send = async {
        client.feed(text.clone()).await.unwrap();
        client.feed(payload(30_000)).await.unwrap();
        client.feed(Message::text("after")).await.unwrap();
        client.flush().await.unwrap();
    };
    let receive = async {
        for expected in [text.clone(), payload(30_000), Message::text("after")] {
            assert_eq!(server.next().await.unwrap().unwrap(), expected);
        }
    };
    within(futures_util::future::join(send, receive)).await;
}

/// A POST that is too long for the line is never answered in time, and the whole of it would be sent again.
#[tokio::test(start_paused = true)]
async fn long_messages_pass_a_slow_line() {
    for (rate, lengths) in [(10_000, [900_000, 3_000_000]), (3000, [200_000, 100_000])] {
        let (server, mut sessions) = sessions(Default::default()).await;
        let line = slow_line(server, rate).await;
        let mut client = connect(SseDuplexConnector::new(), line).await;
        let mut server = sessions.recv().await.unwrap();
        let send = async {
            for length in lengths {
                client.send(payload(length)).await.unwrap();
            }
        };
        let receive = async {
            for length in lengths {
                assert!(server.next().await.unwrap().unwrap() == payload(length));
            }
        };
        futures_util::future::join(send, receive).await;
    }
}

/// The operating system takes megabytes at once, so only the answers tell that the line is alive.
#[tokio::test(start_paused = true)]
async fn long_messages_pass_a_slow_line_under_a_heartbeat() {
    let (server, mut sessions) = sessions(Default::default()).await;
    let line = slow_line(server, 10_000).await;
    let client = connect(SseDuplexConnector::new(), line).await;
    let mut server = sessions.recv().await.unwrap();
    let heartbeat = HeartbeatLayer::new(Duration::from_secs(20), Duration::from_secs(20));
    let (mut write, mut read) = heartbeat.layer(client).into_split();
    let send = async {
        write.send(payload(900_000)).await.unwrap();
        write.send(payload(3_000_000)).await.unwrap();
    };
    let pongs = async {
        let message = read.next().await;
        panic!("{message:?}");
    };
    let receive = async {
        let mut lengths = Vec::new();
        while lengths.len() < 2 {
            let message = server.next().await.unwrap().unwrap();
            if message.is_data() {
                assert!(message == payload(message.len()));
                lengths.push(message.len());
            }
        }
        assert_eq!(lengths, [900_000, 3_000_000]);
        // Answers the pings that came before the end.
        server.flush().await.unwrap();
    };
    tokio::select! {
        _ = futures_util::future::join(send, receive) => {}
        () = pongs => {}
    }
}

fn is_413(error: &Error) -> bool {
    error.is_too_large()
        && !error.is_rejection()
        && error.status() == Some(StatusCode::PAYLOAD_TOO_LARGE)
        && !format!("{error:?}").contains("handshake")
}

#[tokio::test]
async fn a_413_ends_the_transport_with_its_status_and_not_as_a_lost_connection() {
    let (address, refused) = measuring(100_000).await;
    let mut client = connect(SseDuplexConnector::new(), address).await;
    let error = within(client.send_message(payload(200_000))).await.unwrap_err();
    assert!(is_413(&error), "{error:?}");
    let error = client.feed(Message::text("more")).await.unwrap_err();
    assert!(is_413(&error), "{error:?}");
    // At once, for the server has not heard of it and will say nothing.
    let error = tokio::time::timeout(Duration::from_secs(5), client.next()).await.unwrap().unwrap().unwrap_err();
    assert!(is_413(&error) && std::error::Error::source(&error).unwrap().to_string().contains("max_post"), "{error:?}");
    assert!(client.next().await.is_none());
    assert_eq!(refused.load(SeqCst), 1, "it is not sent again");
}

#[tokio::test]
async fn a_server_that_says_nothing_of_parts_gets_a_message_whole() {
    let fake = Fake::start(|_| "HTTP/1.1 204 Some\r\ntower-transport-sequence: 1\r\n\r\n").await;
    let mut client = connect(SseDuplexConnector::new().max_post(1000), fake.address).await;
    within(client.send_message(payload(10_000))).await.unwrap();
    assert_eq!((fake.posts(), fake.bytes()), (1, 10_003));
}

#[tokio::test]
async fn what_may_not_be_sent_is_a_rejection_and_the_transport_goes_on() {
    let limits = tower_transport::Limits::new().message(1000);
    let (mut client, mut server) = super::pair_with(limits).await;
    for end in [&mut client, &mut server] {
        for message in [payload(1001), Message::Ping(vec![0; 126].into())] {
            let error = end.send(message).now_or_never().unwrap().unwrap_err();
            assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
        }
    }
    within(client.send_message(payload(1000))).await.unwrap();
    assert_eq!(within(server.next()).await.unwrap().unwrap(), payload(1000));
}
