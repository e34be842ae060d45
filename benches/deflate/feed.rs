//! Messages in one direction, a flush for each, none of which is like another.

use bytes::Bytes;
use harness::{
    contestant::Contestant,
    loopback::{Loopback, on_one_thread},
    rounds::Sample,
    scenario::{Scenario, flow::Flow},
};

/// The number of different messages.
const VARIANTS: usize = 64;

#[derive(Clone, Copy)]
pub(crate) struct Feed {
    /// Bytes of payload.
    pub(crate) size: usize,
    pub(crate) messages: usize,
}

impl Scenario for Feed {
    type Measured = Sample;

    fn run<C: Contestant>(self) -> Sample {
        let Self { size, messages } = self;
        on_one_thread(async move {
            let (client, server) = Loopback::bind().await.connect().await;
            let flow = Flow::new(1, messages);
            let (mut client, texts, writer) = (C::client(client), texts(size), flow.clone());
            tokio::spawn(async move {
                for turn in writer.turns() {
                    writer.before(turn).await;
                    client.send(&texts[turn % VARIANTS]).await;
                }
                // Kept open until the other end has read everything: a reset would throw away what is on its way.
                client.receive().await;
            });
            flow.receive(&mut C::server(server), size).await
        })
    }
}

/// JSON of this size, as a feed of prices sends it.
pub(crate) fn texts(size: usize) -> Vec<Bytes> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let text = |random: &mut dyn FnMut() -> u64| {
        let mut text = String::new();
        while text.len() < size {
            let (price, amount) = (random() % 1_000_000, random() % 10_000);
            let symbol = ["EURUSD", "BTCEUR", "AAPL", "XAUUSD"][(random() % 4) as usize];
            let side = if random() & 1 == 0 { "buy" } else { "sell" };
            text += &format!(r#"{{"symbol":"{symbol}","side":"{side}","price":{price}.25,"amount":{amount}}},"#);
        }
        text.truncate(size);
        Bytes::from(text)
    };
    (0..VARIANTS).map(|_| text(&mut random)).collect()
}
