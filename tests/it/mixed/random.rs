//! Random stacks over links that stall, that let one message through at a time, and that are cut: every message arrives
//! once, in order, unchanged, and nothing hangs.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};
use tokio::{
    sync::{Barrier, mpsc::unbounded_channel},
    time::sleep,
};
use tower::{Layer, service_fn};
use tower_transport::{
    Error, Limits, Message, TransportExt, channel,
    layer::{
        reconnect::{Backoff, Keep, ReconnectLayer, WhenLost},
        resume::{Accepted, ResumeHandle, ResumeLayer, SessionStore, Verdict},
    },
    test_util::fault::{Cut, Direction, FaultIo, Faults},
    transport::websocket::WebSocket,
};

use crate::mixed::{
    messages::{Said, message},
    stack::{Boxed, Stacks, stack, stacks},
    talk::{Part, Script, Way, block_on, way},
};

/// The transport of the messages.
#[derive(Clone, Copy, Debug)]
enum Link {
    /// With room for this many.
    Channel(usize),
    /// Over a byte stream that holds this many.
    WebSocket(usize),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Stall,
    Resume,
    Permit(usize),
}

/// After this many milliseconds, at the client's end or the server's, in one direction.
type Step = (u64, bool, bool, Fault);

#[derive(Clone, Debug)]
struct Plan {
    stacks: Stacks,
    ways: (Way, Way),
    says: (Script, Script),
    link: Link,
    faults: Vec<Step>,
}

fn script() -> impl Strategy<Value = Script> {
    vec((message(), any::<bool>()), 0..25)
}

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![(1..6usize).prop_map(Link::Channel), (1..3000usize).prop_map(Link::WebSocket)]
}

fn faults() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![Just(Fault::Stall), Just(Fault::Resume), (0..5usize).prop_map(Fault::Permit)];
    vec((0..300u64, any::<bool>(), any::<bool>(), fault), 0..12)
}

fn plan(resumes: bool) -> impl Strategy<Value = Plan> {
    (stacks(resumes), (way(), way()), (script(), script()), link(), faults())
        .prop_map(|(stacks, ways, says, link, faults)| Plan { stacks, ways, says, link, faults })
}

fn parts(plan: &Plan, may_be_cut: bool) -> (Part, Part) {
    let both_are_done = Arc::new(Barrier::new(2));
    let heard = |script: &Script| script.iter().map(|(Said(message), _)| message.clone()).collect::<Vec<_>>();
    let part = |name, way, says: &Script, hears, closes| Part {
        name,
        way,
        says: says.clone(),
        hears: heard(hears),
        both_are_done: both_are_done.clone(),
        closes,
        may_be_cut,
    };
    let (client, server) = &plan.says;
    (part("client", plan.ways.0, client, server, true), part("server", plan.ways.1, server, client, false))
}

async fn both(client: impl Future<Output = ()> + Send + 'static, server: impl Future<Output = ()> + Send + 'static) {
    tokio::try_join!(tokio::spawn(client), tokio::spawn(server)).expect("one end failed");
}

/// Does to the link what the plan says, and at last takes all of it back.
async fn disturb(steps: Vec<Step>, ends: [Faults; 2]) {
    let directions = [Direction::Outgoing, Direction::Incoming];
    for (millis, end, direction, fault) in steps {
        sleep(Duration::from_millis(millis)).await;
        let (faults, direction) = (&ends[usize::from(end)], directions[usize::from(direction)]);
        match fault {
            Fault::Stall => faults.stall(direction),
            Fault::Resume => faults.resume(direction),
            Fault::Permit(messages) => faults.permit(direction, messages),
        }
    }
    for faults in ends {
        directions.iter().for_each(|&direction| faults.resume(direction));
    }
}

fn connected(link: Link, ends: &[Faults; 2]) -> (Boxed, Boxed) {
    let (near, far): (Boxed, Boxed) = match link {
        Link::Channel(capacity) => {
            let (near, far) = channel::<Message, Message>(capacity);
            (near.into_boxed(), far.into_boxed())
        }
        Link::WebSocket(pipe) => {
            let (near, far) = tokio::io::duplex(pipe);
            let (near, far) = (WebSocket::client(near, Limits::new()), WebSocket::server(far, Limits::new()));
            (near.into_boxed(), far.into_boxed())
        }
    };
    (ends[0].layer().layer(near).into_boxed(), ends[1].layer().layer(far).into_boxed())
}

fn check(plan: &Plan) {
    block_on(async {
        let ends = [Faults::new(), Faults::new()];
        let (near, far) = connected(plan.link, &ends);
        let (near, far) = (stack(&plan.stacks.client, near), stack(&plan.stacks.server, far));
        tokio::spawn(disturb(plan.faults.clone(), ends));
        let (client, server) = parts(plan, false);
        both(client.play(near), server.play(far)).await;
    });
}

/// A fault of one connection.
#[derive(Clone, Copy, Debug)]
enum Doom {
    After(u64),
    Bytes { outgoing: bool, bytes: usize, eof: bool },
}

#[derive(Clone, Debug)]
struct CutPlan {
    plan: Plan,
    /// Of one connection after the other; those after the last are good.
    dooms: Vec<Doom>,
    /// Of the client and of the server.
    windows: (usize, usize),
    when_lost: u8,
}

fn doom() -> impl Strategy<Value = Doom> {
    prop_oneof![
        (0..200u64).prop_map(Doom::After),
        (any::<bool>(), 0..5000usize, any::<bool>()).prop_map(|(outgoing, bytes, eof)| Doom::Bytes {
            outgoing,
            bytes,
            eof
        }),
    ]
}

fn cut_plan() -> impl Strategy<Value = CutPlan> {
    (plan(true), vec(doom(), 0..8), (1..20usize, 1..20usize), 0..3u8)
        .prop_map(|(plan, dooms, windows, when_lost)| CutPlan { plan, dooms, windows, when_lost })
}

/// The next connection, with its end decided.
fn dial(link: Link, doom: Option<Doom>) -> (Boxed, Boxed) {
    let faults = [Faults::new(), Faults::new()];
    if let (Link::WebSocket(pipe), Some(Doom::Bytes { outgoing, bytes, eof })) = (link, doom) {
        let (near, far) = tokio::io::duplex(pipe);
        let (near, io) = FaultIo::new(near);
        let direction = if outgoing { Direction::Outgoing } else { Direction::Incoming };
        io.cut_after(direction, bytes, if eof { Cut::Eof } else { Cut::Reset });
        let (near, far) = (WebSocket::client(near, Limits::new()), WebSocket::server(far, Limits::new()));
        return (near.into_boxed(), far.into_boxed());
    }
    let ends = connected(link, &faults);
    if let Some(doom) = doom {
        let millis = match doom {
            Doom::After(millis) => millis,
            Doom::Bytes { bytes, .. } => bytes as u64 / 50,
        };
        tokio::spawn(async move {
            sleep(Duration::from_millis(millis)).await;
            faults[0].cut();
        });
    }
    ends
}

fn check_cut(cut: &CutPlan) {
    let plan = &cut.plan;
    block_on(async {
        let (above_client, below_client) = Stacks::split(&plan.stacks.client);
        let (above_server, below_server) = Stacks::split(&plan.stacks.server);

        let store = SessionStore::<Boxed>::new().replay_messages(cut.windows.1);
        let (to_session, mut sessions) = unbounded_channel();
        let dooms = Arc::new(Mutex::new(cut.dooms.clone().into_iter()));
        let (link, below_client, below_server) = (plan.link, below_client.to_vec(), below_server.to_vec());
        let connector = service_fn(move |_: http::Request<()>| {
            let (near, far) = dial(link, dooms.lock().unwrap().next());
            let (store, far, to_session) = (store.clone(), stack(&below_server, far), to_session.clone());
            tokio::spawn(async move {
                if let Ok(Accepted::New(session)) = store.accept(far).await {
                    let _ = to_session.send((session.id(), session.into_boxed()));
                }
            });
            ready(Ok::<_, Error>(http::Response::new(stack(&below_client, near))))
        });

        let handle = ResumeHandle::new();
        let known = handle.clone();
        let mut verdicts = handle.verdicts();
        let watching = tokio::spawn(async move {
            loop {
                let verdict = verdicts.changed().await;
                assert!(!matches!(verdict, Verdict::Fresh { .. }), "{verdict:?}");
            }
        });
        let when_lost = match cut.when_lost {
            0 => WhenLost::Drop,
            1 => WhenLost::Fail,
            _ => WhenLost::Keep(Keep::messages()),
        };
        let resume = ResumeLayer::new().replay_messages(cut.windows.0).handle(handle);
        let reconnect = ReconnectLayer::new("ws://mixed.test/", Backoff::fixed(Duration::from_millis(5)));
        let client: Boxed = reconnect.when_lost(when_lost).layer(resume.layer(connector)).into_boxed();
        let client = stack(above_client, client);
        let above_server = above_server.to_vec();

        let (part, served) = parts(plan, !cut.dooms.is_empty());
        let server = async move {
            // A client that was cut before it heard of its session knows nothing of that, and begins another.
            let session = loop {
                let (id, session) = sessions.recv().await.expect("a session");
                while sessions.is_empty() && known.id().is_none() {
                    sleep(Duration::from_millis(1)).await;
                }
                if known.id() == Some(id) {
                    break session;
                }
            };
            served.play(stack(&above_server, session)).await;
            assert!(sessions.is_empty(), "a second session");
        };
        both(part.play(client), server).await;
        watching.abort();
        let Err(ended) = watching.await;
        assert!(ended.is_cancelled(), "{ended}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_stack_every_message_arrives_once_and_in_order(plan in plan(false)) {
        check(&plan);
    }

    #[test]
    fn whatever_the_stack_and_wherever_the_cut_every_message_arrives_once_and_in_order(plan in cut_plan()) {
        check_cut(&plan);
    }
}
