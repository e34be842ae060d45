use std::collections::HashMap;

use tower_transport::{QueueConfig, TransportExt};

use crate::transports::{
    carrier::Carrier,
    stack::both,
    value::{Value, noise},
};

const SENDERS: u64 = 50;
const EACH: u64 = 100;

pub(crate) async fn many_senders_lose_none_of_thousands_of_messages<C: Carrier>() {
    let mut both = both::<C>(Vec::new()).await;
    let (sender, _receiver, driver) = both.client.drive(QueueConfig::values()).into_parts();
    tokio::spawn(driver);
    for from in 0..SENDERS {
        let sender = sender.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                let payload = noise(number as usize % 40, from);
                sender.send(Value { number: from << 32 | number, payload }).await.unwrap();
            }
        });
    }
    let (_, session) = both.sessions.recv().await.unwrap();
    let (_sender, mut heard, driver) = session.drive(QueueConfig::values()).into_parts();
    tokio::spawn(driver);
    let mut next = HashMap::new();
    for _ in 0..SENDERS * EACH {
        let value = heard.receive().await.unwrap().unwrap();
        let (from, number) = (value.number >> 32, value.number & 0xffff_ffff);
        let due = next.entry(from).or_insert(0);
        assert_eq!(number, *due, "of sender {from}");
        assert_eq!(value.payload, noise(number as usize % 40, from));
        *due += 1;
    }
    assert_eq!(next.len() as u64, SENDERS);
}
