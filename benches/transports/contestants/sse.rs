use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::ServiceExt;
use tower_transport::transport::sse::{SseDuplex, SseDuplexConnector, SseDuplexServer};

use super::tcp::serve;
use crate::contestant::{Address, Network};

pub(crate) struct SsePosts;

impl Network for SsePosts {
    type Near = SseDuplex;
    type Far = SseDuplex;
    type Client = SseDuplexConnector;

    async fn listen() -> (Address, UnboundedReceiver<SseDuplex>) {
        let (opened, ends) = unbounded_channel();
        let server = SseDuplexServer::new(move |session, _| {
            let _ = opened.send(session);
            async {}
        });
        let port = serve(server.sessions(10_000), None).await.port();
        (Address { url: format!("http://localhost:{port}/"), trust: String::new() }, ends)
    }

    fn client(_: &Address) -> SseDuplexConnector {
        SseDuplexConnector::new()
    }

    async fn connect(client: &SseDuplexConnector, address: &Address) -> SseDuplex {
        client.clone().oneshot(address.request()).await.expect("a connection").into_body()
    }
}
