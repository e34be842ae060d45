//! tower's own layers above a client.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tower::{
    Service, ServiceBuilder, ServiceExt,
    retry::{Policy, Retry},
    service_fn,
};
use tower_transport::{
    BoxError, Channel, Error, channel,
    service::{ByTag, Client, Server, Tagged},
};

type Echo = Client<Channel<Tagged<u32>, Tagged<u32>>, u32, u32, ByTag>;

/// A client of a server that answers after as many milliseconds as the request says, and how many requests it has at a
/// time, at most.
fn sleeper() -> (Echo, Arc<AtomicUsize>) {
    let (here, there) = channel(64);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    let sleep = service_fn(move |time: u32| {
        let (now, most) = (now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(time.into())).await;
            now.fetch_sub(1, SeqCst);
            Ok::<_, Error>(time)
        }
    });
    tokio::spawn(Server::as_they_finish(there, sleep));
    (Client::by_tag(here), peak)
}

#[tokio::test(start_paused = true)]
async fn a_timeout_drops_the_call_and_the_client_goes_on() {
    let (client, _) = sleeper();
    let mut stack = ServiceBuilder::new().timeout(Duration::from_secs(1)).service(client.clone());
    let late = stack.ready().await.unwrap().call(5000).await.unwrap_err();
    assert!(Error::from(late).is_timeout());
    assert_eq!(client.in_flight(), 0);
    assert_eq!(stack.ready().await.unwrap().call(500).await.unwrap(), 500);
    assert_eq!(stack.ready().await.unwrap().call(900).await.unwrap(), 900);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(client.clone().oneshot(1).await.unwrap(), 1);
    assert_eq!(client.unknown_answers(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_above_the_client_holds() {
    let (client, most) = sleeper();
    let stack = ServiceBuilder::new().concurrency_limit(3).service(client);
    let calls = (0..12).map(|_| tokio::spawn(stack.clone().oneshot(10)));
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap(), 10);
    }
    assert_eq!(most.load(SeqCst), 3);
}

#[derive(Clone)]
struct Thrice(u32);

impl Policy<u32, u32, BoxError> for Thrice {
    type Future = std::future::Ready<()>;

    fn retry(&mut self, _: &mut u32, result: &mut Result<u32, BoxError>) -> Option<Self::Future> {
        let again = result.is_err() && self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        again.then(|| std::future::ready(()))
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_calls_again_on_the_same_transport() {
    let (here, there) = channel(8);
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let moody = service_fn(move |number: u32| {
        let turn = count.fetch_add(1, SeqCst);
        async move {
            if turn < 2 {
                std::future::pending::<()>().await;
            }
            Ok::<_, Error>(number)
        }
    });
    tokio::spawn(Server::as_they_finish(there, moody));
    let client = ServiceBuilder::new().timeout(Duration::from_secs(1)).service(Client::by_tag(here));
    let mut stack = Retry::new(Thrice(3), client);
    assert_eq!(stack.ready().await.unwrap().call(7).await.unwrap(), 7);
    assert_eq!(seen.load(SeqCst), 3);
}

#[tokio::test]
async fn a_buffer_above_the_client_serves_many_tasks() {
    let (client, _) = sleeper();
    let stack = ServiceBuilder::new().buffer(16).service(client);
    let calls = (0..100).map(|number| tokio::spawn(stack.clone().oneshot(number % 3)));
    for (number, call) in (0..).zip(calls.collect::<Vec<_>>()) {
        assert_eq!(call.await.unwrap().unwrap(), number % 3);
    }
}

#[tokio::test]
async fn load_is_shed_when_the_client_is_full() {
    let (here, _there) = channel::<u32, u32>(8);
    let client = Client::with_max_in_flight(here, tower_transport::service::InOrder, std::num::NonZeroUsize::MIN);
    let stack = ServiceBuilder::new().load_shed().service(client);
    let mut first = stack.clone().oneshot(1);
    assert!(futures_util::poll!(&mut first).is_pending());
    let shed = stack.oneshot(2).await.unwrap_err();
    assert!(shed.is::<tower::load_shed::error::Overloaded>());
}
