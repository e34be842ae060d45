//! What falls back on what, over real sockets.
use futures_util::StreamExt;
#[tokio::test]
async fn dbg_idle() {
    use super::drill::*;
    let world = World::new().await;
    let connector = world.connector_with(tower_transport::transport::webtransport::SessionLimits::new().idle(SOON).keep_alive(SOON / 3));
    let mut client = world.client(builder().heartbeat(None), connector).await;
    let mut states = client.handle.reconnect().unwrap().states();
    tokio::spawn(async move { while let Some(s) = states.next().await { println!("{s:?}"); } });
    client.exchange(20).await;
    world.network.swallow_udp(true);
    client.exchange(20).await;
}
