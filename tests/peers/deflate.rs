//! permessage-deflate with Node.js `ws`, Python `websockets` and `aiohttp`, in both roles: their defaults, context
//! takeover on and off, window bits, messages in fragments with pings between.

use std::process::Stdio;

use futures_util::{SinkExt, StreamExt, future::join};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use tower::ServiceExt;
use tower_transport::{
    Limits, Message, TransportExt,
    transport::websocket::{PerMessageDeflate, WebSocket, WebSocketConnector, WebSocketService},
};

use crate::{
    process::{Language, command},
    serve::serve,
    within,
};

#[derive(Clone, Copy)]
enum Peer {
    Ws,
    Websockets,
    Aiohttp,
}

impl Peer {
    /// The command that runs the peer; `None` where the tests against it are to be passed over.
    fn command(self) -> Option<Command> {
        let (language, script, package) = match self {
            Self::Ws => return command(Language::Node, "deflate.cjs", "ws"),
            Self::Websockets => (Language::Python, "deflate_peer.py", "websockets"),
            Self::Aiohttp => (Language::Python, "deflate_peer.py", "aiohttp"),
        };
        let mut command = command(language, script, package)?;
        command.arg(package);
        Some(command)
    }
}

/// Settings of ours: of this end and of the peer's.
fn ours(takes_over: bool, peer_takes_over: bool, bits: u8) -> PerMessageDeflate {
    let config =
        PerMessageDeflate::new().min_size(0).context_takeover(takes_over).peer_context_takeover(peer_takes_over);
    config.max_window_bits(bits).unwrap()
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.receive_message().await {
        if message.is_data() {
            socket.send_message(message).await.unwrap();
        }
    }
}

/// The peer calls our server. Returns what it says was negotiated.
async fn called(peer: Peer, config: PerMessageDeflate, options: &str) -> Option<String> {
    let mut command = peer.command()?;
    let server = WebSocketService::new(|socket, _| echo(socket));
    let address = serve(server.per_message_deflate(config)).await;
    let url = format!("ws://{address}/");
    let output = within(command.args(["call", &url, options]).stderr(Stdio::inherit()).output()).await.unwrap();
    assert!(output.status.success(), "the peer with {options} failed: {}", output.status);
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

async fn started(peer: Peer, options: &str) -> Option<(Child, String)> {
    let mut process = peer.command()?.args(["serve", options]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().expect("the peer prints its port");
    Some((process, format!("ws://127.0.0.1:{port}/")))
}

/// Our client calls the peer, with messages in fragments. Returns what was negotiated.
async fn calls(url: &str, config: PerMessageDeflate) -> String {
    let request = http::Request::get(url).body(()).unwrap();
    let connector = WebSocketConnector::new().per_message_deflate(config).limits(Limits::new().frame(50_000));
    let mut socket = connector.oneshot(request).await.unwrap().into_body();
    for size in [0_usize, 1, 2, 10, 125, 126, 127, 1000, 4096, 32_767, 65_535, 65_536, 200_000] {
        for message in [
            Message::text("{\"price\":101,\"side\":\"b\u{fc}y\"}".repeat(size / 20)),
            Message::binary((0..size as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>()),
            Message::binary(vec![0; size]),
            Message::text("prepared ".repeat(size / 9)).into_prepared(),
        ] {
            let (mut sink, mut stream) = (&mut socket).split();
            let answer = async {
                loop {
                    let message = stream.next().await.unwrap().unwrap();
                    if message.is_data() {
                        break message;
                    }
                }
            };
            let (sent, answer) = join(sink.send(message.clone()), answer).await;
            sent.unwrap();
            assert!(answer == message, "{} bytes", message.len());
        }
    }
    let negotiated = socket.extensions().unwrap().to_owned();
    let _ = socket.close(None).await;
    negotiated
}

const NO_TAKEOVER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The peer calls our server with each of these settings, its options, and the parameters that both agree on.
async fn is_called_by(peer: Peer, cases: &[(PerMessageDeflate, &str, &str)]) {
    for (config, options, negotiated) in cases {
        let Some(answer) = called(peer, config.clone(), options).await else { return };
        assert_eq!(answer, *negotiated, "{options}");
    }
}

/// Our client calls the peer, started with each of these options.
async fn calls_each(peer: Peer, options: &[&str]) {
    for options in options {
        let Some((_process, url)) = started(peer, options).await else { return };
        for config in [PerMessageDeflate::new(), ours(true, true, 15), ours(false, false, 10)] {
            let negotiated = within(calls(&url, config)).await;
            assert!(negotiated.starts_with("permessage-deflate"), "{options}: {negotiated}");
        }
    }
}

#[tokio::test]
async fn node_ws_calls_our_server() {
    let no_takeover = r#"{"serverNoContextTakeover":true,"clientNoContextTakeover":true,"threshold":0}"#;
    let windows = r#"{"serverMaxWindowBits":10,"clientMaxWindowBits":11,"threshold":0}"#;
    let agreed = "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11";
    let small = "permessage-deflate; server_no_context_takeover; server_max_window_bits=9";
    is_called_by(
        Peer::Ws,
        &[
            // Both with their defaults.
            (PerMessageDeflate::new(), "null", NO_TAKEOVER),
            (ours(true, true, 15), "null", "permessage-deflate"),
            (ours(true, true, 15), no_takeover, NO_TAKEOVER),
            (ours(true, true, 12), windows, agreed),
            (ours(false, true, 9), r#"{"threshold":0}"#, small),
            // A client that offers nothing.
            (ours(true, true, 15), "false", ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn our_client_calls_node_ws() {
    let no_takeover = r#"{"serverNoContextTakeover":true,"threshold":0}"#;
    let windows = r#"{"serverMaxWindowBits":10,"clientMaxWindowBits":10,"threshold":0}"#;
    calls_each(Peer::Ws, &["null", no_takeover, windows]).await;
}

/// The same options as a server and as a client.
const WEBSOCKETS: [&str; 2] = [
    r#"{"server_no_context_takeover":true,"client_no_context_takeover":true}"#,
    r#"{"server_max_window_bits":9,"client_max_window_bits":9}"#,
];

#[tokio::test]
async fn python_websockets_calls_our_server() {
    let [no_takeover, windows] = WEBSOCKETS;
    let agreed = "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9";
    is_called_by(
        Peer::Websockets,
        &[
            (PerMessageDeflate::new(), "null", NO_TAKEOVER),
            (ours(true, true, 15), "{}", "permessage-deflate"),
            (ours(true, true, 15), no_takeover, NO_TAKEOVER),
            (ours(true, true, 15), windows, agreed),
        ],
    )
    .await;
}

#[tokio::test]
async fn our_client_calls_python_websockets() {
    let [no_takeover, windows] = WEBSOCKETS;
    calls_each(Peer::Websockets, &["null", no_takeover, windows]).await;
}

#[tokio::test]
async fn python_aiohttp_in_both_roles() {
    is_called_by(
        Peer::Aiohttp,
        &[
            (PerMessageDeflate::new(), "15", NO_TAKEOVER),
            (ours(true, true, 15), "10", "permessage-deflate; server_max_window_bits=10"),
        ],
    )
    .await;
    calls_each(Peer::Aiohttp, &["null"]).await;
}
