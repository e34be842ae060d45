use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

/// A task that counts how often it is woken, for tests that poll by hand.
///
/// A poll that returns `Pending` must wake its task when polling again makes sense, and should not wake it otherwise.
/// This counts both.
///
/// ```
/// use std::task::Context;
///
/// use futures_util::{FutureExt, StreamExt};
/// use tower_transport::{Message, TransportExt, channel, test_util::WakeCount};
///
/// let (mut near, mut far) = channel::<Message, Message>(8);
/// let (wakes, waker) = WakeCount::new();
/// assert!(near.poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
/// assert_eq!(wakes.get(), 0);
///
/// far.send_message(Message::text("hello")).now_or_never().unwrap()?;
/// assert_eq!(wakes.take(), 1);
/// # Ok::<(), tower_transport::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct WakeCount(AtomicUsize);

impl WakeCount {
    /// Creates a count of zero, and a waker that increments it.
    #[must_use]
    pub fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (count.clone(), Waker::from(count))
    }

    /// Returns how often the task was woken since it was created or last [taken](Self::take).
    #[must_use]
    pub fn get(&self) -> usize {
        self.0.load(SeqCst)
    }

    /// Returns how often the task was woken, and resets the count.
    pub fn take(&self) -> usize {
        self.0.swap(0, SeqCst)
    }
}

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}
