//! The client's side of the opening exchange.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    ResumedTransport, Verdict,
    home::Home,
    layer::Config,
    wire::{self, Own, Read, Welcome},
};
use crate::{Error, Message, Transport, rt::Timer, transport::wakers::WakerPair};

/// How many control messages may come before the answer.
const PINGS: usize = 16;

#[derive(Debug)]
pub(super) struct Opening<T> {
    /// The connection, until the session has it.
    link: Option<T>,
    config: Config,
    home: Arc<Home>,
    epoch: u64,
    step: Step,
    deadline: Timer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begin,
    /// An older transport has the session.
    Fetch,
    Flush,
    Wait {
        pings: usize,
    },
}

impl<T> Opening<T> {
    pub(super) fn new(link: T, config: Config, home: Arc<Home>) -> Self {
        Self { link: Some(link), config, home, epoch: 0, step: Step::Begin, deadline: Timer::new() }
    }
}

impl<T: Transport<Message, In = Message> + Unpin> Opening<T> {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(ResumedTransport<T>, Verdict), Error>> {
        if self.step == Step::Begin {
            // From now on, for the older transport was good until there is a newer one.
            self.epoch = self.home.fence();
            self.deadline.set(self.config.deadline);
            self.step = Step::Fetch;
        }
        match self.poll_exchange(cx) {
            Poll::Ready(Ok(welcome)) => Poll::Ready(self.finish(&welcome)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(self.deadline.poll(cx));
                Poll::Ready(Err(self.late()))
            }
        }
    }

    fn late(&self) -> Error {
        let limit = self.config.deadline;
        if self.step == Step::Fetch {
            self.home.abandon();
            return Error::timeout(format!(
                "resume: an older transport of the session was neither polled nor dropped within {limit:?} \
                 (ResumeLayer::deadline); the next connection begins a new session"
            ));
        }
        Error::timeout(format!("resume: the server did not open the session within {limit:?} (ResumeLayer::deadline)"))
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<Welcome, Error>> {
        let Some(link) = &mut self.link else { return Poll::Pending };
        let mut link = Pin::new(link);
        loop {
            match self.step {
                Step::Begin | Step::Fetch => {
                    let hello = ready!(self.home.poll_hello(self.epoch, self.config.window, cx))?;
                    // The first place on a connection is there at once, or soon: asked again, the session is still home.
                    ready!(link.as_mut().poll_ready(cx)).map_err(Into::into)?;
                    link.as_mut().start_send(Own::Hello(hello).into_message()).map_err(Into::into)?;
                    self.step = Step::Flush;
                }
                Step::Flush => {
                    ready!(link.as_mut().poll_flush(cx)).map_err(Into::into)?;
                    self.step = Step::Wait { pings: 0 };
                }
                Step::Wait { pings } => match ready!(link.as_mut().poll_next(cx)) {
                    Some(message) => match message.map_err(Into::into)? {
                        Message::Close(frame) => {
                            return Poll::Ready(Err(Error::closed(
                                "resume: the server closed instead of opening a session",
                            )
                            .with_close_frame(frame)));
                        }
                        Message::Ping(_) | Message::Pong(_) if pings < PINGS => {
                            self.step = Step::Wait { pings: pings + 1 };
                        }
                        message => return Poll::Ready(welcome(message)),
                    },
                    None => {
                        return Poll::Ready(Err(Error::closed(
                            "resume: the connection ended before the session was opened",
                        )));
                    }
                },
            }
        }
    }

    fn finish(&mut self, welcome: &Welcome) -> Result<(ResumedTransport<T>, Verdict), Error> {
        let Some(link) = self.link.take() else {
            return Err(Error::closed("resume: the connection was opened already"));
        };
        let (halves, both) = WakerPair::new();
        let (core, verdict) =
            self.home.welcomed(self.epoch, (self.config.window, self.config.max_stalled), welcome, both)?;
        let transport = ResumedTransport::new(link, halves, core, self.home.clone(), self.epoch, self.config.ack_delay);
        Ok((transport, verdict))
    }
}

fn welcome(message: Message) -> Result<Welcome, Error> {
    match wire::read(message)? {
        Read::Own(Own::Welcome(welcome)) => Ok(welcome),
        _ => Err(Error::protocol(
            "resume: the server's first message is not the answer of a session: it does not use a SessionStore",
        )),
    }
}
