//! The contract of `Transport`, over a connector that makes one good connection. Its end is final, so that the
//! rules about the end can be seen.

use tower::Layer;
use tower_transport::{
    Channel, Message, contract_tests,
    layer::reconnect::{Class, Keep, Reconnect, ReconnectLayer, WhenLost},
};

use super::{Server, layer};

fn nth(i: usize) -> Message {
    Message::text(format!("n{i}"))
}

/// The far end exists once there is a connection; one poll makes it.
fn pair(layer: &ReconnectLayer) -> (Reconnect<Server>, Channel) {
    use futures_util::FutureExt;
    use tower_transport::TransportExt;

    let server = Server::default().capacity(1);
    let mut transport = layer.layer(server.clone());
    assert!(transport.receive_message().now_or_never().is_none());
    (transport, server.accept().channel)
}

fn last(when_lost: WhenLost<Message>) -> ReconnectLayer {
    layer().when_lost(when_lost).classify(|_| Class::Final)
}

contract_tests!(mod failing, pair = pair(&last(WhenLost::Fail)), message = nth, on = paused_tokio);
contract_tests!(mod dropping, pair = pair(&last(WhenLost::Drop)), message = nth, on = paused_tokio);
contract_tests!(mod keeping, pair = pair(&last(WhenLost::Keep(Keep::messages()))), message = nth, on = paused_tokio);
contract_tests!(
    mod keeping_two,
    pair = pair(&last(WhenLost::Keep(Keep::messages().max_messages(2.try_into().unwrap())))),
    message = nth,
    on = paused_tokio
);
contract_tests!(
    mod greeting,
    pair = {
        use tower_transport::TransportExt;

        let (mut here, mut there) = pair(&last(WhenLost::Fail).on_connect(|_| vec!["a".into(), "b".into()]));
        for greeting in ["a", "b"] {
            assert_eq!(there.receive_message().await.unwrap().unwrap(), Message::text(greeting));
            let _ = futures_util::FutureExt::now_or_never(here.receive_message());
        }
        (here, there)
    },
    message = nth,
    on = paused_tokio,
);
