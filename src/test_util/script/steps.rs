use std::{collections::VecDeque, fmt};

use super::transport::{self, ScriptHandle, Scripted};
use crate::{Error, Message};

/// The expectations and actions of a [`Scripted`] transport, step by step.
///
/// The steps happen in order. A message that is [given](Self::give) after one that is [expected](Self::expect) comes in
/// only once that was sent, and the other way round. Until its turn has come, each side is `Pending`.
///
/// ```
/// # futures_util::FutureExt::now_or_never(async {
/// use tower_transport::{Message, TransportExt, test_util::script::Script};
///
/// let (mut transport, script) = Script::new()
///     .expect(Message::text("what time is it?"))
///     .stall()
///     .give(Message::text("late"))
///     .end()
///     .build();
///
/// transport.send_message(Message::text("what time is it?")).await?;
/// script.release();
/// assert_eq!(transport.receive_message().await.unwrap()?, Message::text("late"));
/// assert!(transport.receive_message().await.is_none());
/// # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
/// ```
pub struct Script<Out = Message, In = Out> {
    pub(super) steps: VecDeque<Step<Out, In>>,
}

pub(super) struct Step<Out, In> {
    pub(super) what: What<Out, In>,
    /// Its printed form, created in advance, so that the transport's drop can print it without a bound.
    pub(super) text: String,
}

pub(super) enum What<Out, In> {
    Expect(Out),
    Flush,
    Close,
    FailSend(Error),
    Give(In),
    FailReceive(Error),
    End,
    Stall,
}

impl<Out, In> Script<Out, In> {
    /// Creates an empty script.
    #[must_use]
    pub fn new() -> Self {
        Self { steps: VecDeque::new() }
    }

    /// Expects this message to be sent next. Until then nothing comes in.
    #[must_use]
    pub fn expect(self, message: Out) -> Self
    where
        Out: fmt::Debug,
    {
        let text = format!("expect {message:?}");
        self.then(What::Expect(message), text)
    }

    /// Expects the sink to be flushed next. After a [`stall`](Self::stall) that flush waits. (A flush that no step
    /// expects is ready at once.)
    #[must_use]
    pub fn flush(self) -> Self {
        self.then(What::Flush, "flush".into())
    }

    /// Expects the sink to be closed next. (With no step left it may be closed, too.)
    #[must_use]
    pub fn close(self) -> Self {
        self.then(What::Close, "close".into())
    }

    /// Makes the next `poll_ready` or `poll_flush` fail.
    #[must_use]
    pub fn fail_send(self, error: Error) -> Self {
        let text = format!("fail the sending: {error}");
        self.then(What::FailSend(error), text)
    }

    /// Delivers this message. Until it is received nothing can be sent.
    #[must_use]
    pub fn give(self, message: In) -> Self
    where
        In: fmt::Debug,
    {
        let text = format!("give {message:?}");
        self.then(What::Give(message), text)
    }

    /// Delivers this error.
    #[must_use]
    pub fn fail_receive(self, error: Error) -> Self {
        let text = format!("fail the receiving: {error}");
        self.then(What::FailReceive(error), text)
    }

    /// Ends the stream, and closes the sink from then on.
    #[must_use]
    pub fn end(self) -> Self {
        self.then(What::End, "end".into())
    }

    /// Stops sending and receiving until [`ScriptHandle::release`].
    #[must_use]
    pub fn stall(self) -> Self {
        self.then(What::Stall, "stall".into())
    }

    fn then(mut self, what: What<Out, In>, text: String) -> Self {
        self.steps.push_back(Step { what, text });
        self
    }

    /// Returns the transport that follows the script, and a handle for the test.
    #[must_use]
    pub fn build(self) -> (Scripted<Out, In>, ScriptHandle<Out, In>) {
        transport::build(self.steps)
    }
}

impl<Out, In> Default for Script<Out, In> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Out, In> fmt::Debug for Script<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| &step.text)).finish()
    }
}
