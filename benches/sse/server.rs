//! Our event stream beside axum's own: the same stream of events, to a body that is only asked, and through hyper to a
//! socket.

use std::{
    convert::Infallible,
    hint::black_box,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    pin::pin,
    time::{Duration, Instant},
};

use axum::response::{IntoResponse, sse as theirs};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Runtime};
use tower_transport::{
    QueueConfig,
    transport::sse::{Event, EventStream, event_channel},
};

use crate::{
    goal::goal,
    plan::Plan,
    rows::{self, Row},
};

/// The kind of an event's data, its bytes, whether each event has a type and an id, and the number of events in a
/// round.
const CASES: [(&str, usize, bool, usize); 4] = [
    ("server 32 B", 32, false, 100_000),
    ("server 200 B", 200, false, 50_000),
    ("server 200 B with type and id", 200, true, 50_000),
    ("server 1 KiB", 1 << 10, false, 20_000),
];

pub(crate) fn run(plan: &Plan) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (name, size, named, events) in CASES {
        let data = "x".repeat(size);
        let case = Case { data: &data, named };
        let slug = name.replace(' ', "-");

        let title = format!("{name}, the body alone");
        if plan.wants(&title) {
            // A keep-alive has a timer.
            let _entered = runtime.enter();
            let count = plan.count(events);
            let rows: [Row<'_>; 2] = [
                ("axum", Box::new(|| asked(case.axum(count), count))),
                ("ours", Box::new(|| asked(case.ours(count), count))),
            ];
            let ratios = rows::run(&title, plan.rounds, count, &rows);
            goal(&format!("sse/{slug}-body-to-axum"), ratios[1], 0.667);
        }

        let title = format!("{name}, a socket");
        if plan.wants(&title) {
            let count = plan.count(events);
            let rows: [Row<'_>; 2] = [
                ("axum", Box::new(|| read(&runtime, || case.axum(count), count))),
                ("ours", Box::new(|| read(&runtime, || case.ours(count), count))),
            ];
            let ratios = rows::run(&title, plan.rounds, count, &rows);
            // At least 1.5 times the events per second.
            goal(&format!("sse/{slug}-socket-to-axum"), ratios[1], 0.667);
        }

        let title = format!("{name}, a channel and a socket");
        if plan.wants(&title) {
            let count = plan.count(events);
            let rows: [Row<'_>; 2] = [
                ("axum, by tokio's channel", Box::new(|| read(&runtime, || case.axum_by_channel(count), count))),
                ("ours, by event_channel", Box::new(|| read(&runtime, || case.ours_by_channel(count), count))),
            ];
            let ratios = rows::run(&title, plan.rounds, count, &rows);
            goal(&format!("sse/{slug}-channel-to-axum"), ratios[1], 0.667);
        }
    }
}

type Answer = Response<axum::body::Body>;

#[derive(Clone, Copy)]
struct Case<'a> {
    data: &'a str,
    named: bool,
}

impl Case<'_> {
    /// Makes our event from a number. Owned, because the stream outlives the case.
    fn event(self) -> impl Fn(usize) -> Event + Send + use<> {
        let (data, named) = (self.data.to_owned(), self.named);
        move |index| {
            let event = Event::new(data.as_str());
            match named {
                true => event.event("update").expect("one line").id(&index.to_string()).expect("one line"),
                false => event,
            }
        }
    }

    /// The same, of axum's.
    fn their_event(self) -> impl Fn(usize) -> theirs::Event + Send + use<> {
        let (data, named) = (self.data.to_owned(), self.named);
        move |index| {
            let event = theirs::Event::default();
            let event = if named { event.event("update").id(index.to_string()) } else { event };
            event.data(&data)
        }
    }

    fn ours(self, count: usize) -> Answer {
        let event = self.event();
        let events = stream::iter(0..count).map(move |index| Ok::<_, Infallible>(event(index)));
        IntoResponse::into_response(EventStream::new(events))
    }

    fn axum(self, count: usize) -> Answer {
        let event = self.their_event();
        let events = stream::iter(0..count).map(move |index| Ok::<_, Infallible>(event(index)));
        their_response(events)
    }

    fn ours_by_channel(self, count: usize) -> Answer {
        let (sender, events) = event_channel(QueueConfig::events());
        let event = self.event();
        tokio::spawn(async move {
            for index in 0..count {
                sender.send(event(index)).await.expect("the client reads");
            }
        });
        IntoResponse::into_response(events)
    }

    fn axum_by_channel(self, count: usize) -> Answer {
        // As many as our queue lets wait.
        let (sender, mut events) = tokio::sync::mpsc::channel(1024);
        let event = self.their_event();
        tokio::spawn(async move {
            for index in 0..count {
                sender.send(event(index)).await.expect("the client reads");
            }
        });
        their_response(stream::poll_fn(move |cx| events.poll_recv(cx)).map(Ok::<_, Infallible>))
    }
}

/// With the keep-alive that ours has by default.
fn their_response(events: impl Stream<Item = Result<theirs::Event, Infallible>> + Send + 'static) -> Answer {
    theirs::Sse::new(events).keep_alive(theirs::KeepAlive::default()).into_response()
}

/// Asks a body for its frames, as an HTTP server does, and writes them nowhere.
fn asked(answer: Answer, events: usize) -> Duration {
    let start = Instant::now();
    let mut body = pin!(answer.into_body());
    let mut bytes = 0;
    while let Some(frame) = body.as_mut().frame().now_or_never().expect("it waits for nothing") {
        let data: Bytes = frame.expect("a good stream").into_data().expect("data");
        bytes += black_box(data).len();
    }
    assert!(bytes > events * 8);
    start.elapsed()
}

/// Serves one answer by hyper, and reads it to its end on a thread of its own.
fn read(runtime: &Runtime, answer: impl Fn() -> Answer, events: usize) -> Duration {
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let start = Instant::now();
        let client = std::thread::spawn(move || client(address));
        let (tcp, _) = listener.accept().await.expect("a client");
        tcp.set_nodelay(true).expect("a socket");
        let service = service_fn(|_: Request<Incoming>| std::future::ready(Ok::<_, Infallible>(answer())));
        http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await.expect("a good connection");
        let bytes = client.join().expect("a good answer");
        assert!(bytes > events * 8);
        start.elapsed()
    })
}

fn client(address: SocketAddr) -> usize {
    let mut tcp = TcpStream::connect(address).expect("a server");
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("a server");
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        match tcp.read(&mut buffer).expect("a good answer") {
            0 => return bytes,
            count => bytes += count,
        }
    }
}
