use std::time::Duration;

use futures_util::FutureExt;
use tower_transport::{
    Limits, Message, TransportExt,
    transport::webtransport::{Session, SessionLimits, WebTransportServer},
};

use super::peer::{Victim, attack};
use crate::allocator::Growth;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

async fn session(server: &mut WebTransportServer) -> Session {
    server.accept().await.unwrap().accept().await.unwrap()
}

/// Waits until the peer has ended the session, and meanwhile does nothing else.
async fn over(session: &Session) {
    session.closed().await;
}

#[test]
fn a_hundred_streams_that_nobody_reads_cost_at_most_the_window() {
    let limits = SessionLimits::new();
    let attacker = async move |victim: Victim| {
        let session = victim.session().await;
        let mut streams = Vec::new();
        for _ in 0..limits.streams {
            let (mut send, receive) = session.open_bi().await.unwrap();
            send.write_all(&[1]).await.unwrap();
            streams.push((send, receive));
        }
        let chunk = vec![7; 64 * KIB];
        // More than the window of one stream, in each; what was taken when nothing moves any more counts.
        let fill = streams.into_iter().map(async |(mut send, receive)| {
            let mut written = 0;
            while let Ok(Ok(more)) = tokio::time::timeout(Duration::from_secs(1), send.write(&chunk)).await {
                written += more;
            }
            (written, send, receive)
        });
        let streams = futures_util::future::join_all(fill).await;
        session.leave().await;
        streams.iter().map(|(written, ..)| written).sum::<usize>()
    };
    let mut peak = 0;
    let written = attack(Limits::new(), limits, attacker, async |mut server| {
        let session = session(&mut server).await;
        let growth = Growth::start();
        let mut streams = Vec::new();
        while let Ok(stream) = session.accept().await {
            streams.push(stream);
        }
        assert_eq!(streams.len(), limits.streams as usize);
        peak = growth.peak();
    });
    println!("{} KiB written to 100 unread streams, {} KiB held at most", written / KIB, peak / KIB);
    // It includes the beginning of each stream.
    assert!(written + 100 * 16 > limits.window as usize, "{written}: the window was not filled");
    assert!(peak < limits.window as usize * 3 / 2 + MIB, "{peak}");
}

#[test]
fn a_byte_a_packet_does_not_pin_more_than_the_window() {
    const WRITES: usize = 30_000;
    let attacker = async |victim: Victim| {
        let session = victim.session().await;
        let (mut send, _receive) = session.open_bi().await.unwrap();
        for _ in 0..WRITES {
            send.write_all(&[7]).await.unwrap();
            // The connection's task sends it, alone in its packet.
            tokio::task::yield_now().await;
        }
        let _ = send.finish();
        // Until the peer has acknowledged all.
        let _ = tokio::time::timeout(Duration::from_secs(5), send.stopped()).await;
        session.leave().await;
    };
    attack(Limits::new(), SessionLimits::new(), attacker, async |mut server| {
        let session = session(&mut server).await;
        let growth = Growth::start();
        let _stream = session.accept().await.unwrap();
        over(&session).await;
        let packets = session.stats().udp_datagrams_received;
        println!("{WRITES} unread bytes in {packets} packets: {} KiB at most", growth.peak() / KIB);
        assert!(packets > 5_000, "{packets}: they came together");
        assert!(growth.peak() < 8 * MIB, "{}", growth.peak());
    });
}

#[test]
fn no_more_streams_are_opened_than_the_limit_and_nobody_has_to_accept_them() {
    const STREAMS: u32 = 50;
    let attacker = async |victim: Victim| {
        let session = victim.session().await;
        let mut open = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(1), session.open_bi()).await {
            open.push(stream);
        }
        session.leave().await;
        open.len()
    };
    let limits = SessionLimits::new().streams(STREAMS);
    let mut peak = 0;
    let opened = attack(Limits::new(), limits, attacker, async |mut server| {
        let session = session(&mut server).await;
        let growth = Growth::start();
        over(&session).await;
        peak = growth.peak();
    });
    println!("{opened} streams open, {} KiB held at most", peak / KIB);
    assert_eq!(opened, STREAMS as usize);
    assert!(peak < 512 * KIB, "{peak}");
}

#[test]
fn ten_thousand_streams_that_end_as_soon_as_they_are_open_leave_nothing_behind() {
    const STREAMS: usize = 10_000;
    let attacker = async |victim: Victim| {
        let session = victim.session().await;
        for stream in 0..STREAMS {
            let (mut send, mut receive) = session.open_bi().await.unwrap();
            match stream % 2 {
                0 => send.finish().unwrap(),
                _ => send.reset(1).unwrap(),
            }
            receive.stop(1).unwrap();
        }
        session.leave().await;
    };
    attack(Limits::new(), SessionLimits::new(), attacker, async |mut server| {
        let session = session(&mut server).await;
        let growth = Growth::start();
        let mut seen = 0;
        while let Ok(stream) = session.accept().await {
            seen += 1;
            drop(stream);
        }
        println!("{STREAMS} streams ended at once, {seen} of them seen: {} KiB at most", growth.peak() / KIB);
        assert!(growth.peak() < 2 * MIB, "{}", growth.peak());
    });
}

#[test]
fn an_announced_length_over_the_limit_is_not_allocated() {
    let attacker = async |victim: Victim| {
        let session = victim.session().await;
        let (mut send, _receive) = session.open_bi().await.unwrap();
        // The preamble, a binary message, 2^62 - 1 bytes.
        send.write_all(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7]).await.unwrap();
        let code = send.stopped().await.unwrap();
        session.leave().await;
        code
    };
    let code = attack(Limits::new(), SessionLimits::new(), attacker, async |mut server| {
        let session = session(&mut server).await;
        let mut stream = session.accept().await.unwrap();
        let growth = Growth::start();
        let error = stream.receive_message().await.unwrap().unwrap_err();
        assert!(error.is_too_large(), "{error}");
        assert!(stream.receive_message().await.is_none());
        assert!(growth.peak() < 64 * KIB, "{}", growth.peak());
        over(&session).await;
    });
    assert_eq!(code, Some(1009));
}

#[test]
fn garbage_ends_its_stream_and_no_other() {
    const GARBAGE: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0],
        // After the preamble: a kind that there is not, a ping of 126 bytes, a close of one byte, text that is not
        // UTF-8.
        &[1, 9, 0],
        &[1, 2, 0x40, 126],
        &[1, 4, 1, 3],
        &[1, 0, 2, 0xff, 0xff],
    ];
    let attacker = async |victim: Victim| {
        let session = victim.session().await;
        let mut codes = Vec::new();
        for garbage in GARBAGE {
            let (mut send, _receive) = session.open_bi().await.unwrap();
            send.write_all(garbage).await.unwrap();
            codes.push(send.stopped().await.unwrap());
        }
        let (mut send, mut receive) = session.open_bi().await.unwrap();
        send.write_all(b"\x01\x00\x05hello").await.unwrap();
        let mut echo = [0; 7];
        receive.read_exact(&mut echo).await.unwrap();
        session.leave().await;
        (codes, echo)
    };
    let (codes, echo) = attack(Limits::new(), SessionLimits::new(), attacker, async |mut server| {
        let session = session(&mut server).await;
        for garbage in GARBAGE {
            let mut stream = session.accept().await.unwrap();
            let error = stream.receive_message().await.unwrap().unwrap_err();
            assert!(error.is_protocol(), "{garbage:?}: {error}");
        }
        let mut stream = session.accept().await.unwrap();
        let message = stream.receive_message().await.unwrap().unwrap();
        assert_eq!(message, Message::text("hello"));
        stream.send_message(message).await.unwrap();
        over(&session).await;
    });
    assert_eq!(codes, [Some(1002); GARBAGE.len()]);
    assert_eq!(&echo, b"\x00\x05hello");
}

#[test]
fn a_peer_that_does_not_read_makes_the_sink_wait_not_grow() {
    let limits = SessionLimits::new();
    let (done, wait) = tokio::sync::oneshot::channel::<()>();
    let attacker = async move |victim: Victim| {
        let session = victim.session().await;
        let (mut send, _receive) = session.open_bi().await.unwrap();
        send.write_all(&[1]).await.unwrap();
        let _ = wait.await;
        session.leave().await;
    };
    attack(Limits::new(), limits, attacker, async |mut server| {
        let session = session(&mut server).await;
        let mut stream = session.accept().await.unwrap();
        let message = || Message::binary(vec![0; 16 * KIB]);
        let growth = Growth::start();
        let mut sent = 0;
        while let Ok(result) = tokio::time::timeout(Duration::from_secs(1), stream.send_message(message())).await {
            result.unwrap();
            sent += 1;
            assert!(sent < 100_000, "the sink is never full");
        }
        assert!(stream.send_message(message()).now_or_never().is_none());
        println!("{sent} messages of 16 KiB accepted, {} KiB held at most", growth.peak() / KIB);
        assert!(growth.peak() < limits.send_window as usize + MIB, "{}", growth.peak());
        done.send(()).unwrap();
    });
}
