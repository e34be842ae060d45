//! Many callers on several threads, some of which give up.

use std::{num::NonZeroUsize, time::Duration};

use tower::{Service, ServiceExt, service_fn};
use tower_transport::{
    Error, Transport, channel,
    service::{ByTag, Client, Correlate, InOrder, Server, Tagged},
};

use crate::service::support::{Buffered, Random};

/// Polls a call at most this often, then drops it.
async fn impatient<F: Future + Unpin>(mut call: F, polls: usize) -> Option<F::Output> {
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        std::pin::Pin::new(&mut call).poll(cx).map(Some)
    })
    .await
}

async fn callers<T, C>(client: Client<T, u64, u64, C>)
where
    C: Correlate<u64, u64> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
{
    let tasks: Vec<_> = (0..64u64)
        .map(|id| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let mut random = Random::new(id);
                for turn in 0..500 {
                    let number = id << 32 | turn;
                    let call = client.ready().await.unwrap().call(number);
                    let polls = if random.below(4) == 0 { random.below(3) } else { usize::MAX };
                    if let Some(answer) = impatient(call, polls).await {
                        assert_eq!(answer.unwrap(), !number);
                    }
                }
            })
        })
        .collect();
    let all = async {
        for task in tasks {
            task.await.unwrap();
        }
    };
    // A lost wake-up is a test that does not end; half a minute says so.
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("somebody waits for ever");
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn by_tag_on_four_threads_everyone_who_waits_is_answered() {
    let (here, there) = channel::<Tagged<u64>, Tagged<u64>>(16);
    let not = service_fn(|number: u64| async move {
        if number.is_multiple_of(3) {
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(!number)
    });
    tokio::spawn(Server::as_they_finish(Buffered::new(there).0, not));
    callers(Client::with_max_in_flight(Buffered::new(here).0, ByTag, NonZeroUsize::new(24).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_order_on_four_threads_everyone_who_waits_is_answered() {
    let (here, there) = channel::<u64, u64>(16);
    let not = service_fn(|number: u64| async move { Ok::<_, Error>(!number) });
    tokio::spawn(Server::in_order(Buffered::new(there).0, not));
    callers(Client::with_max_in_flight(Buffered::new(here).0, InOrder, NonZeroUsize::new(24).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_driver_on_four_threads_everyone_who_waits_is_answered() {
    let (here, there) = channel::<Tagged<u64>, Tagged<u64>>(16);
    let not = service_fn(|number: u64| async move { Ok::<_, Error>(!number) });
    let server = tokio::spawn(Server::as_they_finish(Buffered::new(there).0, not));
    let client = Client::by_tag(Buffered::new(here).0);
    let driver = tokio::spawn(client.drive());
    callers(client).await;
    driver.await.unwrap().unwrap();
    server.await.unwrap().unwrap();
}
