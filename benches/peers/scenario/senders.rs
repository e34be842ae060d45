//! 64 tasks that write 32 B messages to one connection, against one task that writes and flushes each.

use std::{future::Future, time::Instant};

use bytes::Bytes;
use cpu_time::ProcessTime;
use futures_util::SinkExt;
use tokio::{net::TcpStream, sync::mpsc};

use crate::{
    contestant::{Contestant, Library},
    loopback::{Loopback, on_one_thread, payload},
    rounds::Sample,
};

pub(crate) const TASKS: usize = 64;

/// Messages of each task, of which the first tenth is not measured.
fn share(messages: usize) -> usize {
    (messages + messages.div_ceil(10)) / TASKS
}

/// The time in which `C` receives `messages`, after a tenth of them more.
async fn measure<C, F>(messages: usize, write: impl FnOnce(TcpStream) -> F) -> Sample
where
    C: Contestant,
    F: Future<Output = ()>,
{
    let (client, server) = Loopback::bind().await.connect().await;
    let mut server = C::server(server);
    write(client).await;
    let all = share(messages) * TASKS;
    for _ in messages..all {
        assert_eq!(server.receive().await, Some(32));
    }
    let measured = all.min(messages);
    let (wall, cpu) = (Instant::now(), ProcessTime::now());
    for _ in 0..measured {
        assert_eq!(server.receive().await, Some(32));
    }
    Sample::of(wall.elapsed(), cpu.elapsed(), measured)
}

/// One task, `send` for each message.
pub(crate) fn naive<C: Contestant>(messages: usize) -> Sample {
    on_one_thread(measure::<C, _>(messages, move |io| async move {
        tokio::spawn(async move {
            let mut client = C::client(io);
            let payload = payload(32);
            for _ in 0..share(messages) * TASKS {
                client.send(&payload).await;
            }
            client.receive().await;
        });
    }))
}

/// What one writes by hand: a bounded channel into one task that feeds all there is and flushes once.
pub(crate) fn by_hand<L, C>(messages: usize) -> Sample
where
    L: Library<Message: 'static>,
    C: Contestant,
{
    on_one_thread(measure::<C, _>(messages, move |io| async move {
        let (sender, mut queue) = mpsc::channel::<L::Message>(256);
        tokio::spawn(async move {
            let mut client = L::client(io);
            while let Some(message) = queue.recv().await {
                assert!(client.feed(message).await.is_ok(), "the peer is there");
                while let Ok(message) = queue.try_recv() {
                    assert!(client.feed(message).await.is_ok(), "the peer is there");
                }
                assert!(client.flush().await.is_ok(), "the peer is there");
            }
            std::future::pending::<()>().await;
        });
        let payload = payload(32);
        spawn_writers(messages, move || {
            let (sender, payload): (_, Bytes) = (sender.clone(), payload.clone());
            async move { sender.send(L::message(&payload)).await.is_ok() }
        });
    }))
}

/// Starts the tasks; each writes its share, one `write` after the other.
fn spawn_writers<F>(messages: usize, write: impl Fn() -> F + Clone + Send + 'static)
where
    F: Future<Output = bool> + Send + 'static,
{
    for _ in 0..TASKS {
        let write = write.clone();
        tokio::spawn(async move {
            for _ in 0..share(messages) {
                assert!(write().await, "the connection is there");
            }
        });
    }
}
