use std::{
    future::Future,
    num::NonZeroUsize,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::SinkExt;
use tokio::sync::oneshot;
use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    BoxError, Channel, Error, TransportExt, channel,
    service::{self, Client, InOrder, Server, Tagged},
    test_util::WakeCount,
};

use crate::service::support::{Buffered, NeverCloses, receive, send};

type Answer = oneshot::Sender<Result<u32, Error>>;
type Calls = Vec<(u32, Option<Answer>)>;

/// A service whose answers the test gives, and whose readiness it sets.
#[derive(Clone, Default)]
struct Handler {
    calls: Arc<Mutex<Calls>>,
    unready: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Service<u32> for Handler {
    type Response = u32;
    type Error = Error;
    type Future = futures_util::future::BoxFuture<'static, Result<u32, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.unready.load(SeqCst) {
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let (answer, future) = oneshot::channel();
        self.calls.lock().unwrap().push((request, Some(answer)));
        Box::pin(async { future.await.unwrap_or_else(|_| Err(Error::other("the test dropped the answer"))) })
    }
}

impl Handler {
    fn calls(&self) -> Vec<u32> {
        self.calls.lock().unwrap().iter().map(|(request, _)| *request).collect()
    }

    fn answer(&self, request: u32, answer: Result<u32, Error>) {
        let mut calls = self.calls.lock().unwrap();
        let (_, sender) = calls.iter_mut().find(|(called, sender)| *called == request && sender.is_some()).unwrap();
        sender.take().unwrap().send(answer).unwrap();
    }
}

struct Game<S: Future> {
    server: std::pin::Pin<Box<S>>,
    task: Arc<WakeCount>,
    waker: Waker,
}

impl<S: Future> Game<S> {
    fn new(server: S) -> Self {
        let (task, waker) = WakeCount::new();
        Self { server: Box::pin(server), task, waker }
    }

    fn poll(&mut self) -> Poll<S::Output> {
        self.server.as_mut().poll(&mut Context::from_waker(&self.waker))
    }

    /// Polls as long as it is woken, as a runtime does.
    fn run(&mut self) -> Poll<S::Output> {
        loop {
            let polled = self.poll();
            if polled.is_ready() || !self.task.take() > 0 {
                return polled;
            }
        }
    }

    /// Polls it if it was woken, and it must have been.
    fn wake(&mut self) -> Poll<S::Output> {
        assert!(self.task.take() > 0, "the server was not woken");
        self.run()
    }
}

#[test]
fn in_order_answers_keep_the_order_of_their_requests() {
    let (mut here, there) = channel::<u32, u32>(8);
    let handler = Handler::default();
    let mut game = Game::new(Server::in_order(there, handler.clone()));
    (1..=3).for_each(|number| send(&mut here, number));
    assert!(game.run().is_pending());
    assert_eq!(handler.calls(), [1, 2, 3]);
    handler.answer(3, Ok(30));
    handler.answer(2, Ok(20));
    assert!(game.wake().is_pending());
    assert_eq!(receive(&mut here), None);
    handler.answer(1, Ok(10));
    assert!(game.wake().is_pending());
    assert_eq!([receive(&mut here), receive(&mut here), receive(&mut here)], [Some(10), Some(20), Some(30)]);
}

#[test]
fn as_they_finish_an_answer_goes_out_when_it_is_there_with_the_tag_of_its_request() {
    let (mut here, there) = channel::<Tagged<u32>, Tagged<u32>>(8);
    let handler = Handler::default();
    let mut game = Game::new(Server::as_they_finish(there, handler.clone()));
    (1..=2).for_each(|value| send(&mut here, Tagged { tag: u64::from(value) + 100, value }));
    assert!(game.run().is_pending());
    handler.answer(2, Ok(20));
    assert!(game.wake().is_pending());
    assert_eq!(receive(&mut here), Some(Tagged { tag: 102, value: 20 }));
    handler.answer(1, Ok(10));
    assert!(game.wake().is_pending());
    assert_eq!(receive(&mut here), Some(Tagged { tag: 101, value: 10 }));
}

#[test]
fn as_many_requests_as_allowed_are_read_and_the_others_wait_in_the_transport() {
    let (mut here, there) = channel::<u32, u32>(8);
    let handler = Handler::default();
    let server = Server::in_order(there, handler.clone()).concurrency(NonZeroUsize::new(2).unwrap());
    let mut game = Game::new(server);
    (1..=4).for_each(|number| send(&mut here, number));
    assert!(game.run().is_pending());
    assert_eq!(handler.calls(), [1, 2]);
    handler.answer(2, Ok(20));
    assert!(game.wake().is_pending());
    // Its answer waits for the first one's.
    assert_eq!(handler.calls(), [1, 2]);
    handler.answer(1, Ok(10));
    assert!(game.wake().is_pending());
    assert_eq!(handler.calls(), [1, 2, 3, 4]);
}

#[test]
fn a_peer_that_does_not_read_its_answers_is_not_read_from() {
    let (mut here, there) = channel::<u32, u32>(2);
    let echo = service_fn(|number: u32| async move { Ok::<_, Error>(number) });
    let server = Server::in_order(there, echo).concurrency(NonZeroUsize::new(3).unwrap());
    let mut game = Game::new(server);
    let mut sent = 0;
    for _ in 0..20 {
        if crate::service::support::try_send(&mut here, sent).is_ok() {
            sent += 1;
        }
        assert!(game.run().is_pending());
    }
    // Two answers in the channel, three in flight, two requests in the channel.
    assert_eq!(sent, 7);
    assert_eq!(receive(&mut here), Some(0));
    assert!(game.wake().is_pending());
    assert!(crate::service::support::try_send(&mut here, sent).is_ok());
}

#[test]
fn a_service_that_is_not_ready_stops_the_reading_until_it_is() {
    let (mut here, there) = channel::<u32, u32>(2);
    let handler = Handler::default();
    handler.unready.store(true, SeqCst);
    let mut game = Game::new(Server::in_order(there, handler.clone()));
    (1..=2).for_each(|number| send(&mut here, number));
    assert!(game.run().is_pending());
    assert_eq!(handler.calls(), [0u32; 0]);
    // One request is held, one waits in the channel, and there is room for one more.
    send(&mut here, 3);
    assert!(game.run().is_pending());
    assert!(crate::service::support::try_send(&mut here, 4).is_err());
    handler.unready.store(false, SeqCst);
    handler.waker.lock().unwrap().take().unwrap().wake();
    assert!(game.wake().is_pending());
    assert_eq!(handler.calls(), [1, 2, 3]);
}

#[test]
fn an_idle_connection_asks_for_no_readiness() {
    let asked = Arc::new(AtomicUsize::new(0));
    #[derive(Clone)]
    struct Asked(Arc<AtomicUsize>);
    impl Service<u32> for Asked {
        type Response = u32;
        type Error = Error;
        type Future = std::future::Ready<Result<u32, Error>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            self.0.fetch_add(1, SeqCst);
            Poll::Ready(Ok(()))
        }
        fn call(&mut self, request: u32) -> Self::Future {
            std::future::ready(Ok(request))
        }
    }
    let (mut here, there) = channel::<u32, u32>(2);
    let mut game = Game::new(Server::in_order(there, Asked(asked.clone())));
    assert!(game.run().is_pending());
    assert_eq!(asked.load(SeqCst), 0);
    send(&mut here, 1);
    assert!(game.wake().is_pending());
    assert_eq!((receive(&mut here), asked.load(SeqCst)), (Some(1), 1));
}

#[test]
fn a_burst_of_requests_costs_one_flush() {
    let (mut here, there) = channel::<u32, u32>(64);
    let (transport, control) = Buffered::new(there);
    let echo = service_fn(|number: u32| async move { Ok::<_, Error>(number) });
    let mut game = Game::new(Server::in_order(transport, echo));
    (0..8).for_each(|number| send(&mut here, number));
    assert!(game.run().is_pending());
    assert_eq!(control.flushes.load(SeqCst), 1);
    assert_eq!(std::iter::from_fn(|| receive(&mut here)).count(), 8);
}

#[test]
fn when_the_peer_closes_what_is_in_flight_is_answered_first() {
    let (mut here, there) = channel::<u32, u32>(8);
    let handler = Handler::default();
    let mut game = Game::new(Server::in_order(there, handler.clone()));
    send(&mut here, 1);
    assert!(game.run().is_pending());
    assert!(matches!(
        futures_util::Sink::poll_close(std::pin::Pin::new(&mut here), &mut Context::from_waker(Waker::noop())),
        Poll::Ready(Ok(()))
    ));
    assert!(game.wake().is_pending());
    handler.answer(1, Ok(10));
    assert!(matches!(game.wake(), Poll::Ready(Ok(()))));
    assert_eq!(receive(&mut here), Some(10));
}

#[test]
fn a_peer_that_is_gone_is_a_good_end_whatever_was_in_flight() {
    let (mut here, there) = channel::<u32, u32>(8);
    let handler = Handler::default();
    let mut game = Game::new(Server::in_order(there, handler.clone()));
    (1..=2).for_each(|number| send(&mut here, number));
    assert!(game.run().is_pending());
    handler.answer(1, Ok(10));
    drop(here);
    assert!(matches!(game.wake(), Poll::Ready(Ok(()))));
}

#[test]
fn a_failure_of_the_transport_is_the_result() {
    let (_here, there) = channel::<u32, u32>(8);
    let (transport, control) = Buffered::new(there);
    *control.fault.lock().unwrap() = Some(Error::protocol("a reserved bit is set"));
    let mut game = Game::new(Server::in_order(transport, Handler::default()));
    assert!(matches!(game.run(), Poll::Ready(Err(error)) if error.is_protocol()));
}

#[test]
fn a_graceful_shutdown_reads_no_more_finishes_flushes_and_closes() {
    let (mut here, there) = channel::<u32, u32>(8);
    let (transport, _) = Buffered::new(there);
    let handler = Handler::default();
    let server = Server::in_order(transport, handler.clone());
    let handle = server.handle();
    let mut game = Game::new(server);
    send(&mut here, 1);
    assert!(game.run().is_pending());
    handle.graceful_shutdown();
    assert!(game.wake().is_pending());
    send(&mut here, 2);
    assert!(game.run().is_pending());
    assert_eq!(handler.calls(), [1]);
    handler.answer(1, Ok(10));
    assert!(matches!(game.wake(), Poll::Ready(Ok(()))));
    assert_eq!(receive(&mut here), Some(10));
    let mut end = pin!(here.receive_message());
    assert!(matches!(end.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(None)));
}

/// A server over a channel with room for one message, with requests whose answers its peer does not read.
async fn unread() -> (Channel<u32, u32>, tokio::task::JoinHandle<Result<(), Error>>) {
    let (mut here, there) = channel::<u32, u32>(1);
    let server = Server::in_order(there, service_fn(async |number: u32| Ok::<_, Error>(number)));
    let handle = server.handle();
    let server = tokio::spawn(server);
    for request in 0..3 {
        here.send_message(request).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!server.is_finished(), "no limit while it serves");
    handle.graceful_shutdown();
    (here, server)
}

#[tokio::test(start_paused = true)]
async fn a_graceful_shutdown_whose_peer_never_reads_its_answers_is_cut_in_time() {
    let (_here, server) = unread().await;
    let start = tokio::time::Instant::now();
    let error = server.await.unwrap().unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("10s without progress (Server::close_within)"), "{error}");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn each_answer_that_a_slow_peer_takes_is_progress() {
    let (mut here, server) = unread().await;
    for request in 0..3 {
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(here.receive_message().await.unwrap().unwrap(), request);
    }
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_closed_and_does_not_read_its_answers_is_cut_in_time() {
    let (mut here, there) = channel::<u32, u32>(1);
    let server = tokio::spawn(Server::in_order(there, service_fn(async |number: u32| Ok::<_, Error>(number))));
    for request in 0..3 {
        here.send_message(request).await.unwrap();
    }
    here.close().await.unwrap();
    let start = tokio::time::Instant::now();
    assert!(server.await.unwrap().unwrap_err().is_timeout());
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_close_does_not_count_while_the_service_works() {
    let (mut here, there) = channel::<u32, u32>(1);
    let slow = service_fn(async |number: u32| {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        Ok::<_, Error>(number)
    });
    let server = Server::in_order(there, slow);
    let handle = server.handle();
    let server = tokio::spawn(server);
    here.send_message(7).await.unwrap();
    tokio::task::yield_now().await;
    handle.graceful_shutdown();
    assert_eq!(here.receive_message().await.unwrap().unwrap(), 7);
    server.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_close_that_the_transport_of_a_server_does_not_finish_is_cut() {
    let (_here, there) = channel::<u32, u32>(1);
    let server = Server::in_order(NeverCloses(there), Handler::default());
    server.handle().graceful_shutdown();
    let start = tokio::time::Instant::now();
    assert!(server.await.unwrap_err().is_timeout());
    assert_eq!(start.elapsed().as_secs(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_close_after_a_failure_is_cut_too_and_the_failure_is_the_result() {
    let (mut here, there) = channel::<u32, u32>(1);
    let failing = service_fn(async |_: u32| Err::<u32, _>(Error::auth("not yours")));
    let server = tokio::spawn(Server::in_order(NeverCloses(there), failing));
    here.send_message(7).await.unwrap();
    assert!(server.await.unwrap().unwrap_err().is_auth());
}

#[test]
fn an_idle_server_shuts_down_at_once() {
    let (_here, there) = channel::<u32, u32>(8);
    let server = Server::in_order(there, Handler::default());
    let handle = server.handle();
    let mut game = Game::new(server);
    assert!(game.run().is_pending());
    handle.graceful_shutdown();
    assert!(matches!(game.wake(), Poll::Ready(Ok(()))));
}

#[test]
fn an_error_of_the_service_closes_the_connection_and_is_the_result() {
    let (mut here, there) = channel::<u32, u32>(8);
    let handler = Handler::default();
    let mut game = Game::new(Server::in_order(there, handler.clone()));
    (1..=2).for_each(|number| send(&mut here, number));
    assert!(game.run().is_pending());
    handler.answer(2, Err(Error::auth("not yours")));
    assert!(matches!(game.wake(), Poll::Ready(Err(error)) if error.is_auth()));
    let mut end = pin!(here.receive_message());
    assert!(matches!(end.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(None)));
}

#[test]
fn an_error_that_is_mapped_to_a_response_is_answered_and_the_connection_lives() {
    let (mut here, there) = channel::<u32, Result<u32, String>>(8);
    let half = tower::ServiceBuilder::new()
        .map_result(|answer: Result<u32, BoxError>| Ok::<_, BoxError>(answer.map_err(|error| error.to_string())))
        .service_fn(
            |number: u32| async move { if number.is_multiple_of(2) { Ok(number / 2) } else { Err("odd".into()) } },
        );
    let mut game = Game::new(Server::in_order(there, half));
    (3..=4).for_each(|number| send(&mut here, number));
    assert!(game.run().is_pending());
    assert_eq!(receive(&mut here), Some(Err("odd".to_owned())));
    assert_eq!(receive(&mut here), Some(Ok(2)));
}

#[test]
fn a_future_that_wakes_itself_for_ever_does_not_keep_the_server_from_yielding() {
    let (mut here, there) = channel::<u32, u32>(8);
    let spin = service_fn(|_: u32| {
        std::future::poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<Result<u32, Error>>::Pending
        })
    });
    let mut game = Game::new(Server::in_order(there, spin));
    send(&mut here, 1);
    assert!(game.poll().is_pending());
    assert!(game.task.take() > 0);
}

#[test]
fn answers_allocate_nothing_once_the_server_is_warm() {
    let (mut here, there) = channel::<Tagged<u32>, Tagged<u32>>(64);
    let echo = service_fn(|number: u32| std::future::ready(Ok::<_, Error>(number)));
    let mut game = Game::new(Server::as_they_finish(there, echo));
    let mut round = || {
        for tag in 0..32 {
            send(&mut here, Tagged { tag, value: 1 });
        }
        assert!(game.run().is_pending());
        assert_eq!(std::iter::from_fn(|| receive(&mut here)).count(), 32);
    };
    round();
    assert_eq!(allocation_counter::measure(round).count_total, 0);
}

#[tokio::test]
async fn a_panic_of_the_service_ends_its_connection_and_no_other() {
    let touchy = service_fn(|number: u32| async move {
        assert_ne!(number, 13, "a handler that panics");
        Ok::<_, Error>(number * 2)
    });
    let connect = || {
        let (here, there): (Channel<u32, u32>, _) = channel(8);
        (Client::in_order(here), tokio::spawn(Server::in_order(there, touchy)))
    };
    let (first, task) = connect();
    let (second, _) = connect();
    let unlucky = first.clone();
    let waiting = tokio::spawn(async move { unlucky.oneshot(13).await });
    assert!(waiting.await.unwrap().unwrap_err().is_closed());
    assert!(task.await.unwrap_err().is_panic());
    assert!(first.oneshot(1).await.unwrap_err().is_closed());
    assert_eq!(second.oneshot(21).await.unwrap(), 42);
}

#[tokio::test(start_paused = true)]
async fn slow_requests_are_answered_side_by_side() {
    let (here, there) = channel(8);
    let slow = service_fn(|seconds: u64| async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok::<_, Error>(seconds)
    });
    tokio::spawn(Server::as_they_finish(there, slow));
    let client = Client::by_tag(here);
    let start = tokio::time::Instant::now();
    let (long, short) = tokio::join!(client.clone().oneshot(20), async {
        let answer = client.clone().oneshot(5).await;
        (answer, start.elapsed())
    });
    assert_eq!(long.unwrap(), 20);
    assert_eq!(start.elapsed().as_secs(), 20);
    let (short, after) = short;
    assert_eq!((short.unwrap(), after.as_secs()), (5, 5));
}

#[tokio::test]
async fn a_service_is_made_for_each_connection_and_its_failure_is_the_result() {
    let make = service_fn(|base: u32| async move {
        match base {
            0 => Err(Error::auth("no base")),
            base => Ok(service_fn(move |number: u32| async move { Ok::<_, Error>(base + number) })),
        }
    });
    let mut clients = Vec::new();
    for base in [10, 20] {
        let (here, there) = channel(8);
        tokio::spawn(service::serve(make, base, there, InOrder));
        clients.push(Client::in_order(here));
    }
    assert_eq!(clients.pop().unwrap().oneshot(1).await.unwrap(), 21);
    assert_eq!(clients.pop().unwrap().oneshot(1).await.unwrap(), 11);
    let (_here, there) = channel::<u32, u32>(8);
    assert!(service::serve(make, 0, there, InOrder).await.unwrap_err().is_auth());
}
