//! A client of plain HTTP/1.1, as anyone may write it.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(super) const MESSAGES: &str = "content-type: application/vnd.tower-transport.messages\r\n";

/// The answer to one request on a connection of its own.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }
}

async fn send(address: SocketAddr, method: &str, headers: &str, body: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{method} /events HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n{headers}\r\n");
    tcp.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    tcp
}

async fn read_head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

pub(super) async fn ask(address: SocketAddr, method: &str, headers: &str, body: &[u8]) -> Answer {
    let mut tcp = send(address, method, &format!("connection: close\r\n{headers}"), body).await;
    let head = read_head(&mut tcp).await;
    let mut body = Vec::new();
    let _ = tcp.read_to_end(&mut body).await;
    Answer { status: status(&head), head, body: String::from_utf8_lossy(&body).into_owned() }
}

/// A session that was opened by hand: its event stream (chunks and all), and its token.
pub(super) struct Opened {
    pub(super) tcp: TcpStream,
    pub(super) head: String,
    pub(super) token: String,
}

pub(super) async fn open(address: SocketAddr, headers: &str) -> Opened {
    let mut tcp = send(address, "GET", &format!("accept: text/event-stream\r\n{headers}"), &[]).await;
    let head = read_head(&mut tcp).await;
    assert_eq!(status(&head), 200, "{head}");
    let first = read_until(&mut tcp, "\n\n").await;
    let token = first.split_once("event: session\ndata: ").unwrap().1.trim().to_owned();
    Opened { tcp, head, token }
}

pub(super) async fn read_until(tcp: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(tcp.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

/// Sends `body` as messages of the session with this token.
pub(super) async fn post(address: SocketAddr, token: &str, sequence: &str, body: &[u8]) -> Answer {
    let headers = format!("{MESSAGES}tower-transport-session: {token}\r\ntower-transport-sequence: {sequence}\r\n");
    ask(address, "POST", &headers, body).await
}
