//! tarpc over TCP, with bincode.

use futures_util::StreamExt;
use tarpc::{
    client, context,
    server::{BaseChannel, Channel},
    tokio_serde::formats::Bincode,
};

use crate::{PAYLOAD, Payload, load::Calls};

#[tarpc::service]
pub(crate) trait Echo {
    async fn echo(payload: Payload) -> Payload;
}

#[derive(Clone)]
struct Echoes;

impl Echo for Echoes {
    async fn echo(self, _: context::Context, payload: Payload) -> Payload {
        payload
    }
}

impl Calls for EchoClient {
    async fn call(&mut self) {
        assert_eq!(self.echo(context::current(), PAYLOAD).await.expect("an answer"), PAYLOAD);
    }
}

pub(crate) async fn start() -> EchoClient {
    let mut incoming = tarpc::serde_transport::tcp::listen("127.0.0.1:0", Bincode::default).await.expect("a free port");
    let address = incoming.local_addr();
    tokio::spawn(async move {
        if let Some(Ok(transport)) = incoming.next().await {
            let calls = BaseChannel::with_defaults(transport).execute(Echoes.serve());
            calls
                .for_each(|answer| {
                    tokio::spawn(answer);
                    std::future::ready(())
                })
                .await;
        }
    });
    let transport = tarpc::serde_transport::tcp::connect(address, Bincode::default).await.expect("it listens");
    EchoClient::new(client::Config::default(), transport).spawn()
}
