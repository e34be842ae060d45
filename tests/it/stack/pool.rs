//! The promises of the pool: which connection a call gets, who waits how long, and when connections come and go.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt, future::join_all};
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    Channel, Connect, Error, channel,
    service::{InOrder, Server},
    stack::pool::{Pool, PoolBuilder},
};

/// A target whose answers wait for permits, and which counts what it sees.
#[derive(Clone)]
struct Target {
    open: Arc<AtomicUsize>,
    connects: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
    /// The servers' tasks, to be killed.
    servers: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
    refuses: Arc<AtomicUsize>,
}

impl Target {
    fn new(answers: usize) -> Self {
        Self {
            open: Arc::default(),
            connects: Arc::default(),
            answers: Arc::new(Semaphore::new(answers)),
            servers: Arc::default(),
            refuses: Arc::default(),
        }
    }

    fn connector(&self) -> impl Connect<Transport = Channel<u32, u32>, Future: Send> + Clone + Send + use<> {
        let target = self.clone();
        service_fn(move |_: http::Request<()>| {
            let target = target.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                target.connects.fetch_add(1, Relaxed);
                if target.refuses.load(Relaxed) > 0 {
                    target.refuses.fetch_sub(1, Relaxed);
                    return Err(Error::refused("nobody is there"));
                }
                let (here, there) = channel::<u32, u32>(64);
                let server = tokio::spawn(target.clone().serve(there));
                target.servers.lock().unwrap().push(server.abort_handle());
                Ok(http::Response::new(here))
            }
        })
    }

    async fn serve(self, transport: Channel<u32, u32>) {
        self.open.fetch_add(1, Relaxed);
        let answers = self.answers.clone();
        let _open = Open(self.open.clone());
        let double = service_fn(move |number: u32| {
            let answers = answers.clone();
            async move {
                answers.acquire().await.unwrap().forget();
                Ok::<_, Error>(2 * number)
            }
        });
        let _ = Server::in_order(transport, double).await;
    }

    fn pool(&self) -> PoolBuilder<impl Connect<Transport = Channel<u32, u32>, Future: Send> + Clone + Send + use<>> {
        PoolBuilder::new(self.connector(), http::Request::new(()))
    }
}

/// Counts a server as open while it lives.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

type Doubling = Pool<Channel<u32, u32>, u32, u32, InOrder>;

async fn call(pool: &Doubling, number: u32) -> Result<u32, Error> {
    pool.clone().oneshot(number).await
}

/// Lets every task that can run, run.
async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_exchanges_one_by_one_use_one_connection() {
    let target = Target::new(1000);
    let pool = target.pool().in_order();
    for number in 0..1000 {
        assert_eq!(call(&pool, number).await.unwrap(), 2 * number);
    }
    assert_eq!((pool.connects(), target.connects.load(Relaxed)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn while_all_connections_are_busy_calls_share_them_and_more_are_opened_up_to_the_bound() {
    let target = Target::new(0);
    let pool = target.pool().max_connections(3.try_into().unwrap()).in_order();
    let calls = (0..30).map(|number| {
        tokio::spawn({
            let pool = pool.clone();
            async move { call(&pool, number).await }
        })
    });
    let calls: Vec<_> = calls.collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((pool.connections(), pool.in_flight(), pool.waiting()), (3, 30, 0));
    target.answers.add_permits(30);
    for (number, answer) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap().unwrap(), 2 * number as u32);
    }
    assert_eq!(pool.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_room_waits_its_turn_and_no_longer_than_allowed() {
    let target = Target::new(1);
    let one = 1.try_into().unwrap();
    let pool = target.pool().max_connections(one).calls_per_connection(one).max_wait(Duration::from_secs(5)).in_order();
    assert_eq!(call(&pool, 1).await.unwrap(), 2);
    let busy = tokio::spawn({
        let pool = pool.clone();
        async move { call(&pool, 2).await }
    });
    settle().await;
    let started = tokio::time::Instant::now();
    let error = call(&pool, 3).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    let waits = tokio::spawn({
        let pool = pool.clone();
        async move { call(&pool, 4).await }
    });
    settle().await;
    assert_eq!(pool.waiting(), 1);
    target.answers.add_permits(2);
    assert_eq!(busy.await.unwrap().unwrap(), 4);
    assert_eq!(waits.await.unwrap().unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn more_calls_than_may_wait_are_refused_at_once() {
    let target = Target::new(0);
    let one = 1.try_into().unwrap();
    let pool = target.pool().max_connections(one).calls_per_connection(one).max_waiting(2).in_order();
    let mut waiting: Vec<_> = (0..2).map(|number| Box::pin(pool.clone().oneshot(number))).collect();
    for call in &mut waiting {
        assert!(call.now_or_never().is_none());
    }
    assert!(call(&pool, 3).now_or_never().unwrap().unwrap_err().is_full());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_gives_its_place_to_the_next() {
    let target = Target::new(0);
    let one = 1.try_into().unwrap();
    let pool = target.pool().max_connections(one).calls_per_connection(one).in_order();
    let mut first = Box::pin(pool.clone().oneshot(1));
    let second = tokio::spawn({
        let pool = pool.clone();
        async move { call(&pool, 2).await }
    });
    assert!(first.as_mut().now_or_never().is_none());
    drop(first);
    target.answers.add_permits(1);
    assert_eq!(second.await.unwrap().unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_fails_fails_the_calls_that_waited_for_it_and_the_next_tries_anew() {
    let target = Target::new(10);
    target.refuses.store(1, Relaxed);
    let pool = target.pool().max_connections(1.try_into().unwrap()).in_order();
    let calls = join_all((0..3).map(|number| call(&pool, number))).await;
    assert!(calls.iter().all(|call| call.as_ref().is_err_and(Error::is_refused)));
    assert_eq!(call(&pool, 4).await.unwrap(), 8);
    assert_eq!(target.connects.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_is_replaced_and_only_its_calls_fail() {
    let target = Target::new(1);
    let pool = target.pool().in_order();
    assert_eq!(call(&pool, 1).await.unwrap(), 2);
    let lost = tokio::spawn({
        let pool = pool.clone();
        async move { call(&pool, 2).await }
    });
    settle().await;
    target.servers.lock().unwrap()[0].abort();
    assert!(lost.await.unwrap().unwrap_err().is_closed());
    target.answers.add_permits(1);
    assert_eq!(call(&pool, 3).await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_between_the_timeout_and_a_quarter_more() {
    let target = Target::new(1);
    let pool = target.pool().idle_timeout(Duration::from_secs(40)).in_order();
    assert_eq!(call(&pool, 1).await.unwrap(), 2);
    tokio::time::sleep(Duration::from_secs(39)).await;
    assert_eq!((pool.connections(), target.open.load(Relaxed)), (1, 1));
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!((pool.connections(), target.open.load(Relaxed)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_gets_no_more_calls_and_finishes_those_that_it_has() {
    let target = Target::new(0);
    let pool = target.pool().max_lifetime(Duration::from_secs(60)).max_connections(1.try_into().unwrap()).in_order();
    let long = tokio::spawn({
        let pool = pool.clone();
        async move { call(&pool, 1).await }
    });
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!((pool.connections(), target.open.load(Relaxed)), (0, 1));
    target.answers.add_permits(2);
    assert_eq!(long.await.unwrap().unwrap(), 2);
    settle().await;
    assert_eq!(target.open.load(Relaxed), 0, "closed when its last call was done");
    assert_eq!(call(&pool, 2).await.unwrap(), 4);
    assert_eq!(pool.connects(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_warm_pool_keeps_its_connections_and_replaces_lost_ones() {
    let target = Target::new(0);
    let pool: Doubling = target.pool().min_connections(2).idle_timeout(Duration::from_secs(4)).in_order();
    pool.warm();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((pool.connections(), pool.connects()), (2, 2));
    target.refuses.store(3, Relaxed);
    target.servers.lock().unwrap()[0].abort();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((pool.connections(), pool.connects()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn with_the_last_handle_the_connections_go() {
    let target = Target::new(1);
    let pool = target.pool().min_connections(1).in_order();
    assert_eq!(call(&pool, 1).await.unwrap(), 2);
    let other = pool.clone();
    drop(pool);
    settle().await;
    assert_eq!(target.open.load(Relaxed), 1);
    drop(other);
    settle().await;
    assert_eq!(target.open.load(Relaxed), 0);
}

/// A pool whose connections neither become idle nor old.
fn lasting(target: &Target) -> Doubling {
    target.pool().min_connections(2).idle_timeout(Duration::MAX).max_lifetime(Duration::MAX).in_order()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_succeeds_after_the_last_handle_is_closed_at_once() {
    let target = Target::new(0);
    let pool = lasting(&target);
    pool.warm();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(pool);
    tokio::time::sleep(Duration::from_millis(51)).await;
    settle().await;
    assert_eq!((target.connects.load(Relaxed), target.open.load(Relaxed), tasks()), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connect_that_succeeds_after_the_last_handle_and_the_last_call_is_closed_at_once() {
    let target = Target::new(0);
    let pool = lasting(&target);
    let call = tokio::spawn(pool.clone().oneshot(1));
    settle().await;
    drop(pool);
    settle().await;
    call.abort();
    tokio::time::sleep(Duration::from_millis(101)).await;
    settle().await;
    assert_eq!((target.connects.load(Relaxed), target.open.load(Relaxed), tasks()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_for_calls_that_survive_the_last_handle_is_closed_after_the_last_of_them() {
    let target = Target::new(0);
    let one = 1.try_into().unwrap();
    let pool: Doubling = target
        .pool()
        .max_connections(one)
        .calls_per_connection(one)
        .idle_timeout(Duration::MAX)
        .max_lifetime(Duration::MAX)
        .in_order();
    let calls = [1, 2, 3].map(|number| tokio::spawn(pool.clone().oneshot(number)));
    settle().await;
    drop(pool);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(target.open.load(Relaxed), 1);
    target.answers.add_permits(3);
    for (number, call) in [1, 2, 3].into_iter().zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), 2 * number);
    }
    settle().await;
    assert_eq!((target.connects.load(Relaxed), target.open.load(Relaxed), tasks()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn it_is_always_ready_and_its_calls_do_nothing_before_they_are_polled() {
    let target = Target::new(1);
    let mut pool: Doubling = target.pool().in_order();
    let unpolled = pool.ready().now_or_never().unwrap().unwrap().call(1);
    settle().await;
    assert_eq!(target.connects.load(Relaxed), 0);
    assert_eq!(unpolled.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_a_warm_pool_one_task_that_asks_less_and_less_often() {
    let target = Target::new(10);
    target.refuses.store(usize::MAX, Relaxed);
    let pool = target.pool().min_connections(2).max_connections(4.try_into().unwrap()).in_order();
    pool.warm();
    let calls = join_all((0..125).map(|number| call(&pool, number))).await;
    assert!(calls.iter().all(|call| call.as_ref().is_err_and(|error| !error.may_have_been_executed())));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(tasks(), 1, "the keeper alone");
    let before = target.connects.load(Relaxed);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let asked = target.connects.load(Relaxed) - before;
    // Each 15 seconds on average.
    assert!((150..400).contains(&asked), "{asked} connects in an hour");
    assert_eq!(tasks(), 1);

    target.refuses.store(0, Relaxed);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(pool.connections(), 2);
    assert_eq!(call(&pool, 1).await.unwrap(), 2);
    drop(pool);
    settle().await;
    assert_eq!(tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_keeper_ends_with_the_last_handle_in_the_middle_of_an_outage() {
    let target = Target::new(0);
    target.refuses.store(usize::MAX, Relaxed);
    let pool: Doubling = target.pool().min_connections(3).in_order();
    pool.warm();
    tokio::time::sleep(Duration::from_secs(600)).await;
    drop(pool);
    settle().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn connections_that_end_at_once_are_replaced_less_and_less_often() {
    let target = Target::new(0);
    let pool: Doubling = target.pool().min_connections(1).in_order();
    pool.warm();
    let servers = target.servers.clone();
    let kills = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            servers.lock().unwrap().drain(..).for_each(|server| server.abort());
        }
    });
    tokio::time::sleep(Duration::from_secs(3600)).await;
    kills.abort();
    assert!(target.connects.load(Relaxed) < 400, "{:?} connects in an hour", target.connects);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_a_full_connection_do_not_repeat_a_connect_that_fails() {
    let target = Target::new(1);
    let one = 1.try_into().unwrap();
    let pool = target.pool().max_connections(2.try_into().unwrap()).calls_per_connection(one).in_order();
    assert_eq!(call(&pool, 1).await.unwrap(), 2);
    target.refuses.store(usize::MAX, Relaxed);
    let calls = [2, 3].map(|number| {
        let pool = pool.clone();
        tokio::spawn(async move { call(&pool, number).await })
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((pool.in_flight(), pool.waiting()), (1, 1));
    // The first while it found the only connection busy, or the second when it joined the line.
    assert!(target.connects.load(Relaxed) <= 3, "{:?} connects", target.connects);
    target.answers.add_permits(2);
    for (number, call) in [2, 3].into_iter().zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), 2 * number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_survives_the_last_handle() {
    let target = Target::new(2);
    let one = 1.try_into().unwrap();
    let pool = target.pool().max_connections(one).calls_per_connection(one).in_order();
    let calls = [1, 2].map(|number| tokio::spawn(pool.clone().oneshot(number)));
    drop(pool);
    for (number, call) in [1, 2].into_iter().zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), 2 * number);
    }
}

#[test]
fn a_waker_that_looks_at_the_pool_does_not_deadlock() {
    struct Looking(Arc<OnceLock<Doubling>>);

    impl Looking {
        fn look(&self) {
            if let Some(pool) = self.0.get() {
                let _ = (pool.waiting(), pool.in_flight());
            }
        }
    }

    impl Wake for Looking {
        fn wake(self: Arc<Self>) {
            self.look();
        }
    }

    impl Drop for Looking {
        fn drop(&mut self) {
            self.look();
        }
    }

    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let target = Target::new(0);
            let one = 1.try_into().unwrap();
            let pool: Doubling = target.pool().max_connections(one).calls_per_connection(one).in_order();
            let slot = Arc::new(OnceLock::new());
            let _ = slot.set(pool.clone());
            let waker = || Waker::from(Arc::new(Looking(slot.clone())));
            let mut calls: Vec<_> = (0..4).map(|number| Box::pin(pool.clone().oneshot(number))).collect();
            for round in 0..3 {
                for call in &mut calls {
                    // Another waker each time, so that the one before is replaced.
                    let _ = call.poll_unpin(&mut Context::from_waker(&waker()));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                target.answers.add_permits(round);
            }
            drop(calls.remove(2));
            drop(calls);
        });
        let _ = done.send(());
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("a deadlock, or a panic");
}

/// Makes a call that is abandoned once its request is on its way.
async fn abandon(pool: &Doubling, number: u32) {
    assert!(tokio::time::timeout(Duration::from_secs(1), call(pool, number)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn in_order_an_abandoned_call_keeps_its_room_until_its_answer_and_retires_no_connection() {
    let target = Target::new(0);
    let pool = target.pool().max_connections(1.try_into().unwrap()).calls_per_connection(2.try_into().unwrap());
    let pool = pool.in_order();
    for round in 1..=3 {
        abandon(&pool, 1).await;
        abandon(&pool, 2).await;
        assert_eq!(pool.in_flight(), 2, "the answers are still to come");
        let waiting = tokio::spawn(pool.clone().oneshot(3));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((pool.connections(), pool.waiting(), pool.connects()), (1, 1, 1), "round {round}");
        target.answers.add_permits(1);
        settle().await;
        assert_eq!((pool.in_flight(), pool.waiting()), (2, 0), "the first answer has made room");
        target.answers.add_permits(2);
        assert_eq!(waiting.await.unwrap().unwrap(), 6);
        settle().await;
        assert_eq!((pool.in_flight(), pool.connections(), pool.connects()), (0, 1, 1));
    }
    assert_eq!(target.open.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_counts_until_it_has_ended() {
    let target = Target::new(0);
    let pool: Doubling =
        target.pool().max_lifetime(Duration::from_secs(60)).max_connections(1.try_into().unwrap()).in_order();
    let long = tokio::spawn(pool.clone().oneshot(1));
    tokio::time::sleep(Duration::from_secs(61)).await;
    let next = tokio::spawn(pool.clone().oneshot(2));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((pool.connects(), pool.waiting(), target.open.load(Relaxed)), (1, 1, 1));
    target.answers.add_permits(2);
    assert_eq!(long.await.unwrap().unwrap(), 2);
    assert_eq!(next.await.unwrap().unwrap(), 4);
    assert_eq!((pool.connects(), target.open.load(Relaxed)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_only_abandoned_calls_and_no_answers_is_retired_as_an_idle_one() {
    let target = Target::new(0);
    let one = 1.try_into().unwrap();
    let pool: Doubling = target
        .pool()
        .max_connections(one)
        .min_connections(1)
        .calls_per_connection(one)
        .idle_timeout(Duration::from_secs(8))
        .in_order();
    abandon(&pool, 1).await;
    let waiting = tokio::spawn(pool.clone().oneshot(2));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!((pool.connects(), pool.waiting()), (1, 1));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!((pool.connects(), pool.waiting()), (2, 0));
    target.answers.add_permits(2);
    assert_eq!(waiting.await.unwrap().unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn abandoned_calls_keep_no_connection_without_a_handle() {
    let target = Target::new(0);
    for drops_call_first in [true, false] {
        let pool = target.pool().in_order();
        let call = tokio::spawn(pool.clone().oneshot(1));
        tokio::time::sleep(Duration::from_secs(1)).await;
        if drops_call_first {
            call.abort();
            settle().await;
            drop(pool);
        } else {
            drop(pool);
            call.abort();
        }
        settle().await;
        target.answers.add_permits(1);
        settle().await;
        assert_eq!((target.open.load(Relaxed), tasks()), (0, 0));
    }
}

/// A connector whose attempts take the given times in milliseconds, one after the other, and fail where that says so.
fn by_attempt(
    attempts: Vec<(u64, bool)>,
) -> impl Connect<Transport = Channel<u32, u32>, Future: Send> + Clone + Send + Sync {
    let (made, attempts) = (Arc::new(AtomicUsize::new(0)), Arc::new(attempts));
    service_fn(move |_: http::Request<()>| {
        let (millis, succeeds) = attempts[made.fetch_add(1, Relaxed)];
        async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            if !succeeds {
                return Err(Error::refused(format!("after {millis} ms")));
            }
            let (here, there) = channel::<u32, u32>(64);
            let double = service_fn(|number: u32| async move { Ok::<_, Error>(2 * number) });
            tokio::spawn(Server::in_order(there, double));
            Ok(http::Response::new(here))
        }
    })
}

/// Makes this many calls at once, and says how each ended.
async fn calls_at_once(attempts: Vec<(u64, bool)>, connections: usize, calls: u32) -> Vec<Result<u32, String>> {
    let pool: Doubling = PoolBuilder::new(by_attempt(attempts), http::Request::new(()))
        .max_connections(connections.try_into().unwrap())
        .in_order();
    let ends = join_all((0..calls).map(|number| call(&pool, number))).await;
    ends.into_iter().map(|end| end.map_err(|error| error.to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failed_connect_fails_the_call_that_it_was_for_while_another_is_under_way() {
    let ends = calls_at_once(vec![(100, false), (200, true)], 8, 2).await;
    assert_eq!(ends, [Err("after 100 ms".to_owned()), Ok(2)]);
    let ends = calls_at_once(vec![(200, true), (100, false)], 8, 2).await;
    assert_eq!(ends, [Ok(0), Err("after 100 ms".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_no_connect_was_made_for_wait_for_the_last_one_under_way() {
    let ends = calls_at_once(vec![(100, false), (200, true)], 2, 4).await;
    assert_eq!(ends, [Err("after 100 ms".to_owned()), Ok(2), Ok(4), Ok(6)]);
    let ends = calls_at_once(vec![(200, false), (100, false)], 2, 3).await;
    let [after_100, after_200] = [100, 200].map(|millis| Err(format!("after {millis} ms")));
    assert_eq!(ends, [after_200.clone(), after_100, after_200]);
}

#[tokio::test(start_paused = true)]
async fn in_an_outage_a_call_that_no_connect_was_made_for_fails_with_the_first_that_began_after_it() {
    let pool: Doubling = PoolBuilder::new(by_attempt(vec![(100, false); 100]), http::Request::new(()))
        .max_connections(2.try_into().unwrap())
        .in_order();
    // A call every 30 ms: a connect is always under way.
    let calls = (0..50).map(|number| {
        let pool = pool.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(30 * u64::from(number))).await;
            let start = tokio::time::Instant::now();
            assert!(call(&pool, number).await.unwrap_err().is_refused());
            start.elapsed().as_millis()
        }
    });
    let longest = join_all(calls).await.into_iter().max().unwrap();
    assert!(longest <= 300, "{longest} ms");
}

/// A transport whose codec panics when it reads this number.
struct Panics(Channel<u32, u32>);

const UNREADABLE: u32 = 26;

impl Stream for Panics {
    type Item = Result<u32, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.0.poll_next_unpin(cx);
        assert!(!matches!(polled, Poll::Ready(Some(Ok(UNREADABLE)))), "the codec panics, as the test wants it");
        polled
    }
}

impl Sink<u32> for Panics {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, number: u32) -> Result<(), Error> {
        self.0.start_send_unpin(number)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_flush_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_close_unpin(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_transport_panics_is_replaced() {
    for least in [0, 1] {
        let target = Target::new(100);
        let connector = target.connector().map_response(|response: http::Response<_>| response.map(Panics));
        let builder = PoolBuilder::new(connector, http::Request::new(())).max_connections(1.try_into().unwrap());
        let pool = builder.min_connections(least).max_wait(Duration::from_secs(5)).in_order::<u32, u32>();
        for round in 0..3 {
            assert_eq!(pool.clone().oneshot(1).await.unwrap(), 2);
            assert!(pool.clone().oneshot(UNREADABLE / 2).await.is_err());
            assert_eq!(pool.connects(), round + 1);
            if least > 0 {
                // Without a call that asks for it.
                tokio::time::sleep(Duration::from_secs(60)).await;
                assert_eq!(pool.connects(), round + 2);
            }
        }
        assert_eq!(pool.clone().oneshot(1).await.unwrap(), 2);
    }
}
