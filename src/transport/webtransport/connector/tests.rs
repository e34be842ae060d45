use futures_util::{SinkExt, StreamExt};

use super::*;
use crate::{
    Message,
    transport::webtransport::{Certificate, WebTransportServer},
};

#[tokio::test]
async fn a_session_goes_on_over_another_socket_and_loses_nothing() {
    const MESSAGES: usize = 600;

    let certificate = Certificate::development(&[]).unwrap();
    let connector = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
    let mut server = WebTransportServer::bind("127.0.0.1:0".parse().unwrap(), certificate).unwrap();
    let request = Request::get(format!("https://{}/", server.local_addr().unwrap())).body(()).unwrap();
    let accept = async { server.accept().await.unwrap().accept().await.unwrap() };
    let (client, server) = tokio::join!(connector.connect_session(request), accept);
    let client = client.unwrap().into_body();
    let (out, incoming) = tokio::join!(client.open(), server.accept());
    let (mut out, mut incoming) = (out.unwrap(), incoming.unwrap());

    let send = async {
        for number in 0..MESSAGES {
            if number % 200 == 199 {
                Endpoints::current().unwrap().move_to(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
            }
            out.send(Message::binary(vec![number as u8; 5_000])).await.unwrap();
        }
    };
    let receive = async {
        let mut ports = std::collections::HashSet::new();
        for number in 0..MESSAGES {
            let message = incoming.next().await.unwrap().unwrap();
            assert_eq!(message, Message::binary(vec![number as u8; 5_000]));
            ports.insert(server.remote_address().port());
        }
        ports
    };
    let ((), ports) = tokio::join!(send, receive);
    assert!(ports.len() > 1, "the server saw no move: {ports:?}");
}
