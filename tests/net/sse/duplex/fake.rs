//! A server that opens a session and then answers as the test says: what a client may meet.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

const OPENING: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: session\ndata: 0123456789abcdef\n\n";

pub(super) const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    /// Bytes for the event stream.
    pub(super) events: mpsc::UnboundedSender<&'static str>,
    posts: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

impl Fake {
    /// Answers the POST of each index, beginning with 0, by `answer`.
    pub(super) async fn start(answer: fn(usize) -> &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (events, mut coming) = mpsc::unbounded_channel::<&str>();
        let (posts, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (posted, brought) = (posts.clone(), bytes.clone());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(OPENING.as_bytes()).await.unwrap();
            tokio::spawn(async move {
                while let Some(bytes) = coming.recv().await {
                    let _ = stream.write_all(bytes.as_bytes()).await;
                }
            });
            while let Ok((mut poster, _)) = listener.accept().await {
                let (posted, brought) = (posted.clone(), brought.clone());
                tokio::spawn(async move {
                    while let Some(head) = read_head(&mut poster).await {
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                        let mut body = vec![0; length.parse().unwrap()];
                        if poster.read_exact(&mut body).await.is_err() {
                            return;
                        }
                        brought.fetch_add(body.len(), SeqCst);
                        let _ = poster.write_all(answer(posted.fetch_add(1, SeqCst)).as_bytes()).await;
                    }
                });
            }
        });
        Self { address, events, posts, bytes }
    }

    pub(super) fn posts(&self) -> usize {
        self.posts.load(SeqCst)
    }

    /// How many bytes of messages came.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(SeqCst)
    }
}

async fn read_head(tcp: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}
