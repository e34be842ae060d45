//! TCP proxies: one that cuts its connections after a number of bytes, and one that is a slow line.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Duration, sleep},
};

/// Carries this many bytes in total, then cuts both ends. Returns whether it did.
async fn carry(mut near: TcpStream, server: SocketAddr, mut bytes: usize) -> bool {
    let Ok(mut far) = TcpStream::connect(server).await else { return false };
    // Otherwise a chunk waits for a delayed acknowledgement of the one before it.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (mut there, mut back) = ([0; 4096], [0; 4096]);
    while bytes > 0 {
        let (read, target, buffer) = tokio::select! {
            read = near.read(&mut there) => (read, &mut far, &there),
            read = far.read(&mut back) => (read, &mut near, &back),
        };
        let Ok(read) = read else { return false };
        let some = read.min(bytes);
        if some == 0 || target.write_all(&buffer[..some]).await.is_err() {
            return false;
        }
        bytes -= some;
    }
    true
}

#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    /// How many connections were cut.
    pub cuts: Arc<AtomicUsize>,
}

impl Proxy {
    /// A proxy in front of `server`. Each connection is cut after its number of bytes; later ones are never cut.
    pub async fn start(server: SocketAddr, budgets: Vec<usize>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = cuts.clone();
        tokio::spawn(async move {
            let mut budgets = budgets.into_iter();
            while let Ok((near, _)) = listener.accept().await {
                let (budget, cuts) = (budgets.next().unwrap_or(usize::MAX), counted.clone());
                tokio::spawn(async move {
                    let is_cut = carry(near, server, budget).await;
                    cuts.fetch_add(usize::from(is_cut), Ordering::Relaxed);
                });
            }
        });
        Self { address, cuts }
    }
}

/// Starts a line to `server` that carries `rate` bytes a second in each direction, and holds few of them.
pub async fn slow_line(server: SocketAddr, rate: usize) -> SocketAddr {
    let listener = narrow();
    listener.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = listener.listen(16).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = narrow().connect(server).await.unwrap();
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::spawn(trickle(from_near, to_far, rate));
            tokio::spawn(trickle(from_far, to_near, rate));
        }
    });
    address
}

/// A socket whose operating system holds little of what its peer sends, and forwards it at once: a paused clock does not
/// wait for a delayed acknowledgement.
fn narrow() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket
}

async fn trickle(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, rate: usize) {
    const TICK: Duration = Duration::from_millis(20);
    let mut chunk = vec![0; rate / 50];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..length]).await.is_err() {
            break;
        }
        sleep(TICK * length as u32 / chunk.len() as u32).await;
    }
    let _ = to.shutdown().await;
}
