//! tower's layers on calls: around a caller, and behind a peer.

use std::future::Ready;

use tower::retry::{Policy, RetryLayer};
use tower_transport::layer::cache::CacheLayer;

use super::*;

/// A handler that answers once it may, and counts its calls.
#[derive(Clone, Default)]
struct Gate {
    opened: Arc<Notify>,
    begun: Arc<AtomicUsize>,
    dropped: Arc<AtomicBool>,
}

impl Gate {
    async fn handle(self, call: IncomingCall<u32>) -> Answer {
        self.begun.fetch_add(1, SeqCst);
        let _guard = SetOnDrop(self.dropped);
        self.opened.notified().await;
        double(call).await
    }

    fn begun(&self) -> usize {
        self.begun.load(SeqCst)
    }

    fn serve(&self, settings: PeerBuilder<Wire>) -> (Caller<Wire>, [PeerTask; 2]) {
        let (near, far) = channel(8);
        let (caller, near) = serve(settings.clone(), near, nobody_calls);
        let gate = self.clone();
        let (_, far) = serve(settings, far, move |call| gate.clone().handle(call));
        (caller, [near, far])
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_cancels_the_handler_at_the_other_end() {
    let gate = Gate::default();
    let (caller, _peers) = gate.serve(settings());
    let service = ServiceBuilder::new().timeout(Duration::from_secs(1)).service(caller.clone());
    let error = service.oneshot(1).await.unwrap_err();
    assert!(error.is::<tower::timeout::error::Elapsed>(), "{error}");
    settle().await;
    assert!(gate.dropped.load(SeqCst));
    assert_eq!(caller.in_flight(), 0);
}

#[tokio::test]
async fn a_concurrency_limit_holds_the_next_call_back() {
    let gate = Gate::default();
    let (caller, _peers) = gate.serve(settings());
    let service = ServiceBuilder::new().concurrency_limit(1).service(caller);
    let calls = [service.clone(), service].map(|service| tokio::spawn(service.oneshot(2)));
    settle().await;
    assert_eq!(gate.begun(), 1);
    gate.opened.notify_one();
    settle().await;
    assert_eq!(gate.begun(), 2);
    gate.opened.notify_one();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 4);
    }
}

#[tokio::test]
async fn load_shed_fails_a_call_that_has_no_place_in_flight() {
    let gate = Gate::default();
    let (caller, _peers) = gate.serve(settings().max_calls(NonZeroUsize::MIN));
    let service = ServiceBuilder::new().load_shed().service(caller);
    let first = tokio::spawn(service.clone().oneshot(1));
    settle().await;
    let error = service.clone().oneshot(2).await.unwrap_err();
    assert!(error.is::<tower::load_shed::error::Overloaded>(), "{error}");
    gate.opened.notify_one();
    assert_eq!(first.await.unwrap().unwrap(), 2);
    gate.opened.notify_one();
    assert_eq!(service.oneshot(3).await.unwrap(), 6);
}

/// Retries what was certainly not executed, and counts.
#[derive(Clone)]
struct Safe(Arc<AtomicUsize>);

impl Policy<u32, u32, CallError<String>> for Safe {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u32, result: &mut Result<u32, CallError<String>>) -> Option<Ready<()>> {
        let may_retry = matches!(result, Err(error) if !error.may_have_been_executed());
        may_retry.then(|| {
            self.0.fetch_add(1, SeqCst);
            ready(())
        })
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

#[tokio::test]
async fn a_retry_repeats_what_was_not_executed_and_nothing_else() {
    let gate = Gate::default();
    // The other end takes one call at a time, and rejects others.
    let (caller, _peers) = gate.serve(settings().max_incoming_calls(NonZeroUsize::MIN));
    let first = tokio::spawn(caller.clone().oneshot(1));
    settle().await;
    let retries = Arc::new(AtomicUsize::new(0));
    let service = ServiceBuilder::new().layer(RetryLayer::new(Safe(retries.clone()))).service(caller);
    let second = tokio::spawn(service.oneshot(2));
    settle().await;
    assert_eq!((gate.begun(), second.is_finished()), (1, false));
    gate.opened.notify_one();
    assert_eq!(first.await.unwrap().unwrap(), 2);
    settle().await;
    assert_eq!(gate.begun(), 2);
    gate.opened.notify_one();
    assert_eq!(second.await.unwrap().unwrap(), 4);
    assert!(retries.load(SeqCst) > 0);

    // An error of the application is an answer.
    let retries = Arc::new(AtomicUsize::new(0));
    let (caller, _near, _far) = pair(nobody_calls);
    let service = ServiceBuilder::new().layer(RetryLayer::new(Safe(retries.clone()))).service(caller);
    assert!(service.oneshot(1).await.unwrap_err().failure().is_some());
    assert_eq!(retries.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_buffer_and_a_rate_limit_share_one_caller_among_tasks() {
    let (caller, _near, _far) = pair(double);
    let service = ServiceBuilder::new().buffer(4).rate_limit(2, Duration::from_secs(1)).service(caller);
    let begun = tokio::time::Instant::now();
    let calls = (1..=5).map(|number| tokio::spawn(service.clone().oneshot(number)));
    for (number, call) in (1..).zip(calls.collect::<Vec<_>>()) {
        assert_eq!(call.await.unwrap().unwrap(), number * 2);
    }
    assert_eq!(begun.elapsed().as_secs(), 2);
}

#[tokio::test]
async fn a_cache_asks_the_other_end_once() {
    let gate = Gate::default();
    gate.opened.notify_one();
    let (caller, _peers) = gate.serve(settings());
    let service = ServiceBuilder::new().layer(CacheLayer::shared(|request: &u32| Some(*request))).service(caller);
    assert_eq!(service.clone().oneshot(21).await.unwrap(), 42);
    assert_eq!(service.oneshot(21).await.unwrap(), 42);
    assert_eq!(gate.begun(), 1);
}

#[tokio::test]
async fn a_concurrency_limit_behind_a_peer_lets_the_calls_over_it_wait() {
    let gate = Gate::default();
    let (near, far) = channel(8);
    let (caller, peer) = serve(settings(), near, nobody_calls);
    let handler = gate.clone();
    let handler = Handler(move |call| handler.clone().handle(call));
    let limited = ServiceBuilder::new().concurrency_limit(1).service(handler);
    let (_, other) = settings().build(far, limited);
    let _peers = [peer, tokio::spawn(other)];
    let calls = [1, 2].map(|number| tokio::spawn(caller.clone().oneshot(number)));
    settle().await;
    assert_eq!(gate.begun(), 1);
    gate.opened.notify_one();
    settle().await;
    assert_eq!(gate.begun(), 2);
    gate.opened.notify_one();
    for (number, call) in (1..).zip(calls) {
        assert_eq!(call.await.unwrap().unwrap(), number * 2);
    }
}
