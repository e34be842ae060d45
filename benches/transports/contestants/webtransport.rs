use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::ServiceExt;
use tower_transport::transport::webtransport::{
    Certificate, Datagrams, WebTransportConnector, WebTransportServer, WebTransportStream,
};

use crate::contestant::{Address, Network};

/// One stream of a session.
pub(crate) struct Streams;

/// The datagrams of a session.
pub(crate) struct WithDatagrams;

fn listen<T, F>(serve: impl FnOnce(WebTransportServer, UnboundedSender<T>) -> F) -> (Address, UnboundedReceiver<T>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let certificate = Certificate::development(&["localhost"]).expect("a certificate");
    let trust = certificate.hash().to_string();
    let server = WebTransportServer::bind("127.0.0.1:0".parse().expect("an address"), certificate);
    let server = server.expect("a free port").max_sessions(10_000);
    let url = format!("https://{}/", server.local_addr().expect("a bound port"));
    let (opened, ends) = unbounded_channel();
    tokio::spawn(serve(server, opened));
    (Address { url, trust }, ends)
}

fn client(address: &Address) -> WebTransportConnector {
    WebTransportConnector::new().certificate_hashes([address.trust.parse().expect("a hash")])
}

impl Network for Streams {
    type Near = WebTransportStream;
    type Far = WebTransportStream;
    type Client = WebTransportConnector;

    async fn listen() -> (Address, UnboundedReceiver<WebTransportStream>) {
        listen(|mut server, opened| async move {
            let handler = move |stream, _| {
                let _ = opened.send(stream);
                async {}
            };
            server.serve(handler).await;
        })
    }

    fn client(address: &Address) -> WebTransportConnector {
        client(address)
    }

    async fn connect(client: &WebTransportConnector, address: &Address) -> WebTransportStream {
        client.clone().oneshot(address.request()).await.expect("a connection").into_body()
    }
}

impl Network for WithDatagrams {
    const IS_LOSSY: bool = true;

    type Near = Datagrams;
    type Far = Datagrams;
    type Client = WebTransportConnector;

    async fn listen() -> (Address, UnboundedReceiver<Datagrams>) {
        listen(|mut server, opened| async move {
            while let Some(incoming) = server.accept().await {
                let opened = opened.clone();
                tokio::spawn(async move { drop(opened.send(incoming.accept().await.expect("a session").datagrams())) });
            }
        })
    }

    fn client(address: &Address) -> WebTransportConnector {
        client(address)
    }

    async fn connect(client: &WebTransportConnector, address: &Address) -> Datagrams {
        client.connect_session(address.request()).await.expect("a session").into_body().datagrams()
    }
}
