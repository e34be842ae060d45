//! Compares the queue with a slow and obviously correct model.

use proptest::prelude::*;

use super::*;
use crate::transport::{WhenFull, backlog::Measure};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quote {
    symbol: u8,
    price: u32,
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8),
    /// The driver takes the first number of messages, and the transport takes the second number of those.
    Drive(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![(0..4u8).prop_map(Step::Push), (0..5usize, 0..5usize).prop_map(|(a, b)| Step::Drive(a, b))];
    prop::collection::vec(step, 0..200)
}

const PLACES: usize = 3;

/// Runs the steps on queue and model. Returns the messages that the transport got from each, and those that each
/// dropped.
fn run(policy: WhenFull<Quote>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let name = format!("{policy:?}");
    let queue = QueueConfig::<Quote>::values().max_messages(PLACES.try_into().expect("not zero")).when_full(policy);
    let (mut outbox, measure) = (Outbox::new(&queue), Measure::new(&queue));
    let (mut sent, mut batch) = (Vec::new(), VecDeque::new());
    let (mut model, mut model_sent, mut model_dropped) = (VecDeque::<Quote>::new(), Vec::new(), 0);
    for (price, step) in (0..).zip(steps) {
        match step {
            Step::Push(symbol) => {
                let quote = Quote { symbol, price };
                let entry = measure.entry(quote);
                if let Admission::Ready = outbox.admit(None, Some(&entry)) {
                    outbox.push(entry).0.expect("the queue is open");
                }
                let len = model.len();
                let same = model.iter_mut().find(|waiting| name == "CoalesceBy" && waiting.symbol == symbol);
                match (same, name.as_str()) {
                    (Some(waiting), _) => {
                        *waiting = quote;
                        model_dropped += 1;
                    }
                    (None, _) if len < PLACES => model.push_back(quote),
                    (None, "DropNewest") => model_dropped += 1,
                    (None, "DropOldest") => {
                        model.pop_front();
                        model.push_back(quote);
                        model_dropped += 1;
                    }
                    (None, _) => {}
                }
            }
            Step::Drive(taken, given) => {
                assert!(matches!(outbox.take(&mut batch, taken), Next::GoOn));
                let mut fed = Fed::default();
                for _ in 0..given {
                    let Some(entry) = batch.pop_front() else { break };
                    fed.count(&entry);
                    sent.push(entry.message);
                }
                outbox.fed(fed);
                drop(outbox.put_back(&mut batch));
                model_sent.extend(model.drain(..given.min(taken).min(model.len())));
            }
        }
        prop_assert_eq!(outbox.len(), model.len());
        prop_assert_eq!(outbox.bytes(), model.len() * size_of::<Quote>());
        prop_assert_eq!(outbox.dropped(), model_dropped);
        let accepted = outbox.accepted();
        prop_assert_eq!(accepted.data - outbox.data_fed, model.len() as u64);
    }
    assert!(matches!(outbox.take(&mut batch, usize::MAX), Next::GoOn));
    sent.extend(batch.drain(..).map(|entry| entry.message));
    model_sent.extend(model);
    prop_assert_eq!(sent, model_sent);
    Ok(())
}

proptest! {
    #[test]
    fn block_is_what_the_model_says(steps in steps()) {
        run(WhenFull::Block, steps)?;
    }

    #[test]
    fn drop_oldest_is_what_the_model_says(steps in steps()) {
        run(WhenFull::DropOldest, steps)?;
    }

    #[test]
    fn drop_newest_is_what_the_model_says(steps in steps()) {
        run(WhenFull::DropNewest, steps)?;
    }

    #[test]
    fn coalesce_by_is_what_the_model_says(steps in steps()) {
        run(WhenFull::coalesce_by(|quote: &Quote| Some(quote.symbol)), steps)?;
    }
}
