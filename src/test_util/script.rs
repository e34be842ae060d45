//! A transport that follows a script, for the tests of what stands above it.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
};

use futures_core::Stream;
use futures_sink::Sink;

use crate::{Error, Message};

/// What a [`Scripted`] transport expects and gives, step by step.
///
/// The steps happen in their order: a message that is [given](Self::give) after one that is [expected](Self::expect) comes
/// in only once that was sent, and the other way round. Until its turn has come, each side is `Pending`.
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
    /// How it prints itself; made when it is written, so that the transport's drop can tell without a bound.
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
    /// An empty script.
    #[must_use]
    pub fn new() -> Self {
        Self { steps: VecDeque::new() }
    }

    /// This message must be sent next. Until then nothing comes in.
    #[must_use]
    pub fn expect(self, message: Out) -> Self
    where
        Out: fmt::Debug,
    {
        let text = format!("expect {message:?}");
        self.then(What::Expect(message), text)
    }

    /// The sink must be flushed next. (A flush that no step asks for is ready, too.)
    #[must_use]
    pub fn flush(self) -> Self {
        self.then(What::Flush, "flush".into())
    }

    /// The sink must be closed next. (With no step left it may be closed, too.)
    #[must_use]
    pub fn close(self) -> Self {
        self.then(What::Close, "close".into())
    }

    /// The next `poll_ready` or `poll_flush` fails.
    #[must_use]
    pub fn fail_send(self, error: Error) -> Self {
        let text = format!("fail the sending: {error}");
        self.then(What::FailSend(error), text)
    }

    /// This message comes in. Until it is received nothing can be sent.
    #[must_use]
    pub fn give(self, message: In) -> Self
    where
        In: fmt::Debug,
    {
        let text = format!("give {message:?}");
        self.then(What::Give(message), text)
    }

    /// This error comes in.
    #[must_use]
    pub fn fail_receive(self, error: Error) -> Self {
        let text = format!("fail the receiving: {error}");
        self.then(What::FailReceive(error), text)
    }

    /// The stream ends, and the sink is closed from then on.
    #[must_use]
    pub fn end(self) -> Self {
        self.then(What::End, "end".into())
    }

    /// Both directions are `Pending` until [`ScriptHandle::release`].
    #[must_use]
    pub fn stall(self) -> Self {
        self.then(What::Stall, "stall".into())
    }

    fn then(mut self, what: What<Out, In>, text: String) -> Self {
        self.steps.push_back(Step { what, text });
        self
    }

    /// The transport that follows the script, and a handle for the test.
    #[must_use]
    pub fn build(self) -> (Scripted<Out, In>, ScriptHandle<Out, In>) {
        let shared = Arc::new(Mutex::new(State {
            steps: self.steps,
            done: 0,
            releases: 0,
            closed: false,
            ended: false,
            reader: None,
            writer: None,
        }));
        (Scripted { shared: shared.clone() }, ScriptHandle { shared })
    }
}

impl<Out, In> Default for Script<Out, In> {
    fn default() -> Self {
        Self::new()
    }
}

/// The transport of a [`Script`].
///
/// # Panics
///
/// When something else is sent than the script expects, with the difference; when it is closed too early; and when it is
/// dropped before the script's last step.
pub struct Scripted<Out = Message, In = Out> {
    shared: Arc<Mutex<State<Out, In>>>,
}

/// What a test does with a running script.
pub struct ScriptHandle<Out = Message, In = Out> {
    shared: Arc<Mutex<State<Out, In>>>,
}

struct State<Out, In> {
    steps: VecDeque<Step<Out, In>>,
    /// How many steps are behind.
    done: usize,
    /// Stalls that are released before they are reached.
    releases: usize,
    closed: bool,
    ended: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<Out, In> ScriptHandle<Out, In> {
    /// Releases the stall that the script stands at, or else the next one.
    pub fn release(&self) {
        let mut state = lock(&self.shared);
        state.releases += 1;
        state.go_on();
    }

    /// Appends further steps.
    pub fn append(&self, script: Script<Out, In>) {
        let mut state = lock(&self.shared);
        state.steps.extend(script.steps);
        state.go_on();
    }

    /// Whether every step is behind.
    #[must_use]
    pub fn is_done(&self) -> bool {
        lock(&self.shared).steps.is_empty()
    }
}

impl<Out, In> State<Out, In> {
    /// Skips the stalls that are released, and wakes both halves: whose turn it is, they see themselves.
    fn go_on(&mut self) {
        while self.releases > 0 && matches!(self.next(), Some(What::Stall)) {
            self.releases -= 1;
            self.steps.pop_front();
            self.done += 1;
        }
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn next(&self) -> Option<&What<Out, In>> {
        self.steps.front().map(|step| &step.what)
    }

    fn take(&mut self) -> Option<What<Out, In>> {
        let step = self.steps.pop_front()?;
        self.done += 1;
        self.go_on();
        Some(step.what)
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

    fn wait_writer<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<Out, In> Stream for Scripted<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = lock(&self.shared);
        if state.ended {
            return Poll::Ready(None);
        }
        if !matches!(state.next(), Some(What::Give(_) | What::FailReceive(_) | What::End)) {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(match state.take() {
            Some(What::Give(message)) => Some(Ok(message)),
            Some(What::FailReceive(error)) => Some(Err(error)),
            _ => {
                state.ended = true;
                state.go_on();
                None
            }
        })
    }
}

impl<Out, In> Sink<Out> for Scripted<Out, In>
where
    Out: PartialEq + fmt::Debug,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = lock(&self.shared);
        state.send_failure()?;
        state.check_open()?;
        match state.next() {
            // With no step left it is ready, so that what is sent too much is seen.
            Some(What::Expect(_)) | None => Poll::Ready(Ok(())),
            _ => state.wait_writer(cx),
        }
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let mut state = lock(&self.shared);
        state.check_open()?;
        let number = state.done + 1;
        match state.next() {
            Some(What::Expect(due)) if *due == message => {}
            Some(What::Expect(due)) => {
                panic!("the script expected another message, as step {number}:\n{}", difference(due, &message))
            }
            Some(_) => panic!(
                "sent without readiness, at step {number} of the script ({}): {message:?}",
                state.steps.front().map_or("", |step| &step.text)
            ),
            None => panic!("sent after the last of the script's {} steps: {message:?}", state.done),
        }
        state.take();
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = lock(&self.shared);
        state.send_failure()?;
        match state.next() {
            Some(What::Flush) => {
                state.take();
                Poll::Ready(Ok(()))
            }
            Some(What::Stall) => state.wait_writer(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = lock(&self.shared);
        if state.closed {
            return Poll::Ready(Ok(()));
        }
        state.send_failure()?;
        match state.next() {
            Some(What::Close) => {
                state.take();
            }
            // A close flushes as well.
            Some(What::Flush) => {
                state.take();
                drop(state);
                return self.poll_close(cx);
            }
            Some(What::Expect(due)) => {
                panic!("closed at step {} of the script, which expects {due:?}", state.done + 1)
            }
            None => {}
            Some(_) => return state.wait_writer(cx),
        }
        state.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl<Out, In> Drop for Scripted<Out, In> {
    fn drop(&mut self) {
        let state = lock(&self.shared);
        if state.steps.is_empty() || thread::panicking() {
            return;
        }
        let rest: Vec<_> = state.steps.iter().map(|step| format!("\n  {}", step.text)).collect();
        panic!("the scripted transport was dropped before the end of its script; what is left:{}", rest.concat());
    }
}

/// Line by line, what was due (`-`) and what was found (`+`); what both share has neither.
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

impl<Out, In> fmt::Debug for Script<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| &step.text)).finish()
    }
}

impl<Out, In> fmt::Debug for Scripted<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("left", &lock(&self.shared).steps.len()).finish_non_exhaustive()
    }
}

impl<Out, In> fmt::Debug for ScriptHandle<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptHandle").field("left", &lock(&self.shared).steps.len()).finish_non_exhaustive()
    }
}
