//! web-transport-quinn by hand, a length before each message: each written as it comes, or through tokio's buffers.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};
use tower_transport::transport::webtransport::CertificateHash;
use web_transport_quinn::{Client, ClientBuilder, RecvStream, SendStream, ServerBuilder, Session};

use crate::contestant::{Address, End, Network};

pub(crate) struct RawWebTransport;
pub(crate) struct BufferedRawWebTransport;

/// As large as the write buffer of ours.
const BUFFER: usize = 64 << 10;

pub(crate) struct RawEnd {
    send: SendStream,
    receive: RecvStream,
    buffer: BytesMut,
    // Ends with the last handle.
    _session: Session,
}

impl RawEnd {
    fn new(session: Session, (send, receive): (SendStream, RecvStream)) -> Self {
        Self { send, receive, buffer: BytesMut::new(), _session: session }
    }
}

impl End for RawEnd {
    async fn send(&mut self, payload: &Bytes) {
        // One write for both, so that a small message is one frame.
        self.buffer.clear();
        self.buffer.put_u32(payload.len() as u32);
        self.buffer.extend_from_slice(payload);
        self.send.write_all(&self.buffer).await.expect("the peer is there");
    }

    async fn flush(&mut self) {}

    async fn receive(&mut self) -> Option<usize> {
        let mut length = [0; 4];
        self.receive.read_exact(&mut length).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes(length) as usize];
        self.receive.read_exact(&mut payload).await.ok()?;
        Some(std::hint::black_box(payload).len())
    }
}

pub(crate) struct BufferedEnd {
    send: BufWriter<SendStream>,
    receive: BufReader<RecvStream>,
    _session: Session,
}

impl BufferedEnd {
    fn new(session: Session, (send, receive): (SendStream, RecvStream)) -> Self {
        let (send, receive) = (BufWriter::with_capacity(BUFFER, send), BufReader::with_capacity(BUFFER, receive));
        Self { send, receive, _session: session }
    }
}

impl End for BufferedEnd {
    async fn send(&mut self, payload: &Bytes) {
        self.send.write_u32(payload.len() as u32).await.expect("the peer is there");
        self.send.write_all(payload).await.expect("the peer is there");
    }

    async fn flush(&mut self) {
        self.send.flush().await.expect("the peer is there");
    }

    async fn receive(&mut self) -> Option<usize> {
        let mut payload = vec![0; self.receive.read_u32().await.ok()? as usize];
        self.receive.read_exact(&mut payload).await.ok()?;
        Some(std::hint::black_box(payload).len())
    }
}

fn listen<E: Send + 'static>(end: fn(Session, (SendStream, RecvStream)) -> E) -> (Address, UnboundedReceiver<E>) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let trust = CertificateHash::of_der(certified.cert.der()).to_string();
    let key = certified.signing_key.serialize_der().try_into().expect("a key");
    let mut server = ServerBuilder::new()
        .with_addr("127.0.0.1:0".parse().expect("an address"))
        .with_certificate(vec![certified.cert.der().clone()], key)
        .expect("a free port");
    let url = format!("https://{}/", server.local_addr().expect("a bound port"));
    let (opened, ends) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(request) = server.accept().await {
            let opened = opened.clone();
            tokio::spawn(async move {
                let session = request.ok().await.expect("a session");
                let streams = session.accept_bi().await.expect("a stream");
                let _ = opened.send(end(session, streams));
            });
        }
    });
    (Address { url, trust }, ends)
}

fn client(address: &Address) -> Client {
    let hash: CertificateHash = address.trust.parse().expect("a hash");
    ClientBuilder::new().with_server_certificate_hashes(vec![hash.as_bytes().to_vec()]).expect("a client")
}

async fn connect(client: &Client, address: &Address) -> (Session, (SendStream, RecvStream)) {
    let url: url::Url = address.url.parse().expect("a URL");
    let session = client.connect(url).await.expect("a session");
    let streams = session.open_bi().await.expect("a stream");
    (session, streams)
}

impl Network for RawWebTransport {
    type Near = RawEnd;
    type Far = RawEnd;
    type Client = Client;

    async fn listen() -> (Address, UnboundedReceiver<RawEnd>) {
        listen(RawEnd::new)
    }

    fn client(address: &Address) -> Client {
        client(address)
    }

    async fn connect(client: &Client, address: &Address) -> RawEnd {
        let (session, streams) = connect(client, address).await;
        RawEnd::new(session, streams)
    }
}

impl Network for BufferedRawWebTransport {
    type Near = BufferedEnd;
    type Far = BufferedEnd;
    type Client = Client;

    async fn listen() -> (Address, UnboundedReceiver<BufferedEnd>) {
        listen(BufferedEnd::new)
    }

    fn client(address: &Address) -> Client {
        client(address)
    }

    async fn connect(client: &Client, address: &Address) -> BufferedEnd {
        let (session, streams) = connect(client, address).await;
        BufferedEnd::new(session, streams)
    }
}
