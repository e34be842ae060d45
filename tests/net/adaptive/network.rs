//! A network that gets worse: a UDP and a TCP proxy on the same port number.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
    task::JoinSet,
};

#[derive(Default)]
struct Faults {
    swallows_udp: AtomicBool,
    swallows_tcp: AtomicBool,
    /// Upgrades are answered with an error.
    refuses_upgrades: AtomicBool,
    upgrades_refused: AtomicUsize,
    /// An upgrade passes, and nothing after it.
    swallows_upgraded: AtomicBool,
}

pub(crate) struct Network {
    pub(crate) address: SocketAddr,
    faults: Arc<Faults>,
    /// Counts the cuts: a connection of an older count ends.
    cuts: watch::Sender<u32>,
    tcp: JoinSet<()>,
    server: SocketAddr,
    _udp: JoinSet<()>,
}

impl Network {
    /// In front of a server's UDP and TCP port.
    pub(crate) async fn new(udp: SocketAddr, tcp: SocketAddr) -> Self {
        let (listener, socket) = same_port().await;
        let address = listener.local_addr().unwrap();
        let faults = Arc::<Faults>::default();
        let mut udp_tasks = JoinSet::new();
        udp_tasks.spawn(carry_datagrams(Arc::new(socket), udp, faults.clone()));
        let mut network =
            Self { address, faults, cuts: watch::Sender::new(0), tcp: JoinSet::new(), server: tcp, _udp: udp_tasks };
        network.listen(listener);
        network
    }

    fn listen(&mut self, listener: TcpListener) {
        let (server, faults, cuts) = (self.server, self.faults.clone(), self.cuts.subscribe());
        self.tcp.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (faults, mut cuts) = (faults.clone(), cuts.clone());
                connections.spawn(async move {
                    cuts.mark_unchanged();
                    tokio::select! {
                        () = carry(near, server, &faults) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
    }

    /// From now on no datagram passes.
    pub(crate) fn swallow_udp(&self, yes: bool) {
        self.faults.swallows_udp.store(yes, SeqCst);
    }

    /// From now on connections are made, and nothing passes.
    pub(crate) fn swallow_tcp(&self) {
        self.faults.swallows_tcp.store(true, SeqCst);
    }

    /// From now on WebSocket handshakes are answered with 502.
    pub(crate) fn refuse_upgrades(&self) {
        self.faults.refuses_upgrades.store(true, SeqCst);
    }

    /// From now on WebSocket handshakes pass, and what comes after them does not.
    pub(crate) fn swallow_upgraded(&self) {
        self.faults.swallows_upgraded.store(true, SeqCst);
    }

    pub(crate) fn upgrades_refused(&self) -> usize {
        self.faults.upgrades_refused.load(SeqCst)
    }

    /// Cuts all connections over TCP.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Nobody listens at the TCP port.
    pub(crate) async fn down(&mut self) {
        self.tcp.shutdown().await;
    }

    /// Somebody does again.
    pub(crate) async fn up(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.listen(listener);
    }
}

async fn same_port() -> (TcpListener, UdpSocket) {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
            return (listener, socket);
        }
    }
}

async fn carry_datagrams(near: Arc<UdpSocket>, server: SocketAddr, faults: Arc<Faults>) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let Ok((length, client)) = near.recv_from(&mut buffer).await else { continue };
        if faults.swallows_udp.load(SeqCst) {
            continue;
        }
        let far = match clients.get(&client) {
            Some(far) => far.clone(),
            None => {
                let far = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                far.connect(server).await.unwrap();
                answers.spawn(answer(near.clone(), client, far.clone(), faults.clone()));
                clients.insert(client, far.clone());
                far
            }
        };
        let _ = far.send(&buffer[..length]).await;
    }
}

async fn answer(near: Arc<UdpSocket>, client: SocketAddr, far: Arc<UdpSocket>, faults: Arc<Faults>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = far.recv(&mut buffer).await {
        if !faults.swallows_udp.load(SeqCst) {
            let _ = near.send_to(&buffer[..length], client).await;
        }
    }
}

async fn carry(mut near: TcpStream, server: SocketAddr, faults: &Faults) {
    if faults.swallows_tcp.load(SeqCst) {
        return std::future::pending().await;
    }
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match near.read_buf(&mut head).await {
            Ok(1..) => {}
            _ => return,
        }
    }
    let is_upgrade = String::from_utf8_lossy(&head).to_ascii_lowercase().contains("upgrade: websocket");
    if is_upgrade && faults.refuses_upgrades.load(SeqCst) {
        faults.upgrades_refused.fetch_add(1, SeqCst);
        let _ = near.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        return;
    }
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    if far.write_all(&head).await.is_ok() {
        if is_upgrade && faults.swallows_upgraded.load(SeqCst) {
            let mut answer = vec![0; 4096];
            let length = far.read(&mut answer).await.unwrap_or_default();
            let _ = near.write_all(&answer[..length]).await;
            return std::future::pending().await;
        }
        let _ = copy_bidirectional(&mut near, &mut far).await;
    }
}
