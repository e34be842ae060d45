//! A WebTransport session over loopback, at whose other end each stream is an echo, until it is asked not to read.

use futures_util::SinkExt;
use tower_transport::{
    Error, TransportExt,
    transport::webtransport::{Certificate, Session, WebTransportConnector, WebTransportServer, WebTransportStream},
};

/// After this message the echo reads no more.
pub(crate) const STALL: &str = "stall";

/// The client's end of a new session.
pub(crate) async fn connect() -> Session {
    let certificate = Certificate::development(&[]).expect("a certificate");
    let hash = certificate.hash();
    let mut server =
        WebTransportServer::bind("127.0.0.1:0".parse().expect("an address"), certificate).expect("a free port");
    let uri = format!("https://127.0.0.1:{}/", server.local_addr().expect("a bound port").port());
    tokio::spawn(async move {
        let session = server.accept().await.expect("a client").accept().await.expect("a session");
        while let Ok(stream) = session.accept().await {
            tokio::spawn(echo(stream));
        }
        drop(server);
    });
    let connector = WebTransportConnector::new().certificate_hashes([hash]);
    connector
        .connect_session(http::Request::get(uri).body(()).expect("a good URL"))
        .await
        .expect("a session")
        .into_body()
}

async fn echo(mut stream: WebTransportStream) -> Result<(), Error> {
    while let Some(message) = stream.receive_message().await.transpose()? {
        if message.as_text() == Some(STALL) {
            std::future::pending::<()>().await;
        }
        stream.send(message).await?;
    }
    Ok(())
}
