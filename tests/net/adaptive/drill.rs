//! The fallback drill: one session over a network that gets worse and worse, and a checker on each end.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tower_transport::{
    Limits,
    stack::{TransportKind, adaptive::Decision},
    transport::webtransport::SessionLimits,
};

use super::{
    within,
    world::{SOON, World, builder},
};

#[tokio::test]
async fn a_session_survives_its_transports_without_a_gap_or_a_duplicate() {
    let mut world = World::new().await;
    let connector = world.connector();
    let mut decisions = connector.decisions();
    let mut client = world.client(builder(), connector).await;
    assert_eq!(client.kind(), TransportKind::WebTransport);
    client.exchange(300).await;

    client.send(50).await;
    world.network.swallow_udp(true);
    client.settle().await;
    client.exchange(300).await;
    assert_eq!(client.kind(), TransportKind::WebSocket);

    client.send(50).await;
    world.network.refuse_upgrades();
    world.network.cut();
    client.settle().await;
    client.exchange(300).await;
    assert_eq!(client.kind(), TransportKind::Sse);
    assert!(world.network.upgrades_refused() > 0);

    client.send(50).await;
    world.network.down().await;
    client.send(50).await;
    world.network.up().await;
    client.settle().await;
    client.exchange(300).await;
    assert_eq!(client.kind(), TransportKind::Sse);

    client.assert_whole(&world);
    let (mut connected, mut lost) = (Vec::new(), Vec::new());
    while let Some(Some(decided)) = decisions.next().now_or_never() {
        match decided.decision {
            Decision::Connected { kind, .. } => connected.push(kind),
            Decision::LostMidSession { kind, .. } => lost.push(kind),
            _ => {}
        }
    }
    assert_eq!(lost, [TransportKind::WebTransport], "a cut is no dead path");
    connected.dedup();
    assert_eq!(connected, TransportKind::all().collect::<Vec<_>>());
}

#[tokio::test]
async fn without_a_heartbeat_quic_itself_notices_that_its_path_is_dead() {
    let world = World::new().await;
    let connector = world.connector_with(SessionLimits::new().idle(SOON).keep_alive(SOON / 3));
    let mut decisions = connector.decisions();
    let mut client = world.client(builder().heartbeat(None), connector).await;
    client.exchange(20).await;
    assert_eq!(client.kind(), TransportKind::WebTransport);
    world.network.swallow_udp(true);
    client.exchange(20).await;
    assert_eq!(client.kind(), TransportKind::WebSocket);
    client.assert_whole(&world);
    let lost = async {
        while let Some(decided) = decisions.next().await {
            if let Decision::LostMidSession { kind, .. } = decided.decision {
                return Some(kind);
            }
        }
        None
    };
    assert_eq!(within(lost).await, Some(TransportKind::WebTransport));
}

#[tokio::test]
async fn where_tcp_is_swallowed_in_a_session_udp_may_do() {
    let world = World::new().await;
    world.network.swallow_udp(true);
    let connector = world.connector().limits(Limits::new().handshake(Duration::from_secs(2)));
    let mut client = world.client(builder(), connector).await;
    assert_eq!(client.kind(), TransportKind::WebSocket);
    client.exchange(20).await;
    world.network.swallow_udp(false);
    world.network.swallow_tcp();
    world.network.cut();
    client.exchange(20).await;
    assert_eq!(client.kind(), TransportKind::WebTransport);
    client.assert_whole(&world);
}

#[tokio::test]
async fn a_websocket_that_is_made_and_carries_nothing_makes_room_for_sse() {
    let world = World::new().await;
    world.network.swallow_udp(true);
    world.network.swallow_upgraded();
    let connector = world.connector();
    let mut decisions = connector.decisions();
    let patience = Limits::new().handshake(Duration::from_millis(500));
    let mut client = world.client(builder().limits(patience), connector.clone()).await;
    client.exchange(20).await;
    assert_eq!(client.kind(), TransportKind::Sse, "in the first call, which does not fail");
    let mut lost = Vec::new();
    while let Some(Some(decided)) = decisions.next().now_or_never() {
        if let Decision::LostMidSession { kind, .. } = decided.decision {
            lost.push(kind);
        }
    }
    assert_eq!(lost, [TransportKind::WebSocket]);
    client.assert_whole(&world);

    let mut next = world.client(builder().limits(patience), connector).await;
    next.exchange(20).await;
    assert_eq!(next.kind(), TransportKind::Sse, "and the next one knows");
}
