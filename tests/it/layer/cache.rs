//! Answers that are kept.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_transport::{Error, layer::cache::CacheLayer};

/// Counts its calls, and answers with their number when it is let.
#[derive(Clone, Default)]
struct Slow {
    calls: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
    fail: Arc<AtomicBool>,
    wakers: Arc<Mutex<Vec<Waker>>>,
}

impl Slow {
    fn open(&self) {
        self.open.store(true, SeqCst);
        self.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }

    fn service(&self) -> impl Service<u32, Response = usize, Error = Error, Future: Send> + Clone + Send + 'static {
        let slow = self.clone();
        service_fn(move |_: u32| {
            let slow = slow.clone();
            let number = slow.calls.fetch_add(1, SeqCst) + 1;
            poll_fn(move |cx| {
                if !slow.open.load(SeqCst) {
                    slow.wakers.lock().unwrap().push(cx.waker().clone());
                    return Poll::Pending;
                }
                if slow.fail.load(SeqCst) { Poll::Ready(Err(Error::timeout("down"))) } else { Poll::Ready(Ok(number)) }
            })
        })
    }
}

type Layered = CacheLayer<u32, usize, fn(&u32) -> Option<u32>>;

fn by_number() -> Layered {
    CacheLayer::shared(|number: &u32| (*number < 1000).then_some(*number))
}

#[tokio::test(start_paused = true)]
async fn a_hundred_calls_at_once_are_one_call_of_the_service() {
    let slow = Slow::default();
    let cache = by_number().layer(slow.service());
    let calls = join_all((0..100).map(|_| cache.clone().oneshot(7)));
    let opened = async {
        tokio::task::yield_now().await;
        slow.open();
    };
    let (answers, ()) = tokio::join!(calls, opened);
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 1));
    assert_eq!((slow.calls(), cache.misses(), cache.hits()), (1, 1, 99));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_time_and_then_asked_for_once() {
    let slow = Slow::default();
    slow.open();
    let cache = by_number().time_to_live(Duration::from_secs(60)).layer(slow.service());
    assert_eq!(cache.clone().oneshot(7).await.unwrap(), 1);
    tokio::time::advance(Duration::from_millis(59_999)).await;
    assert_eq!(cache.clone().oneshot(7).await.unwrap(), 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    let answers = join_all((0..100).map(|_| cache.clone().oneshot(7))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap() == 2));
    assert_eq!(cache.clone().oneshot(8).await.unwrap(), 3, "another key");
    assert_eq!(slow.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_error_reaches_all_who_waited_and_is_not_kept() {
    let slow = Slow::default();
    slow.fail.store(true, SeqCst);
    let cache = by_number().layer(slow.service());
    let calls = join_all((0..10).map(|_| cache.clone().oneshot(7)));
    let opened = async {
        tokio::task::yield_now().await;
        slow.open();
    };
    let (answers, ()) = tokio::join!(calls, opened);
    assert!(answers.into_iter().all(|answer| answer.unwrap_err().is_timeout()));
    assert_eq!(slow.calls(), 1);
    slow.fail.store(false, SeqCst);
    assert_eq!(cache.clone().oneshot(7).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn when_the_call_that_asks_is_dropped_one_of_those_who_wait_asks_anew() {
    let slow = Slow::default();
    let cache = by_number().layer(slow.service());
    let (mut first, mut second) = (cache.clone().oneshot(7), cache.clone().oneshot(7));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.poll_unpin(&mut cx).is_pending() && second.poll_unpin(&mut cx).is_pending());
    assert_eq!(slow.calls(), 1);
    drop(first);
    slow.open();
    assert_eq!(second.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_key_passes_by_and_a_hit_waits_for_nothing() {
    let slow = Slow::default();
    slow.open();
    let mut cache = by_number().layer(slow.service());
    assert_eq!(cache.call(5000).await.unwrap(), 1);
    assert_eq!(cache.call(5000).await.unwrap(), 2);
    assert_eq!(cache.call(7).await.unwrap(), 3);
    slow.open.store(false, SeqCst);
    assert_eq!(cache.call(7).now_or_never().unwrap().unwrap(), 3);
    assert!(cache.call(8).now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shared_store_is_shared_by_all_services_of_a_layer_and_another_is_not() {
    let slow = Slow::default();
    slow.open();
    let shared = by_number();
    assert_eq!(shared.layer(slow.service()).oneshot(7).await.unwrap(), 1);
    assert_eq!(shared.clone().layer(slow.service()).oneshot(7).await.unwrap(), 1);
    let own: Layered = CacheLayer::per_service(|number: &u32| Some(*number));
    assert_eq!(own.layer(slow.service()).oneshot(7).await.unwrap(), 2);
    assert_eq!(own.layer(slow.service()).oneshot(7).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn answers_are_bounded_by_their_number_or_weight() {
    let slow = Slow::default();
    slow.open();
    for layer in [by_number().capacity(10), by_number().capacity(1000).weigh(|_, _| 100)] {
        let cache = layer.layer(slow.service());
        for _ in 0..20 {
            for number in 0..1000 {
                cache.clone().oneshot(number).await.unwrap();
            }
        }
        assert!(cache.entries() <= 600, "{} entries; moka tidies up after some hundreds", cache.entries());
    }
    let none = by_number().capacity(0).layer(slow.service());
    assert_ne!(none.clone().oneshot(7).await.unwrap(), none.clone().oneshot(7).await.unwrap());
}
