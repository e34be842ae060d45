use proptest::prelude::*;

use super::*;
use TransportKind::{Sse, WebSocket, WebTransport};

const TTL: Duration = Duration::from_secs(600);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn memory() -> (Memory, Arc<str>) {
    (Memory::new(TTL, 4), "https://example.com:443".into())
}

fn order(memory: &Memory, seconds: u64) -> Vec<TransportKind> {
    memory.order("https://example.com:443", &TransportKind::ALL, at(seconds)).kinds
}

#[test]
fn of_an_unknown_origin_the_most_wanted_comes_first() {
    assert_eq!(order(&memory().0, 0), TransportKind::ALL);
}

#[test]
fn what_worked_comes_first_for_its_time_and_then_the_top_again() {
    let (mut memory, origin) = memory();
    memory.worked(&origin, Sse, None, at(10));
    assert_eq!(order(&memory, 609), [Sse, WebTransport, WebSocket]);
    assert_eq!(order(&memory, 610), TransportKind::ALL);
}

#[test]
fn that_it_works_again_does_not_put_off_the_look_from_the_top() {
    let (mut memory, origin) = memory();
    memory.worked(&origin, WebSocket, None, at(0));
    memory.worked(&origin, WebSocket, None, at(500));
    assert_eq!(order(&memory, 599), [WebSocket, WebTransport, Sse]);
    assert_eq!(order(&memory, 600), TransportKind::ALL);
    memory.worked(&origin, WebSocket, None, at(600));
    assert_eq!(order(&memory, 1199), [WebSocket, WebTransport, Sse]);
}

#[test]
fn a_transport_whose_path_went_dead_stands_behind_the_others() {
    let (mut memory, origin) = memory();
    memory.worked(&origin, WebTransport, None, at(0));
    memory.lost(&origin, WebTransport, at(100));
    assert_eq!(order(&memory, 100), [WebSocket, Sse, WebTransport]);
    memory.worked(&origin, WebSocket, None, at(101));
    memory.lost(&origin, WebSocket, at(200));
    assert_eq!(order(&memory, 200), [Sse, WebTransport, WebSocket]);
    memory.lost(&origin, Sse, at(300));
    assert_eq!(order(&memory, 300), [WebTransport, WebSocket, Sse], "the oldest death first");
    assert_eq!(order(&memory, 700), [WebTransport, WebSocket, Sse], "WebTransport's is forgotten");
    memory.lost(&origin, WebTransport, at(750));
    assert_eq!(order(&memory, 850), [WebSocket, Sse, WebTransport]);
}

#[test]
fn what_was_seen_last_is_told() {
    let (mut memory, origin) = memory();
    assert_eq!(memory.last(&origin, WebSocket, at(0)), None);
    memory.failed(&origin, WebSocket, Reason::UpgradeRefused, at(1));
    assert_eq!(memory.last(&origin, WebSocket, at(3)), Some(LastOutcome::Failed(Reason::UpgradeRefused, at(2))));
    memory.worked(&origin, WebSocket, Some("v1"), at(4));
    assert_eq!(memory.last(&origin, WebSocket, at(4)), Some(LastOutcome::Worked(at(0))));
    assert_eq!(memory.subprotocol(&origin).as_deref(), Some("v1"));
    memory.lost(&origin, WebSocket, at(5));
    assert_eq!(memory.last(&origin, WebSocket, at(6)), Some(LastOutcome::Failed(Reason::PathDead, at(1))));
}

#[test]
fn the_origin_heard_of_longest_ago_is_forgotten_first() {
    let mut memory = Memory::new(TTL, 2);
    let [a, b, c] = ["a", "b", "c"].map(Arc::<str>::from);
    memory.worked(&a, Sse, None, at(0));
    memory.worked(&b, Sse, None, at(1));
    memory.failed(&a, WebTransport, Reason::UdpBlocked, at(2));
    memory.worked(&c, Sse, None, at(3));
    let known = |origin| memory.order(origin, &TransportKind::ALL, at(3)).is_remembered;
    assert_eq!([known("a"), known("b"), known("c")], [true, false, true]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Worked(u8, TransportKind),
    Failed(u8, TransportKind),
    Lost(u8, TransportKind),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(&TransportKind::ALL[..]);
    prop_oneof![
        (0..6_u8, kind.clone()).prop_map(|(origin, kind)| Step::Worked(origin, kind)),
        (0..6_u8, kind.clone()).prop_map(|(origin, kind)| Step::Failed(origin, kind)),
        (0..6_u8, kind).prop_map(|(origin, kind)| Step::Lost(origin, kind)),
        (1..400_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Checks the memory against a model that keeps the whole history. The order is a permutation; paths that went dead
    /// within the time are last; a transport that won a race within the time is first among the others; and the memory
    /// is bounded.
    #[test]
    fn the_order_follows_from_what_happened_within_the_time(steps in prop::collection::vec(step(), 0..60)) {
        let mut memory = Memory::new(TTL, 6);
        let mut now = Duration::ZERO;
        let mut lost: HashMap<(u8, TransportKind), Duration> = HashMap::new();
        let mut won: HashMap<u8, (TransportKind, Duration)> = HashMap::new();
        for step in steps {
            let name = |origin: u8| Arc::<str>::from(origin.to_string());
            match step {
                Step::Worked(origin, kind) => {
                    memory.worked(&name(origin), kind, None, now);
                    let earlier = won.get(&origin).filter(|won| won.0 == kind && now - won.1 < TTL);
                    let since = earlier.map_or(now, |won| won.1);
                    won.insert(origin, (kind, since));
                }
                Step::Failed(origin, kind) => memory.failed(&name(origin), kind, Reason::Other, now),
                Step::Lost(origin, kind) => {
                    memory.lost(&name(origin), kind, now);
                    lost.insert((origin, kind), now);
                    if won.get(&origin).is_some_and(|won| won.0 == kind) {
                        won.remove(&origin);
                    }
                }
                Step::Pass(seconds) => now += at(seconds),
            }
            prop_assert!(memory.origins.len() <= 6);
            for origin in 0..6_u8 {
                let order = memory.order(&origin.to_string(), &TransportKind::ALL, now);
                let mut sorted = order.kinds.clone();
                sorted.sort();
                prop_assert_eq!(sorted, TransportKind::ALL);
                let death = |kind: &TransportKind| lost.get(&(origin, *kind)).copied().filter(|&then| now - then < TTL);
                let behind: Vec<_> = order.kinds.iter().map(death).collect();
                prop_assert!(behind.is_sorted(), "{:?} {:?}", order, behind);
                let fresh = won.get(&origin).filter(|won| now - won.1 < TTL).map(|won| won.0);
                let alive: Vec<_> = order.kinds.iter().filter(|kind| death(kind).is_none()).collect();
                match fresh.filter(|kind| death(kind).is_none()) {
                    Some(kind) => {
                        prop_assert_eq!(order.kinds[0], kind);
                        prop_assert!(order.is_remembered && alive[1..].is_sorted());
                    }
                    None => prop_assert!(alive.is_sorted() && (!order.is_remembered || alive.is_empty())),
                }
            }
        }
    }
}
