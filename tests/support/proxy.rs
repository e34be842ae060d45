//! A TCP proxy that cuts its connections after a number of bytes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Carries so many bytes in all, then cuts both ends. Whether it came to that.
async fn carry(mut near: TcpStream, server: SocketAddr, mut bytes: usize) -> bool {
    let Ok(mut far) = TcpStream::connect(server).await else { return false };
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
    /// In front of `server`; one connection after the other is cut after so many bytes, those after the last never.
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
