//! The recommended stack over it, both ends.

use std::{net::SocketAddr, time::Duration};

use tower_transport::{
    Message,
    layer::reconnect::Backoff,
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::sse::{SseDuplex, SseDuplexConnector, SseDuplexServer},
};

use super::{
    proxy::{Fate, Proxy},
    serve, within,
};

/// A server of the stack that sends back what comes in.
async fn echo() -> SocketAddr {
    let acceptor: OptimizedAcceptor<SseDuplex> = builder().acceptor();
    let acceptor = std::sync::Arc::new(acceptor);
    let server = SseDuplexServer::new(move |session: SseDuplex, _| async move {
        let is_known = session.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
        let Ok(Some(transport)) = acceptor.accept_over(session, is_known).await else { return };
        let (sender, mut receiver) = transport.split();
        while let Some(Ok(message)) = receiver.receive().await {
            if message.is_data() && sender.send(message).await.is_err() {
                return;
            }
        }
    });
    serve(server.subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap()).await
}

fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(5)))
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_across_cuts() {
    let fates = vec![Fate::CutTheAnswer, Fate::Carry, Fate::CutTheRequest, Fate::CutAfter(700)];
    let proxy = Proxy::start(echo().await, fates).await;
    let url = format!("http://{}/", proxy.address);
    let transport = within(builder().connect_with(SseDuplexConnector::new(), url)).await.unwrap();
    assert!(transport.capabilities().resume() && transport.capabilities().batch());
    let (sender, mut receiver) = transport.split();
    const MESSAGES: usize = 2000;
    let write = async {
        for i in 0..MESSAGES {
            sender.send(Message::text(i.to_string())).await.unwrap();
            if i % 200 == 199 {
                proxy.cut();
            }
        }
    };
    let read = async {
        for i in 0..MESSAGES {
            loop {
                let message = receiver.receive().await.unwrap().unwrap();
                if message.is_data() {
                    assert_eq!(message, Message::text(i.to_string()));
                    break;
                }
            }
        }
    };
    within(futures_util::future::join(write, read)).await;
}
