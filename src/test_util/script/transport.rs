use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread,
};

use futures_core::Stream;
use futures_sink::Sink;
use futures_util::task::AtomicWaker;

use super::{
    difference::difference,
    steps::{Script, Step, What},
};
use crate::{Error, Message};

/// The transport of a [`Script`].
///
/// # Panics
///
/// When something else is sent than the script expects, with the difference; when it is closed too early; and when it is
/// dropped before the script's last step.
pub struct Scripted<Out = Message, In = Out> {
    shared: Arc<Shared<Out, In>>,
}

/// What a test does with a running script.
pub struct ScriptHandle<Out = Message, In = Out> {
    shared: Arc<Shared<Out, In>>,
}

struct Shared<Out, In> {
    state: Mutex<State<Out, In>>,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

struct State<Out, In> {
    steps: VecDeque<Step<Out, In>>,
    /// How many steps are behind.
    done: usize,
    /// Stalls that are released before they are reached.
    releases: usize,
    closed: bool,
    ended: bool,
}

pub(super) fn build<Out, In>(steps: VecDeque<Step<Out, In>>) -> (Scripted<Out, In>, ScriptHandle<Out, In>) {
    let state = Mutex::new(State { steps, done: 0, releases: 0, closed: false, ended: false });
    let shared = Arc::new(Shared { state, reader: AtomicWaker::new(), writer: AtomicWaker::new() });
    (Scripted { shared: shared.clone() }, ScriptHandle { shared })
}

impl<Out, In> ScriptHandle<Out, In> {
    /// Releases the stall that the script stands at, or else the next one.
    pub fn release(&self) {
        self.shared.change(|state| {
            state.releases += 1;
            state.skip_stalls();
        });
    }

    /// Appends further steps.
    pub fn append(&self, script: Script<Out, In>) {
        self.shared.change(|state| {
            state.steps.extend(script.steps);
            state.skip_stalls();
        });
        // No step was done, and still there may be something to do.
        self.shared.wake();
    }

    /// Whether every step is behind.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shared.lock().steps.is_empty()
    }
}

impl<Out, In> Shared<Out, In> {
    fn lock(&self) -> MutexGuard<'_, State<Out, In>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes both halves where a step was done: whose turn it is now, they see themselves.
    fn change<R>(&self, change: impl FnOnce(&mut State<Out, In>) -> R) -> R {
        let mut state = self.lock();
        let before = state.done;
        let output = change(&mut state);
        let moved = state.done > before;
        drop(state);
        if moved {
            self.wake();
        }
        output
    }

    fn wake(&self) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl<Out, In> State<Out, In> {
    fn next(&self) -> Option<&What<Out, In>> {
        self.steps.front().map(|step| &step.what)
    }

    fn take(&mut self) -> Option<What<Out, In>> {
        let step = self.steps.pop_front()?;
        self.done += 1;
        self.skip_stalls();
        Some(step.what)
    }

    fn skip_stalls(&mut self) {
        while self.releases > 0 && matches!(self.next(), Some(What::Stall)) {
            self.releases -= 1;
            self.steps.pop_front();
            self.done += 1;
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        match (self.closed, self.ended) {
            (true, _) => Err(Error::closed("this end of the scripted transport was closed")),
            (_, true) => Err(Error::closed("the script ended the transport")),
            _ => Ok(()),
        }
    }

    /// The error that the sink has to give now.
    fn send_failure(&mut self) -> Result<(), Error> {
        if matches!(self.next(), Some(What::FailSend(_)))
            && let Some(What::FailSend(error)) = self.take()
        {
            return Err(error);
        }
        Ok(())
    }

    fn receive(&mut self) -> Poll<Option<Result<In, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if !matches!(self.next(), Some(What::Give(_) | What::FailReceive(_) | What::End)) {
            return Poll::Pending;
        }
        Poll::Ready(match self.take() {
            Some(What::Give(message)) => Some(Ok(message)),
            Some(What::FailReceive(error)) => Some(Err(error)),
            _ => {
                self.ended = true;
                None
            }
        })
    }
}

impl<Out: PartialEq + fmt::Debug, In> State<Out, In> {
    fn ready(&mut self) -> Poll<Result<(), Error>> {
        self.send_failure()?;
        self.check_open()?;
        match self.next() {
            // With no step left it is ready, so that what is sent too much is seen.
            Some(What::Expect(_)) | None => Poll::Ready(Ok(())),
            Some(_) => Poll::Pending,
        }
    }

    fn send(&mut self, message: &Out) -> Result<(), Error> {
        self.check_open()?;
        let number = self.done + 1;
        match self.next() {
            Some(What::Expect(due)) if due == message => {}
            Some(What::Expect(due)) => {
                panic!("the script expected another message, as step {number}:\n{}", difference(due, message))
            }
            Some(_) => panic!(
                "sent without readiness, at step {number} of the script ({}): {message:?}",
                self.steps.front().map_or("", |step| &step.text)
            ),
            None => panic!("sent after the last of the script's {} steps: {message:?}", self.done),
        }
        self.take();
        Ok(())
    }

    fn flush(&mut self) -> Poll<Result<(), Error>> {
        self.send_failure()?;
        match self.next() {
            Some(What::Flush) => {
                self.take();
                Poll::Ready(Ok(()))
            }
            Some(What::Stall) if self.steps.get(1).is_some_and(|step| matches!(step.what, What::Flush)) => {
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    fn close(&mut self) -> Poll<Result<(), Error>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        self.send_failure()?;
        // A close flushes as well.
        if matches!(self.next(), Some(What::Flush)) {
            self.take();
        }
        match self.next() {
            Some(What::Close) => {
                self.take();
            }
            Some(What::Expect(due)) => panic!("closed at step {} of the script, which expects {due:?}", self.done + 1),
            // The peer has closed already, or nothing is left to do.
            None => {}
            Some(_) => return Poll::Pending,
        }
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl<Out, In> Stream for Scripted<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.shared.reader.register(cx.waker());
        self.shared.change(State::receive)
    }
}

impl<Out, In> Sink<Out> for Scripted<Out, In>
where
    Out: PartialEq + fmt::Debug,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.writer.register(cx.waker());
        self.shared.change(State::ready)
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        self.shared.change(|state| state.send(&message))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.writer.register(cx.waker());
        self.shared.change(State::flush)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.writer.register(cx.waker());
        self.shared.change(State::close)
    }
}

impl<Out, In> Drop for Scripted<Out, In> {
    fn drop(&mut self) {
        let state = self.shared.lock();
        if state.steps.is_empty() || thread::panicking() {
            return;
        }
        let rest: Vec<_> = state.steps.iter().map(|step| format!("\n  {}", step.text)).collect();
        // The handle's side shall not find the lock held, nor poisoned.
        drop(state);
        panic!("the scripted transport was dropped before the end of its script; what is left:{}", rest.concat());
    }
}

impl<Out, In> fmt::Debug for Scripted<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("left", &self.shared.lock().steps.len()).finish_non_exhaustive()
    }
}

impl<Out, In> fmt::Debug for ScriptHandle<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptHandle").field("left", &self.shared.lock().steps.len()).finish_non_exhaustive()
    }
}
