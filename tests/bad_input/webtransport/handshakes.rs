use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::net::UdpSocket;
use tokio_rustls::rustls::{
    NamedGroup,
    client::{
        ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    },
    pki_types::ServerName,
};
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, TransportExt,
    transport::webtransport::{SessionLimits, WebTransportServer},
};

use super::peer::{Victim, attack};
use crate::allocator::Growth;

const KIB: usize = 1024;

/// Serves an echo to one honest client, until that is gone.
async fn serve_one(server: &mut WebTransportServer) {
    let session = server.accept().await.unwrap().accept().await.unwrap();
    let mut stream = session.accept().await.unwrap();
    let message = stream.receive_message().await.unwrap().unwrap();
    stream.send_message(message).await.unwrap();
    session.closed().await;
}

async fn is_served(victim: &Victim) {
    let session = victim.honest().await;
    let mut stream = session.open().await.unwrap();
    stream.send_message(Message::text("served?")).await.unwrap();
    assert_eq!(stream.receive_message().await.unwrap().unwrap(), Message::text("served?"));
    session.close(CloseFrame::new(CloseCode::NORMAL, ""));
    session.closed().await;
}

#[test]
fn a_hundred_clients_that_never_finish_the_handshake_hold_up_no_other_and_are_cut() {
    const CLIENTS: usize = 100;
    let (done, mut wait) = tokio::sync::oneshot::channel();
    let attacker = async |victim: Victim| {
        let quic = victim.quic(Resumption::disabled());
        let mut idle = Vec::new();
        for client in 0..CLIENTS {
            let connection = quic.connect(victim.address, "localhost").unwrap().await.unwrap();
            let stream = match client % 2 {
                // Says nothing at all.
                0 => None,
                // The beginning of a request: a HEADERS frame of 100 bytes, of which one comes.
                _ => {
                    let (mut send, receive) = connection.open_bi().await.unwrap();
                    send.write_all(&[1, 0x40, 100, 0]).await.unwrap();
                    Some((send, receive))
                }
            };
            idle.push((connection, stream));
        }
        is_served(&victim).await;
        let were_open = idle.iter().filter(|(connection, _)| connection.close_reason().is_none()).count();
        for (connection, _stream) in &idle {
            connection.closed().await;
        }
        let _ = done.send(());
        were_open
    };
    let limits = Limits::new().handshake(Duration::from_secs(5));
    let mut peak = 0;
    let open = attack(limits, SessionLimits::new(), attacker, async |mut server| {
        let growth = Growth::start();
        serve_one(&mut server).await;
        peak = growth.peak();
        // Handshakes go on, and are given up, while there is an accept.
        tokio::select! {
            _ = server.accept() => panic!("nobody has finished a handshake"),
            _ = &mut wait => {}
        }
    });
    println!(
        "{CLIENTS} clients that never finish: {open} open while one more was served, {} KiB each",
        peak / KIB / CLIENTS
    );
    assert!(open > 0, "the test took too long to show anything: {open}");
    assert!(peak < CLIENTS * 128 * KIB, "{peak}");
}

#[test]
fn datagrams_that_are_no_quic_cost_nothing() {
    const DATAGRAMS: usize = 20_000;
    let attacker = async |victim: Victim| {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut noise = [0_u8; 1200];
        let mut state = 0x9e37_79b9_u32;
        for _ in 0..DATAGRAMS {
            for byte in &mut noise {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            let length = 1 + state as usize % noise.len();
            let _ = socket.send_to(&noise[..length], victim.address).await;
        }
        is_served(&victim).await;
    };
    attack(Limits::new(), SessionLimits::new(), attacker, async |mut server| {
        let growth = Growth::start();
        serve_one(&mut server).await;
        println!("{DATAGRAMS} datagrams of noise: {} KiB at most", growth.peak() / KIB);
        assert!(growth.peak() < 2048 * KIB, "{}", growth.peak());
    });
}

#[test]
fn an_address_that_has_not_shown_itself_gets_at_most_three_times_what_it_sent() {
    let attacker = async |victim: Victim| {
        // The first datagram of a client, caught on its way, and sent by one who knows no more than that.
        let trap = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let _connecting = victim.quic(Resumption::disabled()).connect(trap.local_addr().unwrap(), "localhost").unwrap();
        let mut bytes = vec![0; 65_536];
        let (sent, _) = trap.recv_from(&mut bytes).await.unwrap();
        let spoofed = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        spoofed.send_to(&bytes[..sent], victim.address).await.unwrap();
        let mut came = 0;
        // Its certificate is larger than what it may send; after that it has to be silent.
        while let Ok(received) = tokio::time::timeout(Duration::from_millis(1500), spoofed.recv_from(&mut bytes)).await
        {
            came += received.unwrap().0;
        }
        is_served(&victim).await;
        (sent, came)
    };
    let (sent, came) =
        attack(Limits::new(), SessionLimits::new(), attacker, async |mut server| serve_one(&mut server).await);
    println!("{came} bytes for {sent}");
    assert!(came > 0 && came <= 3 * sent, "{came} for {sent}");
}

#[test]
fn a_client_that_was_here_before_gets_no_early_data() {
    let attacker = async |victim: Victim| {
        let tickets = Arc::new(Tickets::default());
        let quic = victim.quic(Resumption::store(tickets.clone()));
        let first = quic.connect(victim.address, "localhost").unwrap().await.unwrap();
        // The server's HTTP/3 settings arrive after the tickets.
        first.accept_uni().await.unwrap();
        let early = quic.connect(victim.address, "localhost").unwrap().into_0rtt().is_ok();
        first.close(0_u32.into(), b"");
        is_served(&victim).await;
        (tickets.kept.load(Relaxed), early)
    };
    let (tickets, early) =
        attack(Limits::new(), SessionLimits::new(), attacker, async |mut server| serve_one(&mut server).await);
    assert!(tickets > 0, "without a ticket this shows nothing");
    assert!(!early, "early data can be sent again by anyone who saw it");
}

/// A client's store of TLS sessions, with counts.
#[derive(Debug)]
struct Tickets {
    store: ClientSessionMemoryCache,
    kept: AtomicUsize,
}

impl Default for Tickets {
    fn default() -> Self {
        Self { store: ClientSessionMemoryCache::new(8), kept: AtomicUsize::new(0) }
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.store.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.store.kx_hint(server)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept.fetch_add(1, Relaxed);
        self.store.insert_tls13_ticket(server, value);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.store.take_tls13_ticket(server)
    }
}
