//! The recommended stack over it, both ends.

use std::{net::SocketAddr, sync::atomic::Ordering::SeqCst, time::Duration};

use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use http::request::Parts;
use tower::ServiceBuilder;

use tower_transport::{
    Message,
    layer::{
        reconnect::{Backoff, ReconnectLayer},
        resume::{Accepted, ResumeLayer, SessionStore},
    },
    stack::{OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::sse::{SseDuplex, SseDuplexConnector, SseDuplexServer},
};

use super::{
    posts::behind_a_proxy,
    proxy::{Fate, Proxy},
    serve, within,
};

async fn echo() -> SocketAddr {
    serve(echo_server()).await
}

/// A server of the stack that sends back what comes in.
fn echo_server() -> SseDuplexServer<impl FnOnce(SseDuplex, Parts) -> BoxFuture<'static, ()> + Clone + Send + 'static> {
    let acceptor: OptimizedAcceptor<SseDuplex> = builder().acceptor();
    let acceptor = std::sync::Arc::new(acceptor);
    let server = SseDuplexServer::new(move |session: SseDuplex, _| -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let is_known = session.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
            let Ok(Some(transport)) = acceptor.accept_over(session, is_known).await else { return };
            let (sender, mut receiver) = transport.split();
            while let Some(Ok(message)) = receiver.receive().await {
                if message.is_data() && sender.send(message).await.is_err() {
                    return;
                }
            }
        })
    });
    server.subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap()
}

fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(5)))
}

/// Bytes that no compression makes fewer.
fn noise(length: usize) -> Message {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    Message::binary(std::iter::repeat_with(next).take(length).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_message_over_what_a_proxy_takes_gets_through_at_the_first_attempt() {
    let (behind, refused) = behind_a_proxy(echo_server(), 1 << 20).await;
    let proxy = Proxy::start(behind, vec![]).await;
    let url = format!("http://{}/", proxy.address);
    let transport = within(builder().connect_with(SseDuplexConnector::new(), url)).await.unwrap();
    let (sender, mut receiver) = transport.split();
    sender.send(noise(2_000_000)).await.unwrap();
    let echo = within(async {
        loop {
            let message = receiver.receive().await.unwrap().unwrap();
            if message.is_data() {
                return message;
            }
        }
    });
    assert!(echo.await == noise(2_000_000));
    assert_eq!((refused.load(SeqCst), proxy.posts()), (0, 1), "one connection for all POSTs, none refused");
}

#[tokio::test]
async fn a_message_that_no_proxy_takes_is_not_sent_again_and_again() {
    let (behind, refused) = behind_a_proxy(echo_server(), 100_000).await;
    let proxy = Proxy::start(behind, vec![]).await;
    let url = format!("http://{}/", proxy.address);
    let transport = within(builder().connect_with(SseDuplexConnector::new(), url)).await.unwrap();
    let (sender, mut receiver) = transport.split();
    sender.send(noise(200_000)).await.unwrap();
    let error = within(async {
        loop {
            match receiver.receive().await {
                Some(Err(error)) => return error,
                Some(Ok(message)) => assert!(!message.is_data(), "{message:?}"),
                None => panic!("it ends without a word"),
            }
        }
    });
    let error = error.await;
    assert!(error.is_too_large() && error.status().unwrap() == 413, "{error:?}");
    assert!(refused.load(SeqCst) <= 2, "{refused:?}");
}

#[tokio::test]
async fn plain_layers_do_not_send_a_message_again_that_no_proxy_takes() {
    let store = SessionStore::new();
    let server = SseDuplexServer::new(move |session: SseDuplex, _| async move {
        if let Ok(Accepted::New(mut session)) = store.accept(session).await {
            while let Some(Ok(_)) = session.next().await {}
        }
    });
    let (behind, refused) = behind_a_proxy(server, 100_000).await;
    let url = format!("http://{behind}/").parse::<http::Uri>().unwrap();
    let mut client = Box::pin(
        ServiceBuilder::new()
            .layer(ReconnectLayer::new(url, Backoff::fixed(Duration::from_millis(5))))
            .layer(ResumeLayer::new())
            .service(SseDuplexConnector::new()),
    );
    let sent = within(client.send(noise(200_000))).await;
    let error = within(async {
        loop {
            match client.next().await {
                Some(Err(error)) => return error,
                Some(Ok(message)) => assert!(!message.is_data(), "{message:?}"),
                None => return sent.expect_err("it ends without a word"),
            }
        }
    });
    let error = error.await;
    assert!(error.is_too_large() && error.status().unwrap() == 413, "{error:?}");
    assert!(refused.load(SeqCst) <= 2, "{refused:?}");
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
