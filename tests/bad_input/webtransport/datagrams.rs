use bytes::Bytes;
use futures_util::FutureExt;
use tower_transport::{Limits, TransportExt, transport::webtransport::SessionLimits};

use super::peer::{Victim, attack};
use crate::allocator::Growth;

const KIB: usize = 1024;

#[test]
fn fifty_thousand_datagrams_that_nobody_reads_cost_at_most_the_buffer() {
    const DATAGRAMS: u64 = 50_000;
    let attacker = async |victim: Victim| {
        let session = victim.session().await;
        for _ in 0..DATAGRAMS {
            session.send_datagram_wait(Bytes::from_static(&[7; 1000])).await.unwrap();
        }
        // Data in QUIC's buffer goes out before the close.
        let (mut send, _receive) = session.open_bi().await.unwrap();
        send.write_all(&[1]).await.unwrap();
        session.closed().await;
    };
    let limits = SessionLimits::new();
    attack(Limits::new(), limits, attacker, async |mut server| {
        let session = server.accept().await.unwrap().accept().await.unwrap();
        let growth = Growth::start();
        let mut datagrams = session.datagrams();
        let _last = session.accept().await.unwrap();
        let (peak, came) = (growth.peak(), session.stats().datagrams_received);
        let mut kept = 0;
        while let Some(Some(Ok(_))) = datagrams.receive_message().now_or_never() {
            kept += 1;
        }
        println!("{DATAGRAMS} datagrams of 1,000 B, {came} came, {kept} kept: {} KiB at most", peak / KIB);
        assert!(came > 10 * kept, "{came} came, {kept} were kept: that was no flood");
        assert!(kept * 1000 <= u64::from(limits.datagrams));
        assert!(peak < limits.datagrams as usize * 3 + 512 * KIB, "{peak}");
        session.close(tower_transport::CloseFrame::new(tower_transport::CloseCode::NORMAL, ""));
        session.closed().await;
    });
}
