//! RFC 8441 with the module `http2` of Node.js (nghttp2) below its `ws`, in both roles.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tower_transport::CloseCode;

use crate::{
    LIMIT,
    our_client::{self, HTTP_2},
    our_server::OurServer,
    process::{Language, command},
    within,
};

#[tokio::test]
async fn node_serves_our_connector_within_one_connection() {
    let Some(mut command) = command(Language::Node, "ws.cjs", "ws") else { return };
    let mut process = command.args(["serve", &LIMIT.to_string(), "http2"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().expect("the peer prints its port");
    let base = &format!("{HTTP_2}ws://127.0.0.1:{port}");
    within(async {
        our_client::is_echoed_from_empty_to_limit_sized(base).await;
        our_client::fragments_what_is_over_the_frame_limit(base).await;
        our_client::assembles_fragments(base).await;
        our_client::is_told_1009_for_what_is_over_the_servers_limit(base).await;
        our_client::refuses_what_is_over_its_own_limit(base).await;
        our_client::answers_a_storm_of_pings(base).await;
        our_client::is_answered_its_ping(base).await;
        our_client::learns_why_the_server_closed(base).await;
        our_client::closes_with_its_own_code(base).await;
    })
    .await;
    // Node learns each end as we do: of the first WebSocket, and of the one with a code of its own.
    assert_eq!(within(lines.next_line()).await.unwrap().unwrap(), "/echo 1000 done");
    while within(lines.next_line()).await.unwrap().unwrap() != "/echo 4002 that is all" {}
}

#[tokio::test]
async fn node_calls_our_server() {
    for (scenario, path, code) in [
        ("echo", "/echo", Some(1000)),
        ("fragments", "/echo", Some(1005)),
        ("oversize", "/echo", None),
        ("pings", "/echo", Some(1005)),
        ("close", "/echo", Some(4002)),
        ("closed", "/close", Some(4001)),
    ] {
        let Some(mut command) = command(Language::Node, "ws.cjs", "ws") else { return };
        let mut server = OurServer::start_over(true).await;
        let url = format!("{}{path}", server.base);
        let arguments = ["call", scenario, &url, &LIMIT.to_string(), "http2"];
        let status = within(command.args(arguments).status()).await.unwrap();
        assert!(status.success(), "{scenario}: {status}");
        match (within(server.end()).await, code) {
            (Err(error), None) => assert!(error.is_too_large(), "{error:?}"),
            (end, code) => {
                let frame = end.unwrap();
                let found = frame.as_ref().map_or(1005, |frame| frame.code().get());
                assert_eq!(Some(found), code, "{scenario}");
                assert_ne!(frame.map(|frame| frame.code()), Some(CloseCode::PROTOCOL));
            }
        }
    }
}
