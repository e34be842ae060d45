//! A network that gets worse: a UDP and a TCP proxy on one port number.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
};
use tower_transport::transport::accept;

#[derive(Default)]
struct Faults {
    swallows_udp: AtomicBool,
    refuses_upgrades: AtomicBool,
}

pub(crate) struct Network {
    pub(crate) address: SocketAddr,
    faults: Arc<Faults>,
    /// Each change cuts all TCP connections.
    cuts: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Network {
    pub(crate) async fn start(udp: SocketAddr, tcp: SocketAddr) -> io::Result<Self> {
        let (listener, socket) = same_port().await?;
        let (address, faults, cuts) = (listener.local_addr()?, Arc::<Faults>::default(), watch::Sender::new(()));
        let mut tasks = JoinSet::new();
        tasks.spawn(carry_datagrams(Arc::new(socket), udp, faults.clone()));
        let (passed, cut) = (faults.clone(), cuts.subscribe());
        tasks.spawn(async move {
            loop {
                let (near, _) = accept(|| listener.accept()).await;
                let (faults, mut cut) = (passed.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = carry(near, tcp, &faults) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Ok(Self { address, faults, cuts, _tasks: tasks })
    }

    /// Sets whether all datagrams are dropped.
    pub(crate) fn swallow_udp(&self, yes: bool) {
        self.faults.swallows_udp.store(yes, Relaxed);
    }

    /// Sets whether WebSocket handshakes are answered with 502, as by a proxy that does not support them.
    pub(crate) fn refuse_upgrades(&self, yes: bool) {
        self.faults.refuses_upgrades.store(yes, Relaxed);
    }

    /// Cuts all TCP connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_replace(());
    }
}

async fn same_port() -> io::Result<(TcpListener, UdpSocket)> {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        if let Ok(socket) = UdpSocket::bind(listener.local_addr()?).await {
            return Ok((listener, socket));
        }
    }
}

async fn carry_datagrams(near: Arc<UdpSocket>, server: SocketAddr, faults: Arc<Faults>) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, client)) = near.recv_from(&mut buffer).await else { continue };
        if faults.swallows_udp.load(Relaxed) {
            continue;
        }
        let far = match clients.get(&client) {
            Some(far) => far.clone(),
            None => {
                let Ok(far) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await else { continue };
                let far = Arc::new(far);
                tokio::spawn(answer(near.clone(), client, far.clone(), faults.clone()));
                clients.insert(client, far.clone());
                far
            }
        };
        let _ = far.send_to(&buffer[..length], server).await;
    }
}

async fn answer(near: Arc<UdpSocket>, client: SocketAddr, far: Arc<UdpSocket>, faults: Arc<Faults>) {
    let mut buffer = vec![0; 65_536];
    while let Ok((length, _)) = far.recv_from(&mut buffer).await {
        if !faults.swallows_udp.load(Relaxed) {
            let _ = near.send_to(&buffer[..length], client).await;
        }
    }
}

async fn carry(mut near: TcpStream, server: SocketAddr, faults: &Faults) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if near.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let is_upgrade = String::from_utf8_lossy(&head).to_ascii_lowercase().contains("upgrade: websocket");
    if is_upgrade && faults.refuses_upgrades.load(Relaxed) {
        return near.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    }
    let mut far = TcpStream::connect(server).await?;
    far.write_all(&head).await?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
