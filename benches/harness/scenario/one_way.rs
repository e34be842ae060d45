//! One connection, one direction, a flush for each message.

use crate::{
    contestant::Contestant,
    loopback::{Loopback, on_one_thread, payload},
    rounds::Sample,
    scenario::{Scenario, flow::Flow},
};

/// So many messages, as fast as they go.
#[derive(Clone, Copy)]
pub struct OneWay {
    /// Bytes of payload.
    pub size: usize,
    pub messages: usize,
}

impl Scenario for OneWay {
    type Measured = Sample;

    fn run<C: Contestant>(self) -> Sample {
        let Self { size, messages } = self;
        on_one_thread(async move {
            let (client, server) = Loopback::bind().await.connect().await;
            let flow = Flow::new(1, messages);
            let (mut client, payload, writer) = (C::client(client), payload(size), flow.clone());
            tokio::spawn(async move {
                for turn in writer.turns() {
                    writer.before(turn).await;
                    client.send(&payload).await;
                }
                // Kept open until the other end has read everything: a reset would throw away what is on its way.
                client.receive().await;
            });
            flow.receive(&mut C::server(server), size).await
        })
    }
}
