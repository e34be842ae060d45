//! A session that outlives its transports: `cargo run --example adaptive --features adaptive,dev-certificate`
//!
//! One server gives one handler its sessions over WebTransport, WebSocket, and SSE with POST. In front of it is a
//! network that gets worse while messages stream: UDP is swallowed, upgrades are refused, the server dies and comes
//! back. Both ends number their messages, and a checker on each end counts missing and duplicate ones.

mod checker;
mod client;
mod network;
mod server;

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tower_transport::{
    BoxError,
    layer::{heartbeat::HeartbeatLayer, reconnect::Backoff},
    stack::{
        OptimizedBuilder, OptimizedTransport,
        adaptive::{AdaptiveConnector, Decision, Endpoints},
    },
    transport::webtransport::WebTransportConnector,
};

use self::{client::Client, network::Network, server::Server};

/// A dead path is detected after this much silence, and as much without an answer. The default is 20 s each.
const SILENCE: Duration = Duration::from_millis(400);

fn stack() -> OptimizedBuilder {
    OptimizedTransport::builder()
        .heartbeat(HeartbeatLayer::new(SILENCE, SILENCE))
        .backoff(Backoff::fixed(Duration::from_millis(50)))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut server = Server::start(stack()).await?;
    let network = Network::start(server.udp, server.tcp).await?;
    // A real server has TLS on its TCP port too, and needs no more than `Endpoints::new("https://example.com")`.
    let address = network.address;
    let endpoints = Endpoints::new(&format!("http://{address}"))?.web_transport(&format!("https://{address}/wt"))?;
    let certificate = server.certificate;
    let connector = || {
        let by_hash = WebTransportConnector::new().certificate_hashes([certificate]);
        AdaptiveConnector::new(endpoints.clone()).web_transport(by_hash)
    };

    println!("one session, whatever happens:");
    let shared = connector();
    tell(&shared);
    let start = Instant::now();
    let mut client = Client::connect(stack(), shared.clone(), &endpoints).await?;
    client.exchange(20).await?;
    client.says("first messages", start.elapsed());
    client.exchange(2_000).await?;

    network.swallow_udp(true);
    client.lives_on("UDP is swallowed").await?;
    network.refuse_upgrades(true);
    network.cut();
    client.lives_on("upgrades are refused, connections cut").await?;
    client.send(50).await?;
    server.kill().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.revive().await?;
    client.lives_on("the server was dead for 0.5 s").await?;

    let (sent, here, there) = (client.sent(), client.counts(), server.checker.counts());
    println!("  sent {sent}; at the server {there}; back at the client {here}");
    println!("  {}", shared.capabilities(&"/".parse()?)?);
    drop(client);

    println!("time to the first message of a client that remembers nothing:");
    for (udp, upgrades) in [(false, false), (true, false), (true, true)] {
        network.swallow_udp(udp);
        network.refuse_upgrades(upgrades);
        let start = Instant::now();
        let mut client = Client::connect(stack(), connector(), &endpoints).await?;
        client.hears_itself().await?;
        client.says("first message", start.elapsed());
    }
    if !(here.is_whole(sent) && there.is_whole(sent)) {
        return Err("the session has a gap or a duplicate".into());
    }
    println!("0 gaps, 0 duplicates");
    Ok(())
}

/// Prints the decisions of the connector.
fn tell(connector: &AdaptiveConnector) {
    let mut decisions = connector.decisions();
    tokio::spawn(async move {
        while let Some(decided) = decisions.next().await {
            match decided.decision {
                Decision::FellBack { kind, reason, .. } => println!("    {kind} fell back: {reason}"),
                Decision::Stopped { kind, reason, .. } => println!("    {kind} stopped: {reason}"),
                Decision::LostMidSession { kind, error, .. } => println!("    {kind} is dead: {error}"),
                Decision::Connected { kind, after, .. } => println!("    {kind} connected in {} ms", after.as_millis()),
                _ => {}
            }
        }
    });
}
