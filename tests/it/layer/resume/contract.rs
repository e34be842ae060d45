//! The contract of `Transport`, over both ends of a session.

use tower::Layer;
use tower_transport::{
    Channel, Message, contract_tests,
    layer::resume::{ResumeLayer, ResumedTransport, Session, SessionStore},
};

use super::support::{Near, connect, dial};

async fn pair(window: usize) -> (ResumedTransport<Near>, Session<Channel>) {
    let faults = tower_transport::test_util::fault::Faults::new();
    let (dial, mut incoming) = dial(1, &faults);
    let mut client = ResumeLayer::new().replay_messages(window).layer(dial);
    let store = SessionStore::new().replay_messages(window);
    let accept = async { store.accept(incoming.recv().await.unwrap()).await.unwrap() };
    let (connected, accepted) = tokio::join!(connect(&mut client), accept);
    let tower_transport::layer::resume::Accepted::New(session) = accepted else { panic!("not a new session") };
    (connected.unwrap().0, session)
}

fn nth(i: usize) -> Message {
    match i % 3 {
        0 => Message::text(format!("n{i}")),
        1 => Message::binary(i.to_le_bytes().to_vec()),
        // Like a mark of this layer.
        _ => Message::binary([&i.to_le_bytes()[..], &[3, 3, 0xf8, b't', b't', b'x', 1, 0xff]].concat()),
    }
}

contract_tests!(mod defaults, pair = pair(1024).await, message = nth, on = paused_tokio);
contract_tests!(mod small_window, pair = pair(3).await, message = nth, on = paused_tokio);
