//! Random schedules of subscribers that come, stall, leave and return, against a model of what each may miss.

use std::collections::{BTreeMap, HashMap};

use futures_util::{FutureExt, StreamExt};
use proptest::prelude::*;
use tower_transport::{
    CloseCode,
    topic::{Event, History, Policy, Position, Start, Subscription, Topics, TopicsConfig},
};

const TOPICS: u8 = 3;
const READERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Publish {
        topic: u8,
        key: u8,
        messages: u8,
    },
    Subscribe {
        reader: usize,
        topic: u8,
        start: u8,
    },
    Unsubscribe {
        reader: usize,
        topic: u8,
    },
    Read {
        reader: usize,
        items: u8,
    },
    /// The connection is lost, and another one begins where the reader was.
    Resume {
        reader: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (topic, reader) = (0..TOPICS, 0..READERS);
    prop_oneof![
        6 => (topic.clone(), 0u8..5, 1u8..60)
            .prop_map(|(topic, key, messages)| Step::Publish { topic, key, messages }),
        3 => (reader.clone(), topic.clone(), 0u8..2)
            .prop_map(|(reader, topic, start)| Step::Subscribe { reader, topic, start }),
        1 => (reader.clone(), topic).prop_map(|(reader, topic)| Step::Unsubscribe { reader, topic }),
        6 => (reader.clone(), 1u8..80).prop_map(|(reader, items)| Step::Read { reader, items }),
        1 => reader.prop_map(|reader| Step::Resume { reader }),
    ]
}

/// A message: its number in the topic, and its key.
type Value = (u64, u8);

/// The view that one reader has of one topic.
#[derive(Debug)]
struct View {
    /// The last message that was seen, or the place where the subscription began.
    seen: Position,
    missed: u64,
    is_unknown: bool,
}

struct Reader {
    subscription: Subscription<u8, Value>,
    policy: Policy,
    views: HashMap<u8, View>,
}

struct World {
    topics: Topics<u8, Value>,
    published: BTreeMap<u8, Vec<u8>>,
    readers: Vec<Reader>,
    is_by_key: bool,
}

impl World {
    fn new(history: History, is_by_key: bool, policies: [Policy; READERS]) -> Self {
        let config = TopicsConfig::values().history(history).key_by(|_, value: &Value| Some(value.1));
        let topics = Topics::with_config(config);
        let reader = |policy| Reader { subscription: topics.subscription(policy), policy, views: HashMap::new() };
        let readers = policies.map(reader).into();
        Self { topics, published: BTreeMap::new(), readers, is_by_key }
    }

    fn run(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Publish { topic, key, messages } => {
                let published = self.published.entry(topic).or_default();
                for _ in 0..messages {
                    published.push(key);
                    let topic = self.topics.topic(&topic).unwrap();
                    let sent = topic.publish((published.len() as u64, key));
                    prop_assert_eq!(sent.position().unwrap().offset(), published.len() as u64);
                }
            }
            Step::Subscribe { reader, topic, start } => {
                let start = if start == 0 { Start::Live } else { Start::History };
                self.readers[reader].subscribe(topic, start)?;
            }
            Step::Unsubscribe { reader, topic } => {
                let reader = &mut self.readers[reader];
                let had = reader.views.remove(&topic).is_some();
                prop_assert_eq!(reader.subscription.unsubscribe(&topic), had);
            }
            Step::Read { reader, items } => {
                for _ in 0..items {
                    if !self.read(reader)? {
                        break;
                    }
                }
            }
            Step::Resume { reader } => self.resume(reader)?,
        }
        Ok(())
    }

    fn resume(&mut self, reader: usize) -> Result<(), TestCaseError> {
        let topics = self.topics.clone();
        let reader = &mut self.readers[reader];
        reader.subscription = topics.subscription(reader.policy);
        for (topic, view) in std::mem::take(&mut reader.views) {
            reader.subscribe(topic, Start::After(view.seen))?;
        }
        Ok(())
    }

    /// Reads one item. Returns whether there was one.
    fn read(&mut self, index: usize) -> Result<bool, TestCaseError> {
        let reader = &mut self.readers[index];
        let coalesces = self.is_by_key || format!("{:?}", reader.policy).contains("Coalesce");
        let event = match reader.subscription.next().now_or_never() {
            None => return Ok(false),
            Some(Some(Ok(event))) => event,
            Some(Some(Err(error))) => {
                prop_assert_eq!(error.close_frame().unwrap().code(), CloseCode::TRY_AGAIN);
                self.resume(index)?;
                return Ok(true);
            }
            Some(None) => return Err(TestCaseError::fail("the stream ended")),
        };
        let Some(view) = reader.views.get_mut(event.topic()) else {
            return Err(TestCaseError::fail(format!("an item of a topic without a subscription: {event:?}")));
        };
        match event {
            Event::Gap { missed: Some(missed), .. } => view.missed += missed,
            Event::Gap { .. } => view.is_unknown = true,
            Event::Message(publication) => {
                let (position, (number, key)) = (publication.position(), *publication.message());
                let before = view.seen;
                prop_assert_eq!(position.epoch(), before.epoch());
                prop_assert_eq!(position.offset(), number);
                prop_assert!(number > before.offset(), "{} came twice or out of order", position);
                let between = &self.published[publication.topic()][before.offset() as usize..number as usize - 1];
                let missing = between.len() as u64;
                if coalesces {
                    // Each missing message has a newer one of its key, or is told.
                    let after = &self.published[publication.topic()][number as usize - 1..];
                    let lost = between
                        .iter()
                        .enumerate()
                        .filter(|(place, key)| !between[place + 1..].contains(key) && !after.contains(key));
                    prop_assert!(view.is_unknown || lost.count() as u64 <= view.missed);
                    prop_assert!(view.missed <= missing);
                } else {
                    prop_assert_eq!(missing, view.missed, "a gap that is not told before {}", position);
                    prop_assert!(!view.is_unknown);
                }
                prop_assert_eq!(self.published[publication.topic()][number as usize - 1], key);
                *view = View { seen: position, missed: 0, is_unknown: false };
            }
            _ => return Err(TestCaseError::fail("an unknown event")),
        }
        Ok(true)
    }

    fn finish(&mut self) -> Result<(), TestCaseError> {
        for reader in 0..READERS {
            while self.read(reader)? {}
            let reader = &self.readers[reader];
            for (topic, view) in &reader.views {
                let published = self.published.get(topic).map_or(0, Vec::len) as u64;
                let end = view.seen.offset() + view.missed;
                if view.is_unknown || format!("{:?}", reader.policy).contains("Coalesce") {
                    continue;
                }
                prop_assert!(self.is_by_key || end == published, "{} of {}", end, published);
            }
        }
        Ok(())
    }
}

impl Reader {
    fn subscribe(&mut self, topic: u8, start: Start) -> Result<(), TestCaseError> {
        let seen = self.subscription.subscribe(&topic, start).unwrap();
        if let Start::After(position) = start {
            // A gap begins where the reader was, whatever the subscription says of the rest.
            self.views.insert(topic, View { seen: position, missed: 0, is_unknown: false });
        } else {
            self.views.insert(topic, View { seen, missed: 0, is_unknown: false });
        }
        Ok(())
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    let policies =
        [Policy::drop_oldest(), Policy::drop_newest(), Policy::coalesce(), Policy::close(CloseCode::TRY_AGAIN)];
    (prop::sample::select(policies.to_vec()), 1usize..100)
        .prop_map(|(policy, messages)| policy.max_messages(messages.try_into().unwrap()))
}

proptest! {
    #[test]
    fn no_gap_is_silent_and_no_message_comes_twice_whatever_the_schedule(
        (is_by_key, kept) in (any::<bool>(), 0usize..150),
        policies in [policy(), policy(), policy()],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let history = match kept.try_into() {
            Ok(kept) if is_by_key => History::last_by_key(kept),
            Ok(kept) => History::recent(kept),
            Err(_) => History::off(),
        };
        let mut world = World::new(history, is_by_key && kept > 0, policies);
        // The topics of the model live as long as it does, so their epochs stay.
        let _alive: Vec<_> = (0..TOPICS).map(|topic| world.topics.topic(&topic).unwrap()).collect();
        for step in steps {
            world.run(step)?;
        }
        world.finish()?;
    }
}
