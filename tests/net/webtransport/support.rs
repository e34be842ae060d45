//! A server and a client of it.

use std::net::SocketAddr;

use http::Request;
use tower_transport::{
    Limits,
    transport::webtransport::{
        Certificate, CertificateHash, Session, SessionLimits, WebTransportConnector, WebTransportServer,
        WebTransportStream,
    },
};
use web_transport_quinn::proto::ConnectRequest;

/// A server on a port of its own, and the hash by which it is known.
pub(crate) fn server() -> (WebTransportServer, CertificateHash) {
    let certificate = Certificate::development(&[]).unwrap();
    let hash = certificate.hash();
    (WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap(), hash)
}

pub(crate) fn connector(hash: CertificateHash) -> WebTransportConnector {
    WebTransportConnector::new().certificate_hashes([hash])
}

pub(crate) fn request(address: SocketAddr, path: &str) -> Request<()> {
    Request::get(format!("https://{address}{path}")).body(()).unwrap()
}

/// Both ends of one session. The client's limits, and the server's.
pub(crate) async fn sessions_with(limits: [Limits; 2], session_limits: SessionLimits) -> (Session, Session) {
    let (server, hash) = server();
    let mut server = server.limits(limits[1]).session_limits(session_limits);
    let address = server.local_addr().unwrap();
    let connector = connector(hash).limits(limits[0]).session_limits(session_limits);
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let (client, server) = tokio::join!(connector.connect_session(request(address, "/")), accept);
    (client.unwrap().into_body(), server)
}

pub(crate) async fn sessions() -> (Session, Session) {
    sessions_with([Limits::default(); 2], SessionLimits::default()).await
}

/// Both ends of one bidirectional stream, which the client opened.
pub(crate) async fn streams() -> (WebTransportStream, WebTransportStream) {
    streams_with([Limits::default(); 2]).await
}

pub(crate) async fn streams_with(limits: [Limits; 2]) -> (WebTransportStream, WebTransportStream) {
    let (client, server) = sessions_with(limits, SessionLimits::default()).await;
    let (client, server) = tokio::join!(client.open(), server.accept());
    (client.unwrap(), server.unwrap())
}

/// Our end of a session whose other end, the client's, is web-transport-quinn as it is.
pub(crate) async fn raw_session() -> (Session, web_transport_quinn::Session) {
    let (mut server, hash) = server();
    let address = server.local_addr().unwrap();
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let connect = async {
        let connection = crate::webtransport::raw::connect(address, hash).await;
        let request = ConnectRequest::new(format!("https://{address}/").parse::<url::Url>().unwrap());
        web_transport_quinn::Session::connect(connection, request).await
    };
    let (server, raw) = tokio::join!(accept, connect);
    (server, raw.unwrap())
}
