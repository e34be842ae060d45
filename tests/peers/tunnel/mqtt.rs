use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
};

use super::{builder, cutting, example, is_over, payload};
use crate::within;

/// Starts mosquitto. Returns `None` where the tests do without foreign peers, and where it is not installed, which
/// fails in CI.
async fn broker() -> Option<(std::net::SocketAddr, tokio::process::Child)> {
    if std::env::var_os("TOWER_TRANSPORT_NO_PEERS").is_some() {
        println!("skipped: TOWER_TRANSPORT_NO_PEERS is set");
        return None;
    }
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let program = std::env::split_paths(&path).map(|folder| folder.join("mosquitto")).find(|program| program.exists());
    let Some(program) = program else {
        assert!(std::env::var_os("CI").is_none(), "mosquitto is missing: run tests/install");
        println!("skipped: mosquitto is not installed (tests/install)");
        return None;
    };
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut command = Command::new(program);
    command.args(["-p", &address.port().to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let process = command.spawn().unwrap();
    within(async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Some((address, process))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mqtt_client_and_its_broker_see_none_of_the_cuts_of_their_tunnel() {
    let Some((broker, _process)) = broker().await else { return };
    // Counts the connections that the broker sees.
    let counter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let counted = counter.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = counter.accept().await {
            count.fetch_add(1, Relaxed);
            let mut far = TcpStream::connect(broker).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    // client -> tunnel -> a line that is cut -> tunnel -> broker
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = cutting(server.local_addr().unwrap()).await;
    tokio::spawn(example::serve(server, counted, builder()));
    let entry = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = entry.local_addr().unwrap().port();
    tokio::spawn(example::connect(entry, format!("ws://{}/", proxy.address), builder));

    let mut options = MqttOptions::new("tests", "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5)).set_clean_session(true);
    // The broker reorders messages of which more than 20 are in flight with this quality of service.
    options.set_inflight(10);
    let (client, mut events) = AsyncClient::new(options, 16);
    client.subscribe("numbers/+", QoS::ExactlyOnce).await.unwrap();
    let started = Instant::now();
    // The broker drops messages once 1,000 of them wait for a client.
    let room = tokio::sync::Semaphore::new(100);
    let publish = async {
        let mut number = 0;
        while !is_over(&proxy, started) {
            room.acquire().await.unwrap().forget();
            client.publish("numbers/all", QoS::ExactlyOnce, false, payload(number)).await.unwrap();
            number += 1;
        }
        client.publish("numbers/end", QoS::ExactlyOnce, false, "").await.unwrap();
        number
    };
    let receive = async {
        let (mut number, mut greetings) = (0, 0);
        loop {
            match events.poll().await.expect("the client lost its connection") {
                Event::Incoming(Packet::ConnAck(_)) => greetings += 1,
                Event::Incoming(Packet::Publish(publish)) if publish.topic == "numbers/end" => break,
                Event::Incoming(Packet::Publish(publish)) => {
                    let (found, expected) = (publish.payload, payload(number));
                    assert!(found == expected, "{:?} came instead of {:?}", found.first_chunk::<4>(), &expected[..4]);
                    number += 1;
                    room.add_permits(1);
                }
                _ => {}
            }
        }
        (number, greetings)
    };
    let (published, (received, greetings)) = tokio::join!(publish, receive);
    println!("{published} messages in {:?}", started.elapsed());
    assert_eq!((received, greetings), (published, 1));
    assert_eq!(connections.load(Relaxed), 1, "the broker saw a reconnect");
}
