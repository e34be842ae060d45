//! A server that says what it is told to, byte for byte: one connection after the other, each with the next answer.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::ServiceExt;
use tower_transport::{
    Error,
    transport::sse::{Event, Sse, SseConnector},
};

/// The head of an event stream that ends with the connection.
pub(crate) const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

pub(crate) struct Scripted {
    pub(crate) address: String,
    /// The heads of the requests so far.
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Gives each connection its answer, and closes it; the last answer again and again.
    pub(crate) async fn new<A: AsRef<str> + Send + 'static>(answers: impl IntoIterator<Item = A>) -> Self {
        Self::holding(answers, false).await
    }

    /// The same; `hold` keeps the connections open.
    pub(crate) async fn holding<A: AsRef<str> + Send + 'static>(
        answers: impl IntoIterator<Item = A>,
        hold: bool,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (seen, answers) = (requests.clone(), answers.into_iter().collect::<Vec<_>>());
        let own = address.clone();
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            for turn in 0.. {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let head = read_head(&mut tcp).await;
                seen.lock().unwrap().push(head);
                let answer = answers[turn.min(answers.len() - 1)].as_ref().replace("{own}", &own);
                tcp.write_all(answer.as_bytes()).await.unwrap();
                if hold {
                    held.push(tcp);
                }
            }
        });
        Self { address, requests, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/feed?a=b", self.address)
    }

    /// Nobody listens any more.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// The heads of the requests so far, in lower case.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|head| head.to_lowercase()).collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads up to the blank line.
pub(crate) async fn read_head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tcp.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

pub(crate) fn get(url: &str) -> Request<()> {
    Request::get(url).body(()).unwrap()
}

pub(crate) async fn open(connector: &SseConnector, url: &str) -> Result<Sse, Error> {
    Ok(connector.clone().oneshot(get(url)).await?.into_body())
}

/// Type, data and id of each event up to the error that ends the stream.
pub(crate) async fn read(mut events: Sse) -> (Vec<[String; 3]>, Error) {
    let mut read = Vec::new();
    loop {
        match events.next().await.expect("an error comes before the end") {
            Ok(event) => read.push(fields(&event)),
            Err(error) => {
                assert!(events.next().await.is_none());
                return (read, error);
            }
        }
    }
}

pub(crate) fn fields(event: &Event) -> [String; 3] {
    [event.event_type(), event.data(), event.last_event_id()].map(str::to_owned)
}
