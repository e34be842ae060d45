//! Calls with many requests and many answers, over one WebSocket.
//!
//! ```text
//! cargo run --release --example stream --features peer,rkyv
//! ```
//!
//! A client reads the log of a server, uploads numbers to it, and has a conversation with it: an enum of requests and
//! one of answers, which rkyv encodes. One reader stalls, and no other call waits for it. Then it is dropped, and its
//! handler with it.

use std::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use futures_util::{SinkExt, Stream, StreamExt, TryStreamExt, stream};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_transport::{
    BoxError, Message, ServiceBuilderExt, Transport,
    codec::RkyvCodec,
    service::peer::{Frame, Frames, IncomingCall, PeerBuilder, Reply},
    transport::{
        accept,
        websocket::{WebSocketConnector, WebSocketService},
    },
};

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Ask {
    /// The lines of the log from this one on: many answers.
    Log {
        from: u64,
    },
    /// The sum of the numbers that follow: many requests.
    Sum,
    /// The mean so far, after each number that follows: many of both.
    Mean,
    Number(f64),
}

#[derive(Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
enum Answer {
    Line(String),
    Number(f64),
}

/// The wire of both ends. The server asks nothing, and could.
type Wire = Frames<Ask, Answer, String>;
type Codec = RkyvCodec<Frame<Ask, Answer, String>>;

type Answers = Pin<Box<dyn Stream<Item = Result<Answer, String>> + Send>>;

/// How many lines the handlers have made.
static READ: AtomicU64 = AtomicU64::new(0);

async fn handle(call: IncomingCall<Ask>) -> Result<Reply<Answer, Answers>, String> {
    // A call that is cancelled ends its requests with an error.
    let numbers = call.requests.map(|request| match request {
        Ok(Ask::Number(number)) => Ok(number),
        Ok(other) => Err(format!("a number was expected, and {other:?} came")),
        Err(error) => Err(error.to_string()),
    });
    match call.request {
        Ask::Log { from } => {
            let lines = stream::iter(from..).map(|line| {
                READ.fetch_add(1, Relaxed);
                Ok(Answer::Line(format!("{line}: all is well")))
            });
            Ok(Reply::Stream(lines.boxed()))
        }
        Ask::Sum => {
            numbers.try_fold(0.0, async |sum, number| Ok(sum + number)).await.map(|sum| Reply::One(Answer::Number(sum)))
        }
        Ask::Mean => {
            let means = numbers.scan((0.0, 0.0), |(sum, count), number| {
                let mean = number.map(|number| {
                    (*sum, *count) = (*sum + number, *count + 1.0);
                    Answer::Number(*sum / *count)
                });
                std::future::ready(Some(mean))
            });
            Ok(Reply::Stream(means.boxed()))
        }
        Ask::Number(_) => Err("a number follows a question".to_owned()),
    }
}

/// The server's end of a connection.
async fn serve<T>(socket: T)
where
    T: Transport<Message, In = Message, TransportError: Send> + Send + Unpin + 'static,
{
    let transport = ServiceBuilder::new().codec(Codec::new()).service(socket);
    let (_, peer) = PeerBuilder::new(Wire::new()).build(transport, service_fn(handle));
    if let Err(error) = peer.await {
        eprintln!("a connection ended: {error}");
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/", listener.local_addr()?);
    let upgrade = WebSocketService::new(|socket, _| serve(socket));
    tokio::spawn(async move {
        loop {
            let (tcp, _) = accept(|| listener.accept()).await;
            let connection = http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(upgrade.clone()))
                .with_upgrades();
            tokio::spawn(connection);
        }
    });

    let socket = WebSocketConnector::new().oneshot(http::Request::get(url).body(())?).await?.into_body();
    let transport = ServiceBuilder::new().codec(Codec::new()).service(socket);
    let (mut caller, peer) = PeerBuilder::new(Wire::new()).build(transport, service_fn(handle));
    let peer = tokio::spawn(peer);

    // Many answers. The log has no end: the call is cancelled when the stream is dropped.
    let log = caller.stream(Ask::Log { from: 100 }, false).await?;
    let lines: Vec<Answer> = log.take(3).try_collect().await?;
    println!("{lines:?}");

    // Many requests, and one answer.
    let mut sum = caller.stream(Ask::Sum, true).await?;
    let mut numbers = stream::iter(1..=100_000).map(|number| Ok(Ask::Number(f64::from(number))));
    sum.send_all(&mut numbers).await?;
    sum.close().await?;
    println!("the sum is {:?}", sum.next().await.ok_or("no answer")??);

    // Many of both, by turns.
    let mut mean = caller.stream(Ask::Mean, true).await?;
    for number in [1.0, 2.0, 6.0] {
        mean.send(Ask::Number(number)).await?;
        println!("the mean so far is {:?}", mean.next().await.ok_or("no answer")??);
    }
    drop(mean);

    // A reader that stalls stops its own sender, and nobody else.
    let before = READ.load(Relaxed);
    let stalled = caller.stream(Ask::Log { from: 0 }, false).await?;
    let other = caller.stream(Ask::Log { from: 0 }, false).await?;
    let taken = other.take(10_000).try_fold(0, async |taken, _| Ok(taken + 1)).await?;
    let read = READ.load(Relaxed) - before;
    println!("{taken} lines were taken and one reader stalled; the server made {read}");
    drop(stalled);

    // In order: the calls in flight are finished, and the connection is closed.
    caller.graceful_shutdown();
    peer.await??;
    Ok(())
}
