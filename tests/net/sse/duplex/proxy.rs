//! A TCP proxy between the two ends, which does to a connection what the test says.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// The fate of a connection, by the method of its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Carry,
    /// The first request reaches the server, whose answer is cut.
    CutTheAnswer,
    /// Nothing reaches the server.
    CutTheRequest,
    /// So many bytes of requests reach the server.
    CutAfter(usize),
    /// The first request is answered by the proxy.
    BadGateway,
}

pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    cut: watch::Sender<()>,
    posts: Arc<Mutex<usize>>,
}

impl Proxy {
    /// In front of `server`. The connections that begin with a POST meet `fates`, one after the other; all others are
    /// carried.
    pub(super) async fn start(server: SocketAddr, fates: Vec<Fate>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(());
        let posts = Arc::new(Mutex::new(0));
        let counted = posts.clone();
        tokio::spawn(async move {
            let fates = Arc::new(Mutex::new(fates.into_iter()));
            while let Ok((near, _)) = listener.accept().await {
                let (fates, counted, mut is_cut) = (fates.clone(), counted.clone(), is_cut.clone());
                is_cut.mark_unchanged();
                tokio::spawn(async move {
                    let mut method = [0; 4];
                    near.peek(&mut method).await.unwrap();
                    let mut fate = Fate::Carry;
                    if &method == b"POST" {
                        *counted.lock().unwrap() += 1;
                        fate = fates.lock().unwrap().next().unwrap_or(Fate::Carry);
                    }
                    tokio::select! {
                        _ = meet(near, server, fate) => {}
                        _ = is_cut.changed() => {}
                    }
                });
            }
        });
        Self { address, cut, posts }
    }

    /// Cuts all connections there are.
    pub(super) fn cut(&self) {
        self.cut.send(()).unwrap();
    }

    /// How many connections began with a POST.
    pub(super) fn posts(&self) -> usize {
        *self.posts.lock().unwrap()
    }
}

async fn meet(mut near: TcpStream, server: SocketAddr, fate: Fate) {
    let mut far = TcpStream::connect(server).await.unwrap();
    let (mut there, mut back) = ([0; 4096], [0; 4096]);
    match fate {
        Fate::Carry => {
            let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.split(), far.split());
            // A server that reads no more may have answered before: its answer is carried all the same.
            let up = async {
                let _ = copy(&mut from_near, &mut to_far).await;
                let _ = to_far.shutdown().await;
            };
            let down = async {
                let _ = copy(&mut from_far, &mut to_near).await;
                let _ = to_near.shutdown().await;
            };
            tokio::join!(up, down);
        }
        Fate::CutTheRequest => {}
        Fate::BadGateway => {
            let _ = near.read(&mut there).await;
            let _ = near.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        }
        Fate::CutTheAnswer => loop {
            tokio::select! {
                read = near.read(&mut there) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(read) => far.write_all(&there[..read]).await.unwrap(),
                },
                _ = far.read(&mut back) => return,
            }
        },
        Fate::CutAfter(mut bytes) => {
            while bytes > 0 {
                let most = bytes.min(there.len());
                // A request that has fewer is cut behind its end.
                let read = tokio::time::timeout(Duration::from_millis(200), near.read(&mut there[..most])).await;
                let Ok(Ok(read @ 1..)) = read else { return };
                far.write_all(&there[..read]).await.unwrap();
                bytes -= read;
            }
        }
    }
}
