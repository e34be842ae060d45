//! The checks where something else runs beside them: tasks, a clock, an operating system.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tower_transport::{
    Channel, Error, Transport, TransportExt, channel, contract_tests, test_util::contract::Contract,
};

/// Two channels, and tasks that carry each message from one to the other, perhaps taking their time.
fn relayed(delay: Option<Duration>) -> (Channel<usize>, Channel<usize>) {
    let (here, left) = channel(2);
    let (right, there) = channel(2);
    let ((to_left, from_left), (to_right, from_right)) =
        (TransportExt::into_split(left), TransportExt::into_split(right));
    let late = move |message: Result<usize, Error>| async move {
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        message
    };
    tokio::spawn(from_left.then(late).forward(to_right));
    tokio::spawn(from_right.then(late).forward(to_left));
    (here, there)
}

contract_tests!(mod with_tasks, pair = relayed(None), message = |i| i, room = 100, on = tokio);
contract_tests!(
    mod with_a_paused_clock,
    pair = relayed(Some(Duration::from_secs(60))),
    message = |i| i,
    room = 100,
    on = paused_tokio
);

/// A transport over TCP, as small as it can be: messages with their length before them.
struct Lengths {
    socket: TcpStream,
    incoming: Vec<u8>,
    outgoing: VecDeque<u8>,
    closed: bool,
    ended: bool,
}

const FULL: usize = 64 * 1024;

impl Lengths {
    fn new(socket: TcpStream) -> Self {
        Self { socket, incoming: Vec::new(), outgoing: VecDeque::new(), closed: false, ended: false }
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed || self.ended { Err(Error::closed("the connection has ended")) } else { Ok(()) }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, self.outgoing.as_slices().0))?;
            self.outgoing.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for Lengths {
    type Item = Result<Vec<u8>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some((length, rest)) = this.incoming.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if rest.len() >= length {
                    let message = rest[..length].to_vec();
                    this.incoming.drain(..4 + length);
                    return Poll::Ready(Some(Ok(message)));
                }
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let mut buffer = [0; 16 * 1024];
            let mut buffer = ReadBuf::new(&mut buffer);
            let read = ready!(Pin::new(&mut this.socket).poll_read(cx, &mut buffer));
            this.ended = read.is_err() || buffer.filled().is_empty();
            read?;
            this.incoming.extend_from_slice(buffer.filled());
        }
    }
}

impl Sink<Vec<u8>> for Lengths {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.check_open()?;
        if self.outgoing.len() >= FULL {
            ready!(self.poll_write(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Vec<u8>) -> Result<(), Error> {
        self.check_open()?;
        self.outgoing.extend((message.len() as u32).to_be_bytes());
        self.outgoing.extend(message);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_write(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_write(cx))?;
        self.closed = true;
        Pin::new(&mut self.socket).poll_shutdown(cx).map_err(Into::into)
    }
}

async fn sockets() -> (Lengths, Lengths) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
    (Lengths::new(here.unwrap()), Lengths::new(there.unwrap().0))
}

contract_tests!(
    mod over_tcp,
    pair = sockets().await,
    message = |i| [vec![i as u8; 64 * 1024], i.to_string().into_bytes()].concat(),
    room = 1_000,
    on = tokio
);

/// Numbers at one end, text at the other.
async fn numbers_and_text() -> (impl Transport<u64, In = u64, TransportError = Error>, Channel<String>) {
    let (here, there) = channel::<String, String>(1);
    let here = here.with(async |number: u64| Ok::<_, Error>(number.to_string()));
    (here.map(|text| text.and_then(|text| text.parse().map_err(|_| Error::codec("not a number")))), there)
}

contract_tests!(
    mod ends_of_two_types,
    contract = Contract::new(numbers_and_text, |i| i as u64)
        .outgoing(|i| i as u64, |i| i.to_string())
        .incoming(|i| i.to_string(), |i| i as u64)
        .room(10),
    on = tokio
);
