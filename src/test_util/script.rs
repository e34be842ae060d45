//! A transport that follows a script, for tests of the layers above it.
//!
//! It is to messages what `tokio_test::io::Builder` is to bytes. See [`Script`] for an example.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
};

use futures_core::Stream;
use futures_sink::Sink;

use crate::{Error, Message, sync::Mutex, transport::wakers::WakerPair};

/// The transport of a [`Script`].
///
/// # Panics
///
/// Panics if something else is sent than the script expects, with the difference; if it is closed too early; and if it
/// is dropped before the script's last step.
pub struct Scripted<Out = Message, In = Out> {
    play: Arc<Play<Out, In>>,
}

/// A test's handle to a running script.
pub struct ScriptHandle<Out = Message, In = Out> {
    play: Arc<Play<Out, In>>,
}

struct Play<Out, In> {
    position: Mutex<Position<Out, In>>,
    wakers: WakerPair,
}

fn build<Out, In>(steps: VecDeque<Step<Out, In>>) -> (Scripted<Out, In>, ScriptHandle<Out, In>) {
    let position = Mutex::new(Position::new(steps));
    let play = Arc::new(Play { position, wakers: WakerPair::default() });
    (Scripted { play: play.clone() }, ScriptHandle { play })
}

impl<Out, In> ScriptHandle<Out, In> {
    /// Releases the current stall of the script, or else the next one.
    pub fn release(&self) {
        self.play.change(|state| {
            state.releases += 1;
            state.skip_stalls();
        });
    }

    /// Appends further steps.
    pub fn append(&self, script: Script<Out, In>) {
        self.play.change(|state| {
            state.steps.extend(script.steps);
            state.skip_stalls();
        });
        // No step was done, and still there may be something to do.
        self.play.wakers.wake_both();
    }

    /// Returns whether every step is completed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.play.position.lock().steps.is_empty()
    }
}

impl<Out, In> Play<Out, In> {
    fn left(&self) -> usize {
        self.position.lock().steps.len()
    }

    /// Wakes both halves after a completed step; each checks whether it is its turn.
    fn change<R>(&self, change: impl FnOnce(&mut Position<Out, In>) -> R) -> R {
        let mut state = self.position.lock();
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
        self.play.wakers.reader.register(cx.waker());
        self.play.change(Position::receive)
    }
}

impl<Out, In> Sink<Out> for Scripted<Out, In>
where
    Out: PartialEq + fmt::Debug,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.play.wakers.writer.register(cx.waker());
        self.play.change(Position::ready)
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        self.play.change(|state| state.send(&message))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.play.wakers.writer.register(cx.waker());
        self.play.change(Position::flush)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.play.wakers.writer.register(cx.waker());
        self.play.change(Position::close)
    }
}

impl<Out, In> Drop for Scripted<Out, In> {
    fn drop(&mut self) {
        let state = self.play.position.lock();
        if state.steps.is_empty() || thread::panicking() {
            return;
        }
        let rest: Vec<_> = state.steps.iter().map(|step| format!("\n  {}", step.text)).collect();
        // The handle's side must not find the lock held or poisoned.
        drop(state);
        panic!("the scripted transport was dropped before the end of its script; what is left:{}", rest.concat());
    }
}

debug_fields!([Out, In] Scripted<Out, In>, |this| { left: this.play.left() });

debug_fields!([Out, In] ScriptHandle<Out, In>, |this| { left: this.play.left() });

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
    steps: VecDeque<Step<Out, In>>,
}

struct Step<Out, In> {
    what: What<Out, In>,
    /// Its printed form, created in advance, so that the transport's drop can print it without a bound.
    text: String,
}

enum What<Out, In> {
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
        build(self.steps)
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

/// The position in the script: no waker in it.
struct Position<Out, In> {
    steps: VecDeque<Step<Out, In>>,
    /// The number of completed steps.
    done: usize,
    /// The number of stalls that are released before they are reached.
    releases: usize,
    closed: bool,
    ended: bool,
}

impl<Out, In> Position<Out, In> {
    fn new(steps: VecDeque<Step<Out, In>>) -> Self {
        Self { steps, done: 0, releases: 0, closed: false, ended: false }
    }

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

    /// Returns the error that the sink must return now.
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

impl<Out: PartialEq + fmt::Debug, In> Position<Out, In> {
    fn ready(&mut self) -> Poll<Result<(), Error>> {
        self.send_failure()?;
        self.check_open()?;
        match self.next() {
            // With no step left it is ready, so that surplus messages are detected.
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

/// Returns, line by line, what was due (`-`) and what was found (`+`); common lines have neither mark.
fn difference(due: &impl fmt::Debug, found: &impl fmt::Debug) -> String {
    let (due, found) = (format!("{due:#?}"), format!("{found:#?}"));
    let (due, found): (Vec<_>, Vec<_>) = (due.lines().collect(), found.lines().collect());
    let head = due.iter().zip(&found).take_while(|(due, found)| due == found).count();
    let (due_rest, found_rest) = (&due[head..], &found[head..]);
    let tail = due_rest.iter().rev().zip(found_rest.iter().rev()).take_while(|(due, found)| due == found).count();
    let line = |sign: char| move |line: &&str| format!("{sign} {line}\n");
    due[..head]
        .iter()
        .map(line(' '))
        .chain(due_rest[..due_rest.len() - tail].iter().map(line('-')))
        .chain(found_rest[..found_rest.len() - tail].iter().map(line('+')))
        .chain(due_rest[due_rest.len() - tail..].iter().map(line(' ')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn only_the_lines_that_differ_are_marked() {
        assert_eq!(
            difference(&vec![1, 2, 3], &vec![1, 5, 6, 3]),
            "  [\n      1,\n-     2,\n+     5,\n+     6,\n      3,\n  ]\n"
        );
        assert_eq!(difference(&"a", &"b"), "- \"a\"\n+ \"b\"\n");
    }
}
