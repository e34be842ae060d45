//! The recommended stack over real sockets: what is agreed on, and what survives a cut.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tower::ServiceExt;
use tower_transport::{
    CloseCode, CloseFrame, Limits, Message, TransportExt,
    layer::{
        batch::BatchPolicy,
        compression::Deflate,
        heartbeat::HeartbeatLayer,
        reconnect::{Backoff, State},
        resume::{ResumeLayer, Verdict},
    },
    stack::{Capabilities, OptimizedAcceptor, OptimizedBuilder, OptimizedTransport},
    transport::websocket::{WebSocketConnector, WebSocketService},
};

use crate::serve::serve;
use support::within;

const LONG: Duration = Duration::from_secs(20);

/// A server of the stack that sends back what comes in.
async fn echo(builder: OptimizedBuilder) -> SocketAddr {
    let acceptor: OptimizedAcceptor = builder.acceptor();
    serve(acceptor.upgrade(|transport, _| send_back(transport))).await
}

async fn send_back(transport: OptimizedTransport) {
    let (sender, mut receiver) = transport.split();
    while let Some(Ok(message)) = receiver.receive().await {
        if message.is_data() && sender.send(message).await.is_err() {
            return;
        }
    }
}

async fn connect(builder: OptimizedBuilder, server: SocketAddr) -> OptimizedTransport {
    within(builder.connect(&format!("ws://{server}/"))).await.unwrap()
}

fn builder() -> OptimizedBuilder {
    OptimizedTransport::builder().backoff(Backoff::fixed(Duration::from_millis(5)))
}

async fn round_trip(transport: &mut OptimizedTransport, message: Message) {
    within(transport.send_message(message.clone())).await.unwrap();
    assert_eq!(within(transport.receive_message()).await.unwrap().unwrap(), message);
}

#[tokio::test]
async fn two_ends_that_know_each_other_agree_on_all_that_both_have_on() {
    let server = echo(builder()).await;
    let mut transport = connect(builder(), server).await;
    let agreed = transport.capabilities();
    assert!(agreed.batch() && agreed.compression() && agreed.resume() && !agreed.trace_context());
    for message in ["hello".into(), "again and again ".repeat(1000).into(), Message::binary(vec![0xff; 3000])] {
        round_trip(&mut transport, message).await;
    }
    let handle = transport.handle();
    assert_eq!(handle.resume().unwrap().verdict(), Some(Verdict::New));
    assert!(handle.compression().unwrap().sent().ratio().unwrap() > 10.0);
}

#[tokio::test]
async fn what_one_end_has_off_is_off_for_both_and_messages_pass_all_the_same() {
    type Change = fn(OptimizedBuilder) -> OptimizedBuilder;
    type IsOn = fn(Capabilities) -> bool;
    let changes: [(Change, IsOn); 3] = [
        (|builder| builder.batch(None::<BatchPolicy>), Capabilities::batch),
        (|builder| builder.compression(None::<Deflate>), Capabilities::compression),
        (|builder| builder.resume(None::<ResumeLayer>), Capabilities::resume),
    ];
    for (change, is_on) in changes {
        for changes_server in [true, false] {
            let (ours, theirs) =
                if changes_server { (builder(), change(builder())) } else { (change(builder()), builder()) };
            let server = echo(theirs).await;
            let mut transport = connect(ours, server).await;
            assert!(transport.capabilities().is_known() && !is_on(transport.capabilities()));
            round_trip(&mut transport, "x".repeat(5000).into()).await;
            round_trip(&mut transport, Message::binary(&b"binary"[..])).await;
        }
    }
}

#[tokio::test]
async fn what_looks_like_a_batch_passes_as_it_is_with_batches_and_without() {
    let without = || builder().batch(None::<BatchPolicy>);
    for (ours, theirs) in
        [(without(), without()), (builder(), without()), (without(), builder()), (builder(), builder())]
    {
        let server = echo(theirs).await;
        let mut transport = connect(ours, server).await;
        for kind in 0..3 {
            let looks = [&b"ab\x09\x05\x02\x02\0\0\0"[..], &[kind, 2], b"\xf8ttx\x01\xff"].concat();
            round_trip(&mut transport, Message::binary(looks)).await;
        }
    }
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_arrives_whatever_the_layers_add_to_it() {
    const LIMIT: usize = 20_000;
    // A client that has a relay send these must not end other sessions by the limit of the transport below.
    let marks = (1..8).map(|layer| [0, layer, 0xf8, b't', b't', b'x', 1, 0xff]);
    for sampled in [false, true] {
        let builder = || {
            let builder = builder().limits(Limits::new().message(LIMIT));
            if sampled { builder.sample_one_in(std::num::NonZeroU32::MIN) } else { builder }
        };
        let server = echo(builder()).await;
        let mut transport = connect(builder(), server).await;
        for mark in marks.clone() {
            for length in [LIMIT, LIMIT - 7, LIMIT - 8] {
                // Random enough not to shrink.
                let noise = (0..length - mark.len()).scan(7_u32, |state, _| {
                    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    Some((*state >> 24) as u8)
                });
                let message: Vec<u8> = noise.chain(mark).collect();
                round_trip(&mut transport, Message::binary(message)).await;
            }
        }
        round_trip(&mut transport, "x".repeat(LIMIT).into()).await;
        let handle = transport.handle();
        assert_eq!(handle.resume().unwrap().verdict(), Some(Verdict::New), "there was no second connection");
        assert!(within(transport.send_message("x".repeat(LIMIT + 1).into())).await.unwrap_err().is_too_large());
        round_trip(&mut transport, "and on".into()).await;
    }
}

#[tokio::test]
async fn a_context_is_kept_where_both_ends_keep_it() {
    let keeps = || builder().compression(Deflate::new().min_size(1).keep_context());
    for (ours, theirs, is_kept) in [(keeps(), keeps(), true), (keeps(), builder(), false), (builder(), keeps(), false)]
    {
        let server = echo(theirs).await;
        let mut transport = connect(ours, server).await;
        assert!(transport.capabilities().compression());
        assert_eq!(transport.capabilities().compression_context(), is_kept);
        for _ in 0..3 {
            round_trip(&mut transport, "so it goes ".repeat(100).into()).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_knows_nothing_gets_plain_messages() {
    let server = serve(WebSocketService::new(|mut socket, _| async move {
        while let Some(Ok(message)) = socket.receive_message().await {
            let _ = socket.send_message(message).await;
        }
    }))
    .await;
    let mut transport = connect(builder(), server).await;
    assert_eq!(transport.capabilities(), Capabilities::NONE);
    for message in ["plain".into(), "long ".repeat(1000).into(), Message::binary(vec![7; 3000])] {
        round_trip(&mut transport, message).await;
    }
    assert_eq!(transport.handle().compression().unwrap().sent().messages, 0);
}

#[tokio::test]
async fn a_client_that_knows_nothing_gets_plain_messages() {
    let server = echo(builder()).await;
    let request = http::Request::get(format!("ws://{server}/")).body(()).unwrap();
    let mut socket = within(WebSocketConnector::new().oneshot(request)).await.unwrap().into_body();
    assert_eq!(socket.subprotocol(), None);
    within(socket.send_message("long ".repeat(1000).into())).await.unwrap();
    assert_eq!(within(socket.receive_message()).await.unwrap().unwrap(), "long ".repeat(1000).into());
}

#[tokio::test]
async fn the_halves_of_a_split_send_and_receive_from_many_tasks() {
    let server = echo(builder()).await;
    let (sender, mut receiver) = connect(builder(), server).await.split();
    for task in 0..16 {
        let sender = sender.clone();
        tokio::spawn(async move {
            for i in 0..100 {
                sender.send(Message::text(format!("{task}/{i}"))).await.unwrap();
            }
        });
    }
    let mut next = [0; 16];
    for _ in 0..1600 {
        let message = within(receiver.receive()).await.unwrap().unwrap();
        let (task, i) = message.as_text().unwrap().split_once('/').unwrap();
        let task: usize = task.parse().unwrap();
        assert_eq!(i.parse(), Ok(next[task]), "each task's messages come in order");
        next[task] += 1;
    }
    drop(sender);
    within(async { while receiver.receive().await.is_some() {} }).await;
}

#[tokio::test]
async fn after_reconnects_the_session_goes_on_without_a_gap_or_a_duplicate() {
    let sessions = Arc::new(AtomicUsize::new(0));
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let counted = sessions.clone();
    let server = serve(acceptor.upgrade(move |transport, _| {
        counted.fetch_add(1, Relaxed);
        send_back(transport)
    }))
    .await;
    let transport = connect(builder(), server).await;
    let handle = transport.handle();
    let (sender, mut receiver) = transport.split();
    let writer = tokio::spawn(async move {
        for i in 0..2000 {
            sender.send(Message::text(i.to_string())).await.unwrap();
        }
        sender
    });
    for i in 0..2000 {
        if i % 200 == 100 {
            handle.reconnect().unwrap().reconnect_now();
        }
        let message = within(receiver.receive()).await.unwrap().unwrap();
        assert_eq!(message.as_text().unwrap(), i.to_string());
    }
    drop(within(writer).await.unwrap());
    assert!(handle.reconnect().unwrap().connections() > 5);
    assert_eq!(handle.reconnect().unwrap().lost(), 0);
    assert!(matches!(handle.resume().unwrap().verdict(), Some(Verdict::Resumed { .. })));
    assert_eq!(sessions.load(Relaxed), 1, "one handler had it all");
}

#[tokio::test]
async fn a_first_attempt_that_fails_is_told_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let error = within(builder().connect(&format!("ws://{nobody}/"))).await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert!(within(builder().connect("no url at all")).await.unwrap_err().is_config());
}

#[tokio::test]
async fn a_peer_that_agrees_and_does_not_say_hello_is_found_out() {
    let upgrade = WebSocketService::new(|mut socket, _| async move {
        let _ = socket.send_message("hi there".into()).await;
        while socket.receive_message().await.is_some() {}
    });
    let server = serve(upgrade.subprotocol(OptimizedAcceptor::SUBPROTOCOL).unwrap()).await;
    let mut transport = connect(builder(), server).await;
    assert_eq!(transport.capabilities(), Capabilities::NONE);
    assert_eq!(within(transport.receive_message()).await.unwrap().unwrap(), "hi there".into());
}

#[tokio::test]
async fn a_server_that_closes_for_good_ends_the_client() {
    let acceptor: OptimizedAcceptor = builder().acceptor();
    let server = serve(acceptor.upgrade(|mut transport, _| async move {
        let frame = CloseFrame::new(CloseCode::POLICY, "not you");
        let _ = transport.send(Message::Close(Some(frame))).await;
        while transport.next().await.is_some() {}
    }))
    .await;
    let transport = connect(builder(), server).await;
    let handle = transport.handle();
    let (sender, mut receiver) = transport.split();
    within(async {
        while let Some(item) = receiver.receive().await {
            if let Err(error) = item {
                assert_eq!(error.close_frame().map(|frame| frame.code()), Some(CloseCode::POLICY));
            }
        }
    })
    .await;
    assert!(matches!(handle.state(), State::Failed { .. }), "{:?}", handle.state());
    assert!(within(sender.send("late".into())).await.unwrap_err().is_closed());
}

#[tokio::test]
async fn a_message_over_the_peers_limit_is_refused_here_and_the_transport_goes_on() {
    let limits = |bytes| tower_transport::Limits::new().message(bytes);
    let small = || builder().limits(limits(64 << 10));
    let large = || builder().limits(limits(64 << 20));
    for (ours, theirs) in [(large(), small()), (large().resume(None::<ResumeLayer>), small())] {
        let server = echo(theirs).await;
        let mut transport = connect(ours, server).await;
        // The size at the other end counts, whatever it shrinks to on the way.
        for message in [Message::text("a".repeat((64 << 10) + 1)), Message::binary(vec![0xff; 100 << 10])] {
            let error = within(transport.send_message(message)).await.unwrap_err();
            assert!(error.is_too_large() && error.is_rejection(), "{error:?}");
            assert!(error.to_string().contains("65536"), "{error}");
        }
        round_trip(&mut transport, "a".repeat(64 << 10).into()).await;
        assert_eq!(transport.handle().reconnect().unwrap().connections(), 1);
    }
}

#[tokio::test]
async fn a_server_refuses_what_its_client_does_not_take_and_its_session_goes_on() {
    let limits = |bytes| tower_transport::Limits::new().message(bytes);
    let acceptor: OptimizedAcceptor = builder().limits(limits(64 << 20)).acceptor();
    let server = serve(acceptor.upgrade(|mut transport, _| async move {
        let refused = transport.send_message(Message::text("a".repeat(1 << 20))).await.unwrap_err();
        let says = format!("{} {}", refused.is_too_large(), refused.is_rejection());
        transport.send_message(says.into()).await.unwrap();
        while transport.next().await.is_some() {}
    }))
    .await;
    let mut transport = connect(builder().limits(limits(64 << 10)), server).await;
    assert_eq!(within(transport.receive_message()).await.unwrap().unwrap(), "true true".into());
}

#[tokio::test]
async fn batches_stay_within_the_limits_of_both_ends() {
    let limits = |bytes| tower_transport::Limits::new().message(bytes);
    let batch = || builder().batch(BatchPolicy::on_flush(1000).max_bytes(1 << 20)).compression(None::<Deflate>);
    for (ours, theirs) in [(20_000, 4 << 20), (4 << 20, 20_000)] {
        let server = echo(batch().limits(limits(theirs))).await;
        let (sender, mut receiver) = connect(batch().limits(limits(ours)), server).await.split();
        for i in 0..2000 {
            sender.send(Message::text(format!("{i:0>100}"))).await.unwrap();
        }
        for i in 0..2000 {
            assert_eq!(within(receiver.receive()).await.unwrap().unwrap(), Message::text(format!("{i:0>100}")));
        }
    }
}

#[tokio::test]
async fn the_round_trip_time_is_seen_through_the_handle() {
    let server = echo(builder()).await;
    let beat = HeartbeatLayer::new(Duration::from_millis(20), LONG);
    let transport = connect(builder().heartbeat(beat), server).await;
    let handle = transport.handle();
    let (_sender, _receiver) = transport.split();
    within(async {
        while handle.rtt().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_compression_a_peer_has_nothing_inflated_and_the_session_goes_on() {
    use tower_transport::{Channel, channel};

    // "hello", says zlib.
    let bomb = [&b"\xcb\x48\xcd\xc9\xc9\x07\x00"[..], &5_u32.to_le_bytes(), b"\x02\x01\xf8ttx\x01\xff"].concat();
    let looks = Message::binary(&b"plain\x02\x01\xf8ttx\x01\xff"[..]);
    let escaped = Message::binary(&b"plain\x02\x01\xf8ttx\x01\xff\0\x01\xf8ttx\x01\xff"[..]);
    let acceptor: OptimizedAcceptor<Channel> = builder().compression(None::<Deflate>).acceptor();
    let (mut client, far) = channel::<Message, Message>(16);
    // It knows the stack, and says that it compresses.
    client.send(Message::binary(&b"\x05\0\0\0\0\0\x40\0\x01\x07\xf8ttx\x01\xff"[..])).await.unwrap();
    let mut session = acceptor.accept_over(far, true).await.unwrap().unwrap();
    client.next().await.unwrap().unwrap();

    client.send(Message::binary(bomb)).await.unwrap();
    let error = session.receive_message().await.unwrap().unwrap_err();
    assert!(error.is_protocol() && error.is_rejection(), "{error:?}");
    // The marks are kept apart all the same.
    client.send(escaped.clone()).await.unwrap();
    assert_eq!(session.receive_message().await.unwrap().unwrap(), looks);
    session.send_message(looks).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), escaped);
}
