//! Both ends of a conversation, each in one of the ways that users have.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use tokio::sync::Barrier;
use tower_transport::{Error, Message, QueueConfig, TransportExt};

use crate::mixed::{messages::Said, stack::Boxed};

/// How an end is used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// One task that sends and receives in turn.
    Alone,
    /// Two halves without a task, in two tasks.
    Split,
    /// A driver.
    Driven,
}

pub(crate) fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Alone), Just(Way::Split), Just(Way::Driven)]
}

/// The messages of one end, and whether it flushes after each.
pub(crate) type Script = Vec<(Said, bool)>;

/// The script of one end.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) way: Way,
    pub(crate) says: Script,
    pub(crate) hears: Vec<Message>,
    pub(crate) both_are_done: Arc<Barrier>,
    /// Whether it is the one to close, with a last message that nobody flushed.
    pub(crate) closes: bool,
    /// Whether the link may be cut even then: what was on its way is lost, since nobody comes back after a close.
    pub(crate) may_be_cut: bool,
}

pub(crate) fn last() -> Message {
    Message::text("that was it")
}

type Incoming = Option<Result<Message, Error>>;

impl Part {
    /// Checks one item of the stream against the next that is due. Whether that was the last.
    fn hear(&self, heard: &mut usize, item: Incoming) -> bool {
        let name = self.name;
        match item {
            Some(Ok(message)) if !message.is_data() => {}
            Some(Ok(message)) => {
                let Some(due) = self.hears.get(*heard) else {
                    panic!("{name} heard one too many: {:?}", Said(message))
                };
                assert_eq!(Said(message), Said(due.clone()), "{name} heard another than number {heard}");
                *heard += 1;
            }
            Some(Err(error)) => panic!("{name}, after {heard} messages: {error:?}"),
            None => panic!("{name}: the end after {heard} of {} messages", self.hears.len()),
        }
        *heard == self.hears.len()
    }

    /// After the peer has closed: its last message, and the end.
    fn hear_end(&self, has_last: &mut bool, item: Incoming) -> bool {
        match item {
            Some(Ok(message)) if message.is_data() => {
                assert!(!*has_last && message == last(), "{}: after the last message {message:?}", self.name);
                *has_last = true;
            }
            Some(Ok(_)) => {}
            Some(Err(error)) if self.may_be_cut && error.is_closed() => return true,
            Some(Err(error)) => panic!("{}: an error for an end: {error:?}", self.name),
            None => {
                assert!(*has_last, "{}: the last message is missing", self.name);
                return true;
            }
        }
        false
    }

    /// A close that is cut reports that the last message may be lost with it.
    fn check_close(&self, closed: Result<(), Error>) {
        match closed {
            Err(error) if !(self.may_be_cut && error.is_closed()) => panic!("{}: {error:?}", self.name),
            _ => {}
        }
    }

    /// Plays the part to its end.
    pub(crate) async fn play(self, transport: Boxed) {
        match self.way {
            Way::Alone => self.alone(transport).await,
            Way::Split => self.split(transport).await,
            Way::Driven => self.driven(transport).await,
        }
    }

    async fn alone(self, mut transport: Boxed) {
        let mut says = self.says.iter().peekable();
        let (mut heard, mut flushes, mut is_said) = (0, false, false);
        // One task that reads whenever it cannot write.
        poll_fn(|cx| {
            while !is_said {
                if flushes || says.peek().is_none() {
                    let Poll::Ready(flushed) = transport.poll_flush_unpin(cx) else { break };
                    flushed.unwrap();
                    is_said = says.peek().is_none();
                    flushes = false;
                } else {
                    let Poll::Ready(ready) = transport.poll_ready_unpin(cx) else { break };
                    ready.unwrap();
                    if let Some((Said(message), flush)) = says.next() {
                        transport.start_send_unpin(message.clone()).unwrap();
                        flushes = *flush;
                    }
                }
            }
            while let Poll::Ready(item) = transport.poll_next_unpin(cx) {
                self.hear(&mut heard, item);
            }
            if is_said && heard == self.hears.len() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.wait(&mut heard, &mut transport).await;
        if self.closes {
            transport.feed(last()).await.unwrap();
            self.check_close(transport.close().await);
            while transport.next().await.is_some() {}
        } else {
            let mut has_last = false;
            while !self.hear_end(&mut has_last, transport.next().await) {}
            let _ = transport.close().await;
        }
    }

    /// The peer may still need what only this end's polling does.
    async fn wait<S>(&self, heard: &mut usize, stream: &mut S)
    where
        S: futures_util::Stream<Item = Result<Message, Error>> + Unpin,
    {
        let mut done = Box::pin(self.both_are_done.wait());
        loop {
            tokio::select! {
                biased;
                _ = &mut done => break,
                item = stream.next() => { self.hear(heard, item); }
            }
        }
    }

    async fn split(self, transport: Boxed) {
        let (mut sink, mut stream) = TransportExt::into_split(transport);
        let says = self.says.clone();
        let name = self.name;
        let saying = tokio::spawn(async move {
            for (Said(message), flush) in says {
                sink.feed(message).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                if flush {
                    sink.flush().await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                }
            }
            sink.flush().await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            sink
        });
        let mut heard = 0;
        while heard < self.hears.len() {
            self.hear(&mut heard, stream.next().await);
        }
        let mut saying = saying;
        let mut sink = loop {
            tokio::select! {
                sink = &mut saying => break sink.unwrap(),
                item = stream.next() => { self.hear(&mut heard, item); }
            }
        };
        self.wait(&mut heard, &mut stream).await;
        if self.closes {
            let closing = tokio::spawn(async move {
                sink.feed(last()).await.unwrap();
                let closed = sink.close().await;
                (sink, closed)
            });
            while stream.next().await.is_some() {}
            self.check_close(closing.await.unwrap().1);
        } else {
            let mut has_last = false;
            while !self.hear_end(&mut has_last, stream.next().await) {}
            let _ = sink.close().await;
        }
    }

    async fn driven(self, transport: Boxed) {
        let (mut sender, mut receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
        let driving = tokio::spawn(driver);
        let says = self.says.clone();
        let saying = tokio::spawn(async move {
            for (Said(message), flush) in says {
                sender.send(message).await.unwrap();
                if flush {
                    sender.flush().await.unwrap();
                }
            }
            sender.flush().await.unwrap();
            sender
        });
        let mut heard = 0;
        while heard < self.hears.len() {
            self.hear(&mut heard, receiver.receive().await);
        }
        let sender = saying.await.unwrap();
        self.both_are_done.wait().await;
        if self.closes {
            sender.send(last()).await.unwrap();
            drop(sender);
            while receiver.receive().await.is_some() {}
        } else {
            let mut has_last = false;
            while !self.hear_end(&mut has_last, receiver.receive().await) {}
            drop(sender);
        }
        drop(receiver);
        let _ = driving.await.unwrap();
    }
}

/// Virtual time for what would otherwise hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it hangs") })
}
