use std::time::{Duration, Instant};

use tower_transport::{
    BoxError, Message, Receiver, Sender,
    stack::{
        OptimizedBuilder, OptimizedHandle, TransportKind,
        adaptive::{AdaptiveConnector, Endpoints},
    },
};

use crate::checker::{Checker, Counts};

/// A client that numbers its messages and checks the answers.
pub(crate) struct Client {
    handle: OptimizedHandle,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    sent: u64,
    checker: Checker,
}

impl Client {
    pub(crate) async fn connect(
        stack: OptimizedBuilder,
        connector: AdaptiveConnector,
        endpoints: &Endpoints,
    ) -> Result<Self, BoxError> {
        let transport = stack.connect_with(connector, endpoints).await?;
        let handle = transport.handle();
        let (sender, receiver) = transport.split();
        Ok(Self { handle, sender, receiver, sent: 0, checker: Checker::default() })
    }

    /// Returns the transport that it is connected by.
    fn kind(&self) -> Option<TransportKind> {
        self.handle.reconnect()?.response()?.extensions.get().copied()
    }

    pub(crate) fn says(&self, what: &str, time: Duration) {
        let kind = self.kind().map(|kind| kind.to_string()).unwrap_or_default();
        println!("  {kind:<13} {:>5} ms  {what}", time.as_millis());
    }

    /// Sends `messages` messages without waiting for the answers.
    pub(crate) async fn send(&mut self, messages: u64) -> Result<(), BoxError> {
        for _ in 0..messages {
            self.sender.send(Checker::message(self.sent)).await?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Receives the next answer.
    async fn receive(&mut self) -> Result<(), BoxError> {
        loop {
            let message = self.receiver.receive().await.ok_or("the session has ended")??;
            if message.is_data() {
                self.checker.take(&message);
                return Ok(());
            }
        }
    }

    async fn settle(&mut self) -> Result<(), BoxError> {
        while self.checker.counts().received < self.sent {
            self.receive().await?;
        }
        Ok(())
    }

    /// Sends `messages` messages, 20 at a time, and receives the answers.
    pub(crate) async fn exchange(&mut self, messages: u64) -> Result<(), BoxError> {
        for _ in 0..messages / 20 {
            self.send(20).await?;
            self.settle().await?;
        }
        Ok(())
    }

    /// Sends a message without a number, and waits for its answer.
    pub(crate) async fn hears_itself(&mut self) -> Result<(), BoxError> {
        self.sender.send(Checker::hello()).await?;
        self.receiver.receive().await.ok_or("the session has ended")??;
        Ok(())
    }

    /// Continues over a network that has just become worse, and reports how long nothing arrived.
    pub(crate) async fn lives_on(&mut self, what: &str) -> Result<(), BoxError> {
        let start = Instant::now();
        self.send(50).await?;
        self.receive().await?;
        self.settle().await?;
        let time = start.elapsed();
        self.exchange(2_000).await?;
        self.says(what, time);
        Ok(())
    }

    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn counts(&self) -> Counts {
        self.checker.counts()
    }
}
