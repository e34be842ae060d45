//! Typed values through a layered stack over a real socket. A server and a client in one program, with some figures and
//! a clean shutdown.
//!
//! ```text
//! cargo run --release --example echo --features rkyv
//! ```

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rkyv::{Archive, Deserialize, Serialize};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
use tower_http::auth::AddAuthorizationLayer;
use tower_transport::{
    BoxError, Connect, Error, QueueConfig, ServiceBuilderExt, Transport, TransportExt,
    codec::RkyvCodec,
    transport::{
        accept,
        websocket::{WebSocket, WebSocketConnector, WebSocketService},
    },
};

#[derive(Archive, Serialize, Deserialize, Debug)]
struct Order {
    id: u64,
    symbol: String,
    quantity: u32,
}

#[derive(Archive, Serialize, Deserialize, Debug)]
struct Fill {
    order: u64,
    price: f64,
}

/// The server fills each order: it reads a view of the received bytes, and nothing is copied.
async fn fill_orders(socket: WebSocket) -> Result<(), Error> {
    let transport = ServiceBuilder::new().codec(RkyvCodec::<Fill, Order>::views()).service(socket);
    let (sender, mut orders) = transport.drive(QueueConfig::values()).spawn();
    while let Some(order) = orders.receive().await {
        let order = order?;
        let price = f64::from(order.quantity.to_native()) * order.symbol.len() as f64;
        sender.send(Fill { order: order.id.to_native(), price }).await?;
    }
    Ok(())
}

async fn serve(listener: TcpListener) {
    let upgrade = WebSocketService::new(|socket, parts| async move {
        let has_token = parts.headers.contains_key(http::header::AUTHORIZATION);
        println!("server: a client comes {} a token", if has_token { "with" } else { "without" });
        if let Err(error) = fill_orders(socket).await {
            println!("server: {error}");
        }
    });
    loop {
        let (tcp, _) = accept(|| listener.accept()).await;
        let _ = tcp.set_nodelay(true); // fails if the client has left; its connection reports that
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(tcp), TowerToHyperService::new(upgrade.clone()))
            .with_upgrades();
        tokio::spawn(connection);
    }
}

fn order(id: u64) -> Order {
    Order { id, symbol: "XYZ".to_owned(), quantity: 100 }
}

/// Sends one order at a time to measure the time of an answer.
async fn one_by_one<C>(connector: C, url: &str) -> Result<(), BoxError>
where
    C: Connect<ConnectError = BoxError>,
    C::Transport: Transport<Order, In = Fill, TransportError = Error> + Unpin,
{
    const ORDERS: u64 = 10_000;
    let response = connector.oneshot(http::Request::get(url).body(())?).await?;
    println!("client: {}", response.status());
    let mut transport = response.into_body();
    let mut times = Vec::with_capacity(ORDERS as usize);
    for id in 0..ORDERS {
        let start = Instant::now();
        transport.send_message(order(id)).await?;
        let fill = transport.receive_message().await.ok_or("the server left")??;
        times.push(start.elapsed());
        if id == 0 {
            println!("client: {:?} gave {fill:?}", order(id));
        }
        assert_eq!(fill.order, id);
    }
    times.sort();
    let (median, slow) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{ORDERS} orders one by one: median {median:?}, 99 of 100 within {slow:?}");
    transport.close().await?;
    Ok(())
}

/// Runs many tasks at once, through one driver.
async fn all_at_once<C>(connector: C, url: &str) -> Result<(), BoxError>
where
    C: Connect<ConnectError = BoxError>,
    C::Transport: Transport<Order, In = Fill, TransportError = Error> + Send + 'static,
{
    const TASKS: u64 = 64;
    const ORDERS: u64 = 5_000;
    let transport = connector.oneshot(http::Request::get(url).body(())?).await?.into_body();
    let (sender, fills, driver) = transport.drive(QueueConfig::values()).into_parts();
    let driver = tokio::spawn(driver);
    let start = Instant::now();
    for task in 0..TASKS {
        let sender = sender.clone();
        tokio::spawn(async move {
            for id in 0..ORDERS {
                sender.send(order(task * ORDERS + id)).await?;
            }
            Ok::<(), Error>(())
        });
    }
    let filled = fills.take((TASKS * ORDERS) as usize).filter(|fill| std::future::ready(fill.is_ok())).count().await;
    let time = start.elapsed();
    let rate = filled as f64 / time.as_secs_f64();
    println!("{filled} orders by {TASKS} tasks: {time:.0?}, {rate:.0} orders a second, there and back");
    assert_eq!(filled as u64, TASKS * ORDERS);
    drop(sender);
    driver.await??;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/orders", listener.local_addr()?);
    tokio::spawn(serve(listener));

    let connector = ServiceBuilder::new()
        .per_connection(ServiceBuilder::new().codec(RkyvCodec::<Order, Fill>::new())) // typed values
        .layer(TimeoutLayer::new(Duration::from_secs(5))) // tower's layer, on the connect
        .layer(AddAuthorizationLayer::bearer("a-token")) // tower-http's layer, on the handshake
        .service(WebSocketConnector::new());
    one_by_one(connector.clone(), &url).await?;
    all_at_once(connector, &url).await?;
    println!("done");
    Ok(())
}
