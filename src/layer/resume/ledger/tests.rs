use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::message::trailer;

/// An item in flight.
#[derive(Clone, Debug)]
enum Item {
    Data(Message),
    Ack(Ack),
}

struct End {
    ledger: Ledger,
    sent: Vec<Message>,
    got: Vec<Message>,
}

impl End {
    fn new(window: Window, peer: Window) -> Self {
        Self {
            ledger: Ledger::new([1; 16], window, peer, Budget::default(), Patience::default()),
            sent: Vec::new(),
            got: Vec::new(),
        }
    }

    fn send(&mut self) {
        if self.ledger.out.has_room() {
            // Few different messages, so that a wrong place is not told by the content alone.
            let message = Message::binary(vec![7; self.sent.len() % 5]);
            self.sent.push(message.clone());
            self.ledger.out.push(message);
        }
    }

    fn write(&mut self, wire: &mut VecDeque<Item>) {
        if let Some(message) = self.ledger.out.next() {
            wire.push_back(Item::Data(message.clone()));
            self.ledger.out.wrote();
        }
    }

    fn read(&mut self, wire: &mut VecDeque<Item>) {
        if let Some(message) = self.ledger.take_read() {
            self.got.push(message);
            return;
        }
        match wire.pop_front() {
            Some(Item::Data(message)) => {
                self.ledger.give(&message);
                self.got.push(message);
            }
            Some(Item::Ack(ack)) => self.ledger.acknowledged(ack).unwrap(),
            None => {}
        }
    }
}

impl End {
    /// As a user that waits for room to write: it takes nothing.
    fn read_ahead(&mut self, wire: &mut VecDeque<Item>) {
        match wire.pop_front() {
            Some(Item::Data(message)) => self.ledger.read_ahead(message).unwrap(),
            Some(Item::Ack(ack)) => self.ledger.acknowledged(ack).unwrap(),
            None => {}
        }
    }
}

fn cut(ends: &mut [End; 2], wires: &mut [VecDeque<Item>; 2], windows: [Window; 2]) {
    wires.iter_mut().for_each(VecDeque::clear);
    let positions = [ends[0].ledger.position(), ends[1].ledger.position()];
    for (me, it) in [(0, 1), (1, 0)] {
        ends[me].ledger.check(&positions[it]).unwrap();
    }
    for (me, it) in [(0, 1), (1, 0)] {
        let lacks = ends[me].sent.len() as u64 - positions[it].received;
        assert_eq!(ends[me].ledger.resume(&positions[it], windows[it], true), lacks);
    }
}

proptest! {
    #[test]
    fn whatever_is_cut_both_ends_get_all_once_and_in_order(
        steps in proptest::collection::vec((0..2usize, 0..9u8), 0..400),
        bounds in (1..6u32, 1..6u32),
    ) {
        let windows = [bounds.0, bounds.1].map(|messages| Window { messages, bytes: 12 });
        let mut ends = [End::new(windows[0], windows[1]), End::new(windows[1], windows[0])];
        // To the end of the same number.
        let mut wires = [VecDeque::new(), VecDeque::new()];
        for (me, step) in steps.into_iter().chain((0..600).map(|i| (i % 2, 1 + (i / 2 % 4) as u8))) {
            match step {
                0 => ends[me].send(),
                1 | 5 => ends[me].write(&mut wires[1 - me]),
                2 | 6 => ends[me].read(&mut wires[me]),
                3 | 7 if ends[me].ledger.incoming.acknowledgement() != Acknowledgement::Later || step == 7 => {
                    let ack = ends[me].ledger.ack();
                    wires[1 - me].push_back(Item::Ack(ack));
                }
                4 => ends[me].read_ahead(&mut wires[me]),
                8 => cut(&mut ends, &mut wires, windows),
                _ => {}
            }
            let (messages, bytes) = ends[me].ledger.out.unacknowledged();
            prop_assert!(messages <= windows[me].messages as usize && bytes < 12 + 5);
            prop_assert!(ends[me].sent.starts_with(&ends[1 - me].got));
        }
        prop_assert_eq!(&ends[0].sent, &ends[1].got);
        prop_assert_eq!(&ends[1].sent, &ends[0].got);
    }

    #[test]
    fn no_position_of_a_peer_does_any_harm(
        received in prop_oneof![0..6u64, any::<u64>()],
        digest in prop_oneof![Just(0), any::<u64>()],
        first in prop_oneof![0..6u64, any::<u64>()],
        sent in prop_oneof![0..6u64, any::<u64>()],
    ) {
        let mut end = End::new(Window::default(), Window::default());
        let mut wire = VecDeque::new();
        for _ in 0..4 {
            end.send();
            end.write(&mut wire);
        }
        let position = Position { received, digest, first, sent };
        let before = end.ledger.position();
        if end.ledger.check(&position).is_ok() {
            prop_assert!(received <= 4 && digest == 0 && first == 0, "zero alone is not compared");
        }
        let _ = end.ledger.acknowledged(Ack { received, sent });
        prop_assert!(end.ledger.position().first <= 4 && end.ledger.position().sent == before.sent);
    }
}

/// Two ends whose messages may end like a mark, with byte windows that fill. The wire is read as the layer reads it.
struct Marked {
    ledger: Ledger,
    /// Of the wire to this end.
    wire: VecDeque<Message>,
    /// The bytes on the wire of all messages that this end has accepted, one after the other.
    lengths: Vec<usize>,
    inbox: bool,
}

impl Marked {
    fn new(window: Window) -> Self {
        let ledger = Ledger::new([1; 16], window, window, Budget::default(), Patience::default());
        Self { ledger, wire: VecDeque::new(), lengths: Vec::new(), inbox: false }
    }

    fn unacknowledged_bytes(&self) -> usize {
        self.lengths[usize::try_from(self.ledger.out.acked).unwrap()..].iter().sum()
    }

    fn receive(&mut self) {
        let Some(message) = self.wire.pop_front() else { return };
        match wire::read(message).unwrap() {
            wire::Parsed::Plain(message) if self.inbox => self.ledger.read_ahead(message).unwrap(),
            wire::Parsed::Plain(message) => self.ledger.give(&message),
            wire::Parsed::Own(wire::Own::Ack(ack)) => self.ledger.acknowledged(ack).unwrap(),
            wire::Parsed::Own(_) => unreachable!("no other message is sent"),
        }
    }
}

proptest! {
    #[test]
    fn both_ends_count_the_same_bytes_whatever_a_message_ends_like(
        steps in proptest::collection::vec((0..2usize, 0..6u8, 0..24usize, 0..4u8), 0..600),
    ) {
        let window = Window { messages: 50, bytes: 100 };
        let mut ends = [Marked::new(window), Marked::new(window)];
        for (me, step, length, kind) in steps {
            match step {
                0 | 1 if ends[me].ledger.out.has_room() => {
                    let payload = vec![length as u8; length];
                    let message = match kind {
                        0 => Message::binary(payload),
                        1 => Message::text("t".repeat(length)),
                        2 => Message::binary(trailer::append(&payload, trailer::Layer::Resume, trailer::PLAIN)),
                        _ => Message::binary(trailer::append(&payload, trailer::Layer::Resume, 3)),
                    };
                    ends[me].ledger.out.push(message);
                    let kept = ends[me].ledger.out.next().unwrap().clone();
                    ends[me].ledger.out.wrote();
                    ends[me].lengths.push(kept.len());
                    ends[1 - me].wire.push_back(kept);
                }
                2 => ends[me].receive(),
                3 => ends[me].inbox = !ends[me].inbox,
                4 => drop(ends[me].ledger.take_read()),
                5 => {
                    let ack = ends[me].ledger.ack();
                    ends[1 - me].wire.push_back(wire::Own::Ack(ack).into_message());
                }
                _ => {}
            }
            for end in &mut ends {
                let bytes = end.unacknowledged_bytes();
                prop_assert_eq!(end.ledger.out.unacknowledged().1, bytes);
                prop_assert_eq!(end.ledger.out.has_room(), bytes < 100 && end.ledger.out.unacknowledged().0 < 50);
            }
        }
    }
}

#[test]
fn a_loss_or_a_duplicate_changes_the_digest() {
    let messages: Vec<_> = (0..4u64).map(|i| Message::binary(i.to_le_bytes().to_vec())).collect();
    let digest = |order: &[usize]| order.iter().fold(0, |digest, &i| step(digest, &messages[i]));
    let all = digest(&[0, 1, 2]);
    for other in [&[0, 1, 3][..], &[1, 0, 2], &[0, 0, 2], &[1, 2, 3]] {
        assert_ne!(digest(other), all);
    }
    assert_ne!(step(0, &Message::text("a")), step(0, &Message::binary("a")));
    assert_ne!(step(0, &Message::binary("")), 0);
}

#[test]
fn an_acknowledgement_or_an_empty_buffer_is_progress_and_a_connection_is_counted_once() {
    /// Begins a connection whose user reads.
    fn begin(progress: &mut Progress, is_progress: bool, acked: u64) {
        progress.begins(is_progress, acked);
        progress.is_read = true;
    }

    let now = Instant::now();
    let mut progress = Progress::new(Patience { connections: 5, ..Patience::default() });
    // A message that is acknowledged now and then.
    for connection in 0..200 {
        begin(&mut progress, false, connection / 4);
        assert_eq!(progress.ended(false, (connection + 1) / 4, None, now), None);
        assert_eq!(progress.ended(false, connection / 4, None, now), None, "counted once");
    }
    // No message waits.
    for _ in 0..200 {
        begin(&mut progress, false, 50);
        assert_eq!(progress.ended(true, 50, None, now), None);
    }
    // The opening message acknowledges.
    for connection in 0..200 {
        begin(&mut progress, true, 50 + connection);
        assert_eq!(progress.ended(false, 50 + connection, None, now), None);
    }
    for _ in 0..3 {
        begin(&mut progress, false, 250);
        assert_eq!(progress.ended(false, 250, None, now), None);
    }
    begin(&mut progress, false, 250);
    assert_eq!(progress.ended(false, 250, Some(&Error::io("")), now), Some(GivenUp::Cut(5)));
    for _ in 0..200 {
        progress.begins(false, 250);
        assert_eq!(progress.ended(false, 250, Some(&Error::io("")), now), None, "a user that does not read");
    }
}
