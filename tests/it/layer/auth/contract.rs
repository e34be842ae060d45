//! The contract, over each of the transports of `auth`.

use std::convert::Infallible;

use tower::Layer;
use tower_transport::{
    Channel, Message, channel, contract_tests,
    layer::auth::{
        Credentials, Expiring, ExpiryLayer, FirstMessageLayer, FixedToken, NoRenewal, Renew, RenewLayer, Tokens,
    },
    test_util::contract::Contract,
};

use super::*;

fn nth(i: usize) -> Message {
    Message::binary(i.to_le_bytes().to_vec())
}

fn expiring() -> (Expiring<Channel, NoRenewal>, Channel) {
    let (here, there) = channel(1);
    (ExpiryLayer::new(&Person::new("ada", 86_400 * 300)).layer(here), there)
}

fn renewing()
-> (impl tower_transport::Transport<Message, In = Message, TransportError = Error> + Unpin, Renew<Channel, FixedToken>)
{
    let (here, there) = channel(1);
    let verifier = service_fn(|_: Credentials| ready(Ok::<_, Infallible>(Person::new("ada", 86_400))));
    let layer = ExpiryLayer::new(&Person::new("ada", 86_400)).renewal(verifier, Duration::from_secs(86_390));
    (layer.layer(here), RenewLayer::new(Tokens::fixed("t")).layer(there))
}

contract_tests!(mod an_expiring_transport, pair = expiring(), message = nth, on = paused_tokio);
contract_tests!(
    mod a_renewed_session,
    contract = Contract::new(async || renewing(), nth).outgoing(nth, nth).incoming(nth, nth),
    on = paused_tokio
);

/// With the server's part done: the token is off the channel.
async fn first() -> (Channel, tower_transport::layer::auth::FirstMessage<Channel, FixedToken>) {
    use futures_util::{SinkExt, StreamExt};
    let (mut here, there) = channel(1);
    let mut there = FirstMessageLayer::new(Tokens::fixed("t")).layer(there);
    there.flush().await.unwrap();
    here.next().await.unwrap().unwrap();
    (here, there)
}

contract_tests!(mod after_a_first_message, pair = first().await, message = nth);
