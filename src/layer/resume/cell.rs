//! The session of a client between two connections, and its view from outside.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use futures_core::Stream;
use tokio::sync::watch;

use super::{
    ledger::{Ledger, Mismatch},
    replay::Budget,
    wire::{Bytes16, Hello, Welcome, Window},
};
use crate::{Error, Message, layer::stall::Patience, rt::Instant, sync::Mutex, transport::SessionMessages};

/// The outcome of a session when a connection was opened. It is in the extensions of the connector's response, and in
/// [`ResumeHandle`].
///
/// It describes what *this* end sent. The messages of the peer are in order as well: under [`Resumed`](Self::Resumed)
/// they continue without a gap or a duplicate. Under [`Fresh`](Self::Fresh) this end cannot know what it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The first connection of a session: there was nothing to resume.
    New,
    /// The session goes on. No message of either direction is lost, duplicated or out of order.
    Resumed {
        /// The number of messages that this end had accepted before and sends on this connection, because the peer
        /// lacks them.
        replayed: u64,
    },
    /// The server does not know the session any more (it expired, or the server restarted), or it could not go on. A
    /// new one begins.
    Fresh {
        /// The number of messages that this end had accepted and will not send. None of them was acknowledged, but the
        /// last ones may have reached the peer. A server that drains tells exactly which ones it has got: then none is
        /// lost, and the others are sent in the new session.
        lost: u64,
    },
}

/// The public name of a session: 128 random bits, printed in hexadecimal. It is not a secret and opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub(super) Bytes16);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// A view of a client's session from outside, for use while a driver or a reconnect layer owns the connector and its
/// transports. Clones show the same session.
#[derive(Clone, Debug, Default)]
pub struct ResumeHandle {
    pub(super) cell: Arc<SessionCell>,
}

impl ResumeHandle {
    /// Creates a handle for [`ResumeLayer::handle`](super::ResumeLayer::handle).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the session's public name, while there is a session.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        self.cell.session.lock().id
    }

    /// Returns the verdict of the last connection.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        *self.cell.verdict.borrow()
    }

    /// Returns the verdicts of the connections from now on. A reader that looks late sees only the newest.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        Verdicts { cell: self.cell.clone(), next: Box::pin(changed(self.cell.verdict.subscribe())) }
    }

    /// Returns how many messages this end has accepted that the peer has not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.cell.messages.load(Ordering::Relaxed) + self.cell.carried_messages.load(Ordering::Relaxed)
    }

    /// Returns how many bytes these messages have on the wire.
    #[must_use]
    pub fn unacknowledged_bytes(&self) -> usize {
        self.cell.bytes.load(Ordering::Relaxed) + self.cell.carried_bytes.load(Ordering::Relaxed)
    }
}

/// A stream of [`Verdict`]s that never ends. See [`ResumeHandle::verdicts`].
pub struct Verdicts {
    /// Keeps the sender of the watch alive.
    cell: Arc<SessionCell>,
    next: Pin<Box<dyn Future<Output = watch::Receiver<Option<Verdict>>> + Send + Sync>>,
}

async fn changed(mut receiver: watch::Receiver<Option<Verdict>>) -> watch::Receiver<Option<Verdict>> {
    let _ = receiver.changed().await;
    receiver
}

impl Verdicts {
    /// Waits for the next verdict. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Verdict {
        std::future::poll_fn(|cx| self.poll_verdict(cx)).await
    }

    fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
            let mut receiver = std::task::ready!(self.next.as_mut().poll(cx));
            let verdict = *receiver.borrow_and_update();
            self.next = Box::pin(changed(receiver));
            if let Some(verdict) = verdict {
                return Poll::Ready(verdict);
            }
        }
    }
}

impl Stream for Verdicts {
    type Item = Verdict;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Verdict>> {
        self.poll_verdict(cx).map(Some)
    }
}

debug_fields!(Verdicts { cell });

/// The session of a client. A transport owns its [`Ledger`] while it lives, so that a message needs no lock, and
/// returns it.
pub(super) struct SessionCell {
    /// The number of the newest connection. An older transport sees that it was superseded.
    epoch: AtomicU64,
    /// The messages and bytes without an acknowledgement, for the handles.
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// The same of the messages that wait for the next session.
    carried_messages: AtomicUsize,
    carried_bytes: AtomicUsize,
    verdict: watch::Sender<Option<Verdict>>,
    session: Mutex<Stored>,
}

#[derive(Default)]
struct Stored {
    ledger: Option<Ledger>,
    /// The session's secret.
    token: Bytes16,
    /// Wakes the transport that has the ledger.
    borrower: Option<Arc<Waker>>,
    /// There was a session, so the next one is not the first.
    is_known: bool,
    /// The current session replaced an earlier one, and the user has had no connection of it: a layer above may have
    /// refused them all. The next connection has to tell it again.
    is_unseen: bool,
    /// The reconnect layer above tells when the user has a connection; otherwise its first use does.
    is_observed: bool,
    /// The number of messages lost with earlier sessions, of which the user has yet to be told.
    lost: u64,
    /// The messages that the user of a draining server did not get. They go to the next session.
    carried: Vec<Message>,
    /// Whether the next session may send them: the layer above has sent what goes first.
    is_released: bool,
    id: Option<SessionId>,
    /// The newest connection, while it waits for the ledger.
    opening: Option<Waker>,
}

impl Default for SessionCell {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::default(),
            messages: AtomicUsize::default(),
            bytes: AtomicUsize::default(),
            carried_messages: AtomicUsize::default(),
            carried_bytes: AtomicUsize::default(),
            verdict: watch::Sender::new(None),
            session: Mutex::default(),
        }
    }
}

impl SessionCell {
    #[inline]
    pub(super) fn is_newest(&self, epoch: u64) -> bool {
        self.epoch.load(Ordering::Acquire) == epoch
    }

    /// Begins a new connection, which supersedes every older one. Returns its number.
    pub(super) fn supersede(&self) -> u64 {
        // First the number and then the wake-ups: a transport that is woken has to see that it was superseded. A
        // connection that registers after this looks at the number under the lock.
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        let mut session = self.session.lock();
        let (opening, borrower) = (session.opening.take(), session.borrower.clone());
        drop(session);
        opening.into_iter().for_each(Waker::wake);
        borrower.iter().for_each(|borrower| borrower.wake_by_ref());
        epoch
    }

    /// Returns the opening message once the older transport has returned the session.
    pub(super) fn poll_hello(&self, epoch: u64, own: Window, cx: &mut Context<'_>) -> Poll<Result<Hello, Error>> {
        // Cloned outside of the lock. A connection that is superseded now is woken by `supersede`, which takes the lock
        // after it has changed the number.
        let waker = cx.waker().clone();
        let mut session = self.session.lock();
        if !self.is_newest(epoch) {
            return Poll::Ready(Err(superseded()));
        }
        // The position in the session is only known once the older transport has stopped sending and receiving.
        if session.borrower.is_some() {
            let before = session.opening.replace(waker);
            drop(session);
            drop(before);
            return Poll::Pending;
        }
        let token = session.token;
        // Told to the server, which then does not count the end of the last connection as one without progress.
        let is_unread = session.ledger.as_ref().is_some_and(|ledger| !ledger.progress.is_read);
        let session = session.ledger.as_mut().map(|ledger| (ledger.id, token, ledger.position()));
        Poll::Ready(Ok(Hello { epoch, window: own, session, is_unread }))
    }

    /// Gives the session up because the transport that has it does not return it.
    pub(super) fn abandon(&self) {
        let mut session = self.session.lock();
        let borrower = session.borrower.take();
        if borrower.is_some() {
            // The state that was shown last: the ledger itself is with the transport that does not return it.
            session.lost += self.messages.load(Ordering::Relaxed) as u64;
            session.id = None;
            self.show_none();
        }
        drop(session);
        drop(borrower);
    }

    /// Handles the server's answer. Returns the session for the new transport, and what became of the old one.
    pub(super) fn welcomed(
        &self,
        epoch: u64,
        (own, patience): (Window, Patience),
        welcome: &Welcome,
        waker: Waker,
    ) -> Result<(Ledger, Verdict), Error> {
        // The messages of a session that is over are the user's, so they are dropped after unlocking.
        let mut over = None;
        let mut session = self.session.lock();
        if !self.is_newest(epoch) {
            return Err(superseded());
        }
        // | this end has a session | the server | |
        // |---|---|---|
        // | with the same id | resumes | resumed, if the server's position is possible and the digests agree |
        // | another, or none | resumes | an error; the session, if any, waits for the next connection |
        // | any | begins one | the old one, if any, is lost; `Fresh`, or `New` if there has been none |
        let (ledger, verdict) = match (session.ledger.take(), welcome.is_resumed) {
            (Some(mut ledger), true) if ledger.id == welcome.id => match ledger.check(&welcome.position) {
                Ok(()) => {
                    let replayed = ledger.resume(&welcome.position, welcome.window, !welcome.is_unread);
                    let verdict = match session.is_unseen {
                        true => Verdict::Fresh { lost: session.lost },
                        false => Verdict::Resumed { replayed },
                    };
                    (ledger, verdict)
                }
                // A server that lies costs this connection and not the session.
                Err(Mismatch::Impossible(error)) => {
                    session.ledger = Some(ledger);
                    return Err(error);
                }
                // The next connection asks for nothing, and begins a new session.
                Err(Mismatch::Diverged(error)) => {
                    session.lose(&ledger);
                    self.show_none();
                    drop(session);
                    return Err(error);
                }
            },
            (ledger, true) => {
                session.ledger = ledger;
                return Err(Error::protocol("resume: the server resumes a session that is not this client's"));
            }
            (ledger, false) => {
                let mut fresh = Ledger::new(welcome.id, own, welcome.window, Budget::default(), patience);
                if welcome.position != fresh.position() {
                    // As above, a server that lies does not cost the session.
                    session.ledger = ledger;
                    return Err(Error::protocol("resume: the server begins a session that is not at its beginning"));
                }
                if let Some(ledger) = ledger {
                    session.lose(&ledger);
                    over = Some(ledger);
                }
                session.token = welcome.token;
                session.is_released = false;
                session.is_unseen = std::mem::replace(&mut session.is_known, true);
                let lost = session.lost;
                (fresh, if session.is_unseen { Verdict::Fresh { lost } } else { Verdict::New })
            }
        };
        // From here on the session is lent: `poll_hello` of a newer connection waits until it comes back.
        session.borrower = Some(Arc::new(waker));
        session.id = Some(SessionId(ledger.id));
        drop(session);
        drop(over);
        self.show(&ledger);
        self.verdict.send_replace(Some(verdict));
        Ok((ledger, verdict))
    }

    /// Notes the first use of a connection: its user knows the verdict, unless a reconnect layer above tells that.
    pub(super) fn used(&self, verdict: Verdict) {
        let mut session = self.session.lock();
        if !session.is_observed {
            session.seen(if let Verdict::Fresh { lost } = verdict { lost } else { 0 });
        }
    }

    /// Shows that no message waits, because its session is over.
    fn show_none(&self) {
        self.messages.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Shows the counts to the handles.
    #[inline]
    pub(super) fn show(&self, ledger: &Ledger) {
        let (messages, bytes) = ledger.out.unacknowledged();
        self.messages.store(messages, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Shows the messages that wait for the next session.
    fn show_carried(&self, carried: &[Message]) {
        self.carried_messages.store(carried.len(), Ordering::Relaxed);
        self.carried_bytes.store(carried.iter().map(Message::len).sum(), Ordering::Relaxed);
    }

    /// Returns whether messages of an earlier session wait to be sent in this one.
    pub(super) fn carries(&self) -> bool {
        !self.session.lock().carried.is_empty()
    }

    /// Gives the messages of an earlier session to this one, if they may go. Returns whether it did.
    pub(super) fn take_carried(&self, ledger: &mut Ledger) -> bool {
        let mut session = self.session.lock();
        // Without a layer above that releases them, nothing goes first.
        if session.is_observed && !session.is_released {
            return false;
        }
        let carried = std::mem::take(&mut session.carried);
        self.show_carried(&[]);
        drop(session);
        carried.into_iter().for_each(|message| ledger.out.push(message));
        self.show(ledger);
        true
    }

    /// Takes a session back from its transport. `is_broken` says that it cannot go on.
    fn put_back(&self, mut ledger: Ledger, is_broken: bool) {
        // Not acknowledged, so the peer sends them again.
        ledger.forget_inbox();
        // A session is also broken if the same message has been tried too often (`stall.rs`).
        let is_broken = is_broken || ledger.connection_dropped(Instant::now()).is_some();
        // Compared under the lock: `abandon` takes the id away in the same step in which it counts the messages.
        let mut session = self.session.lock();
        if session.id != Some(SessionId(ledger.id)) {
            // It was abandoned and counted meanwhile.
            return;
        }
        let borrower = session.borrower.take();
        // Dropped after unlocking, as the messages and the waker are the user's.
        let mut over = None;
        let owes = ledger.out.unacknowledged().0 > 0;
        let is_ending = ledger.closing.is_some() || ledger.is_over;
        if (is_ending && !owes) || (ledger.closing.is_some() && ledger.is_closed) {
            // It ended as intended: the next session is a first one, unless the user never had this one.
            if !session.is_unseen {
                session.is_known = false;
                session.lost = 0;
            }
            session.id = None;
            over = Some(ledger);
        } else if ledger.is_left && !is_broken {
            // The peer has told exactly which messages its user got, and gives it no others.
            session.carried.extend(ledger.out.take_all());
            self.show_carried(&session.carried);
            session.is_released = false;
            session.id = None;
            over = Some(ledger);
        } else if is_ending || is_broken {
            // A close that was cut ends the session as well: no later connection sends what it owes.
            session.lose(&ledger);
            over = Some(ledger);
        } else {
            session.ledger = Some(ledger);
        }
        if over.is_some() {
            self.show_none();
        }
        let opening = session.opening.take();
        drop(session);
        drop((borrower, over));
        opening.into_iter().for_each(Waker::wake);
    }
}

impl SessionMessages for SessionCell {
    fn count(&self) -> u64 {
        let lost = self.session.lock().lost;
        lost + (self.messages.load(Ordering::Relaxed) + self.carried_messages.load(Ordering::Relaxed)) as u64
    }

    fn was_reported(&self, lost: u64) {
        let mut session = self.session.lock();
        session.is_observed = true;
        session.seen(lost);
    }

    fn release(&self) {
        self.session.lock().is_released = true;
    }

    fn give_up(&self) -> u64 {
        // A transport that still has the session counts as if it had lost it, and returns it to nobody.
        self.abandon();
        let mut session = self.session.lock();
        let over = session.ledger.take();
        if let Some(ledger) = &over {
            session.lose(ledger);
            self.show_none();
        }
        let carried = std::mem::take(&mut session.carried);
        self.show_carried(&[]);
        let lost = std::mem::take(&mut session.lost) + carried.len() as u64;
        drop(session);
        drop((over, carried));
        lost
    }
}

impl Stored {
    /// Notes that the user has a connection of the session, whose verdict reported this number of lost messages.
    fn seen(&mut self, lost: u64) {
        self.lost = self.lost.saturating_sub(lost);
        self.is_unseen = false;
    }

    /// Counts the messages of a session that cannot go on.
    fn lose(&mut self, ledger: &Ledger) {
        self.lost += ledger.out.unacknowledged().0 as u64;
        self.id = None;
    }
}

impl fmt::Debug for SessionCell {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Copied first: the writer may be the user's, and ask a handle of the session.
        let session = self.session.lock();
        let (id, is_lent) = (session.id, session.borrower.is_some());
        drop(session);
        f.debug_struct("SessionCell").field("id", &id).field("is_lent", &is_lent).finish_non_exhaustive()
    }
}

/// The error of a connection that a newer one has replaced.
pub(super) fn superseded() -> Error {
    Error::closed("resume: a newer connection has taken the session over")
}

/// A session that a transport has borrowed. It is returned whatever happens to the transport.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) ledger: Option<Ledger>,
    pub(super) cell: Arc<SessionCell>,
    pub(super) epoch: u64,
}

impl Lease {
    /// Returns the session.
    pub(super) fn end(&mut self, is_broken: bool) {
        if let Some(ledger) = self.ledger.take() {
            self.cell.put_back(ledger, is_broken);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(false);
    }
}
