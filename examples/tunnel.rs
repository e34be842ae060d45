//! A TCP tunnel over sessions: a protocol over TCP does not notice that the connection is cut, and passes where only
//! WebSockets do. Each TCP connection has a session of its own, which reconnects and resumes.
//!
//! `cargo run --example tunnel --features byte-stream,optimized`: both ends, with connections that are cut
//!
//! With a broker at 127.0.0.1:1883, and clients that connect to 127.0.0.1:8883:
//!
//! ```text
//! tunnel serve 0.0.0.0:3000 127.0.0.1:1883
//! tunnel connect 127.0.0.1:8883 ws://server:3000/
//! ```

use std::{net::SocketAddr, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tower_transport::{
    BoxError, CloseCode, CloseFrame, Error, Message, Transport, TransportExt,
    layer::reconnect::Backoff,
    stack::{OptimizedBuilder, OptimizedTransport},
    transport::accept,
};

/// Carries bytes both ways until both directions have ended. The end of one direction is passed on, so a protocol that
/// half-closes its connection works.
async fn carry<T>(session: T, mut tcp: TcpStream) -> Result<(), BoxError>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin,
{
    let mut io = session.into_io();
    // It flushes whenever it waits, and shuts one side down once the other has ended.
    let carried = copy_bidirectional(&mut io, &mut tcp).await;
    if carried.is_err() {
        // The other end must not take this for a complete stream, nor wait for this end to reconnect.
        let frame = CloseFrame::new(CloseCode::INTERNAL, "the TCP connection failed");
        io.get_mut().close_with(frame).await?;
    }
    carried.map(drop).map_err(Into::into)
}

/// Accepts sessions, and connects each to `target`.
pub async fn serve(listener: TcpListener, target: SocketAddr, builder: OptimizedBuilder) {
    let upgrade = builder.acceptor().upgrade(move |mut session, _parts| async move {
        let ended = match TcpStream::connect(target).await {
            Ok(tcp) => tcp.set_nodelay(true).map(|()| tcp).map_err(BoxError::from),
            Err(error) => {
                let frame = CloseFrame::new(CloseCode::TRY_AGAIN, "the target is not reachable");
                let _ = session.close_with(frame).await;
                Err(error.into())
            }
        };
        let ended = match ended {
            Ok(tcp) => carry(session, tcp).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            eprintln!("a tunnel failed: {error}");
        }
    });
    loop {
        let (tcp, _) = accept(|| listener.accept()).await;
        let service = TowerToHyperService::new(upgrade.clone());
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tcp), service);
        tokio::spawn(connection.with_upgrades());
    }
}

/// Accepts TCP connections, and carries each over a session to the server at `url`.
pub async fn connect(listener: TcpListener, url: String, builder: impl Fn() -> OptimizedBuilder) {
    loop {
        let (tcp, _) = accept(|| listener.accept()).await;
        let (builder, url) = (builder(), url.clone());
        tokio::spawn(async move {
            let carried = async {
                tcp.set_nodelay(true)?;
                carry(builder.connect(&url).await?, tcp).await
            };
            if let Err(error) = carried.await {
                eprintln!("a tunnel failed: {error}");
            }
        });
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address, target] => {
            serve(TcpListener::bind(address).await?, target.parse()?, OptimizedTransport::builder()).await;
        }
        ["connect", address, url] => {
            connect(TcpListener::bind(address).await?, url.to_owned(), OptimizedTransport::builder).await;
        }
        [] => demonstrate().await?,
        _ => return Err("usage: tunnel [serve ADDRESS TARGET | connect ADDRESS URL]".into()),
    }
    Ok(())
}

/// Sends ten megabytes through a tunnel whose connections end after 200 kB each.
async fn demonstrate() -> Result<(), BoxError> {
    const BYTES: usize = 10_000_000;

    let bind = async || TcpListener::bind("127.0.0.1:0").await;
    let (target, server, cuts, client) = (bind().await?, bind().await?, bind().await?, bind().await?);
    let (to_target, to_server, to_cuts, to_client) =
        (target.local_addr()?, server.local_addr()?, cuts.local_addr()?, client.local_addr()?);
    tokio::spawn(serve(server, to_target, OptimizedTransport::builder()));
    tokio::spawn(connect(client, format!("ws://{to_cuts}/"), || {
        OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(10)))
    }));
    let cutting = tokio::spawn(async move {
        let mut connections = 0;
        while let Ok((near, _)) = cuts.accept().await {
            connections += 1;
            println!("connection {connections}");
            let far = TcpStream::connect(to_server).await?;
            let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
            let there = async {
                let mut limited = (&mut from_near).take(200_000);
                tokio::io::copy(&mut limited, &mut to_far).await
            };
            let back = tokio::io::copy(&mut from_far, &mut to_near);
            tokio::select! { _ = there => {}, _ = back => {} }
        }
        Ok::<_, std::io::Error>(())
    });
    // A server of plain TCP, which answers once its client has said everything.
    let counts = tokio::spawn(async move {
        let (mut tcp, _) = target.accept().await?;
        let read = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await?;
        tcp.write_all(format!("{read} bytes").as_bytes()).await
    });
    let mut tcp = TcpStream::connect(to_client).await?;
    // Bytes that compress badly.
    let bytes: Vec<_> = (0..BYTES as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect();
    tcp.write_all(&bytes).await?;
    tcp.shutdown().await?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await?;
    counts.await??;
    cutting.abort();
    println!("the server has read {answer}, over one TCP connection");
    assert_eq!(answer, format!("{BYTES} bytes"));
    Ok(())
}
