//! Node.js `ws` and Python `websockets`, as processes.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use tower_transport::{
    CloseCode, CloseFrame, Message, TransportExt,
    transport::{
        Drain,
        websocket::{WebSocket, WebSocketService},
    },
};

use crate::{
    LIMIT, our_client,
    our_server::OurServer,
    process::{Language, command},
    serve::serve,
    within,
};

#[derive(Clone, Copy)]
enum Peer {
    Node,
    Python,
}

impl Peer {
    /// The command that runs the peer; `None` where the tests against it are to be passed over.
    fn command(self) -> Option<Command> {
        match self {
            Self::Node => command(Language::Node, "ws.cjs", "ws"),
            Self::Python => command(Language::Python, "websockets_peer.py", "websockets"),
        }
    }

    async fn serve(self) -> Option<ForeignServer> {
        let mut command = self.command()?;
        let mut process = command.arg("serve").arg(LIMIT.to_string()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("the peer prints its port");
        Some(ForeignServer { base: format!("ws://127.0.0.1:{port}"), lines, _process: process })
    }

    /// Runs `scenario` of the peer's script against our server at `url`.
    async fn call(self, scenario: &str, url: String) {
        let Some(mut command) = self.command() else { return };
        let status = command.args(["call", scenario, &url, &LIMIT.to_string()]).status().await.unwrap();
        assert!(status.success(), "the peer's `{scenario}` failed: {status}");
    }
}

struct ForeignServer {
    base: String,
    /// `PATH CODE REASON` for each connection that ended.
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl ForeignServer {
    async fn end(&mut self) -> String {
        self.lines.next_line().await.unwrap().unwrap().trim_end().to_owned()
    }
}

macro_rules! our_client {
    ($peer:expr; $($scenario:ident then $end:literal)*) => {$(
        #[tokio::test]
        async fn $scenario() {
            within(async {
                let Some(mut server) = $peer.serve().await else { return };
                our_client::$scenario(&server.base).await;
                let end = server.end().await;
                assert!(end.starts_with($end), "{end}");
            })
            .await;
        }
    )*};
}

macro_rules! against {
    ($name:ident, $peer:expr; $subprotocol:ident) => {
        mod $name {
            mod our_client {
                use super::super::*;

                our_client! { $peer;
                    is_echoed_from_empty_to_limit_sized then "/echo 1000 done"
                    assembles_fragments then "/fragments 1006"
                    is_told_1009_for_what_is_over_the_servers_limit then "/echo 1006"
                    refuses_what_is_over_its_own_limit then "/oversize 1009"
                    answers_a_storm_of_pings then "/pings 1006"
                    is_answered_its_ping then "/echo 1006"
                    learns_why_the_server_closed then "/close 4001 enough"
                    closes_with_its_own_code then "/echo 4002 that is all"
                    $subprotocol then "/echo 1006"
                    fragments_what_is_over_the_frame_limit then "/fragments 1006"
                }
            }
            #[tokio::test]
            async fn our_stack_goes_on_plain() {
                use super::*;

                within(async {
                    let Some(server) = $peer.serve().await else { return };
                    our_client::goes_on_plain_with_the_whole_stack(&server.base).await;
                })
                .await;
            }

            mod our_server {
                use super::super::*;

                async fn called(scenario: &str, path: &str) -> Option<crate::our_server::End> {
                    within(async {
                        $peer.command()?;
                        let mut server = OurServer::start().await;
                        $peer.call(scenario, format!("{}{path}", server.base)).await;
                        Some(server.end().await)
                    })
                    .await
                }

                #[tokio::test]
                async fn echoes_from_empty_to_limit_sized() {
                    let Some(end) = called("echo", "/echo").await else { return };
                    assert_eq!(end.unwrap().unwrap().code().get(), 1000);
                }

                #[tokio::test]
                async fn assembles_fragments() {
                    let Some(end) = called("fragments", "/echo").await else { return };
                    end.unwrap();
                }

                #[tokio::test]
                async fn says_1009_to_what_is_over_the_limit() {
                    let Some(end) = called("oversize", "/echo").await else { return };
                    let error = end.unwrap_err();
                    assert!(error.is_too_large() && error.to_string().contains(&LIMIT.to_string()), "{error:?}");
                }

                #[tokio::test]
                async fn answers_a_storm_of_pings() {
                    let Some(end) = called("pings", "/echo").await else { return };
                    end.unwrap();
                }

                #[tokio::test]
                async fn learns_why_the_client_closed() {
                    let Some(end) = called("close", "/echo").await else { return };
                    assert_eq!(end.unwrap().unwrap().to_string(), "4002 \"that is all\"");
                }

                #[tokio::test]
                async fn is_told_1012_and_when_to_return_by_a_drain() {
                    let drain = Drain::new();
                    let gone = drain.clone();
                    let upgrade = WebSocketService::new(move |mut socket: WebSocket, _| async move {
                        assert_eq!(socket.receive_message().await.unwrap().unwrap(), Message::text("go"));
                        gone.start(CloseFrame::new(CloseCode::RESTART, "the server restarts"));
                        while let Some(Ok(_)) = socket.receive_message().await {}
                    });
                    let address = serve(upgrade.drain(&drain)).await;
                    within($peer.call("drained", format!("ws://{address}/"))).await;
                    assert_eq!(drain.drain(Duration::from_secs(5)).await.cut, 0);
                }

                #[tokio::test]
                async fn closes_with_its_own_code() {
                    let Some(end) = called("closed", "/close").await else { return };
                    assert_eq!(end.unwrap().unwrap().code().get(), 4001);
                }
            }
        }
    };
}

against!(node_ws, Peer::Node; agrees_on_the_first_subprotocol_where_the_server_takes_that);
against!(python_websockets, Peer::Python; agrees_on_a_subprotocol);

#[tokio::test]
async fn our_stack_goes_on_plain_where_node_ws_drops_closes_or_refuses_for_the_name() {
    within(async {
        let Some(server) = Peer::Node.serve().await else { return };
        our_client::goes_on_plain_without_the_name(&server.base).await;
    })
    .await;
}
