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

use super::{
    state::State,
    steps::{Script, Step},
};
use crate::{Error, Message, transport::wakers::WakerPair};

/// The transport of a [`Script`].
///
/// # Panics
///
/// Panics if something else is sent than the script expects, with the difference; if it is closed too early; and if it
/// is dropped before the script's last step.
pub struct Scripted<Out = Message, In = Out> {
    shared: Arc<Shared<Out, In>>,
}

/// A test's handle to a running script.
pub struct ScriptHandle<Out = Message, In = Out> {
    shared: Arc<Shared<Out, In>>,
}

struct Shared<Out, In> {
    state: Mutex<State<Out, In>>,
    wakers: WakerPair,
}

pub(super) fn build<Out, In>(steps: VecDeque<Step<Out, In>>) -> (Scripted<Out, In>, ScriptHandle<Out, In>) {
    let state = Mutex::new(State::new(steps));
    let shared = Arc::new(Shared { state, wakers: WakerPair::default() });
    (Scripted { shared: shared.clone() }, ScriptHandle { shared })
}

impl<Out, In> ScriptHandle<Out, In> {
    /// Releases the current stall of the script, or else the next one.
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
        self.shared.wakers.wake_both();
    }

    /// Returns whether every step is completed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shared.lock().steps.is_empty()
    }
}

impl<Out, In> Shared<Out, In> {
    fn lock(&self) -> MutexGuard<'_, State<Out, In>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> usize {
        self.lock().steps.len()
    }

    /// Wakes both halves after a completed step; each checks whether it is its turn.
    fn change<R>(&self, change: impl FnOnce(&mut State<Out, In>) -> R) -> R {
        let mut state = self.lock();
        let before = state.done;
        let output = change(&mut state);
        let moved = state.done > before;
        drop(state);
        if moved {
            self.wakers.wake_both();
        }
        output
    }
}

impl<Out, In> Stream for Scripted<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.shared.wakers.reader.register(cx.waker());
        self.shared.change(State::receive)
    }
}

impl<Out, In> Sink<Out> for Scripted<Out, In>
where
    Out: PartialEq + fmt::Debug,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.wakers.writer.register(cx.waker());
        self.shared.change(State::ready)
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        self.shared.change(|state| state.send(&message))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.wakers.writer.register(cx.waker());
        self.shared.change(State::flush)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.shared.wakers.writer.register(cx.waker());
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
        // The handle's side must not find the lock held or poisoned.
        drop(state);
        panic!("the scripted transport was dropped before the end of its script; what is left:{}", rest.concat());
    }
}

impl<Out, In> fmt::Debug for Scripted<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("left", &self.shared.left()).finish_non_exhaustive()
    }
}

impl<Out, In> fmt::Debug for ScriptHandle<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptHandle").field("left", &self.shared.left()).finish_non_exhaustive()
    }
}
