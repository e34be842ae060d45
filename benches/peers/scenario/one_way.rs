//! One connection, one direction, a flush for each message.

use std::time::Instant;

use cpu_time::ProcessTime;

use crate::{
    contestant::Contestant,
    loopback::{Loopback, on_one_thread, payload},
    rounds::Sample,
    scenario::Scenario,
};

/// So many messages, as fast as they go.
#[derive(Clone, Copy)]
pub(crate) struct OneWay {
    /// Bytes of payload.
    pub(crate) size: usize,
    pub(crate) messages: usize,
}

impl Scenario for OneWay {
    type Measured = Sample;

    fn run<C: Contestant>(self) -> Sample {
        let Self { size, messages } = self;
        on_one_thread(async move {
            let (client, server) = Loopback::bind().await.connect().await;
            let (mut client, mut server) = (C::client(client), C::server(server));
            let unmeasured = messages.div_ceil(10);
            let payload = payload(size);
            tokio::spawn(async move {
                for _ in 0..unmeasured + messages {
                    client.send(&payload).await;
                }
                // Kept open until the other end has read everything: a reset would throw away what is on its way.
                client.receive().await;
            });
            for _ in 0..unmeasured {
                assert_eq!(server.receive().await, Some(size));
            }
            let (wall, cpu) = (Instant::now(), ProcessTime::now());
            for _ in 0..messages {
                assert_eq!(server.receive().await, Some(size));
            }
            Sample::of(wall.elapsed(), cpu.elapsed(), messages)
        })
    }
}
