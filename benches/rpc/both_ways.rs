//! Both directions busy, compared with each alone.

use std::time::Instant;

use cpu_time::ProcessTime;
use harness::{
    goal::goal,
    loopback::on_one_thread,
    plan::Plan,
    rounds::{self, Row, Sample},
};
use tower_transport::service::peer::Caller;

use crate::{
    load::lanes,
    ours::{Wire, ends, start},
};

const DEPTH: usize = 64;

pub(crate) fn run(plan: &Plan) {
    let count = plan.count(50_000);
    let rows = [
        Row::new("there alone", move || on_one_thread(alone(true, count))),
        Row::new("back alone", move || on_one_thread(alone(false, count))),
        Row::new("there, both busy", move || on_one_thread(both(true, count))),
        Row::new("back, both busy", move || on_one_thread(both(false, count))),
    ];
    let table = rounds::run(plan.rounds, &rows).against("there alone");
    table.print(&format!("calls over a WebSocket, depth {DEPTH} each way, {count} a round: per call"), "wall us");
    for (name, busy, alone) in [("there", "there, both busy", "there alone"), ("back", "back, both busy", "back alone")]
    {
        // The share of its rate alone that a direction keeps: at least 0.45.
        if let Some(slower) = table.ratio(busy, alone, |sample| sample.wall) {
            println!("  {name} keeps {:.2} of its rate alone", 1.0 / slower);
            goal(&format!("rpc/both-busy-slowdown-{name}"), slower, 1.0 / 0.45);
        }
    }
}

async fn both_ends() -> (Caller<Wire>, Caller<Wire>) {
    let [client, server] = ends().await;
    (start(client), start(server))
}

async fn timed(caller: Caller<Wire>, count: usize) -> Sample {
    let (cpu, wall) = (ProcessTime::now(), Instant::now());
    lanes(&caller, DEPTH, count).await;
    Sample::of(wall.elapsed(), cpu.elapsed(), count)
}

async fn alone(is_there: bool, count: usize) -> Sample {
    let (client, server) = both_ends().await;
    timed(if is_there { client } else { server }, count).await
}

/// The direction that is asked for, while the other one has as many calls to make.
async fn both(is_there: bool, count: usize) -> Sample {
    let (client, server) = both_ends().await;
    let (own, other) = if is_there { (client, server) } else { (server, client) };
    let other = tokio::spawn(timed(other, count));
    let sample = timed(own, count).await;
    other.await.expect("the other direction ends");
    sample
}
