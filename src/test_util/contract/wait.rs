//! How a check waits: for a wake-up, for other tasks, and not forever.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use atomic_waker::AtomicWaker;

/// How often a check that cannot go on yields to other tasks before it gives up. In memory nothing needs more than a
/// few turns; on a machine without a runtime this takes some milliseconds.
const TURNS: usize = 1 << 16;

type Timer = Pin<Box<dyn Future<Output = ()>>>;

/// When a check that cannot go on gives up.
#[derive(Clone, Default)]
pub(super) enum Patience {
    /// After [`TURNS`].
    #[default]
    Turns,
    /// When the user's future is ready.
    Timer(Rc<dyn Fn() -> Timer>),
}

impl Patience {
    pub(super) fn timer<F>(make: impl Fn() -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::Timer(Rc::new(move || Box::pin(make())))
    }

    /// Starts the patience.
    pub(super) fn start(&self) -> Running {
        match self {
            Self::Turns => Running::Turns(TURNS),
            Self::Timer(make) => Running::Timer(make()),
        }
    }
}

pub(super) enum Running {
    Turns(usize),
    Timer(Timer),
}

impl Running {
    /// Ready when it is over. Otherwise the task will be polled again.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Turns(0) => Poll::Ready(()),
            Self::Turns(left) => {
                *left -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Timer(timer) => timer.as_mut().poll(cx),
        }
    }
}

/// Yields to other tasks once.
pub(super) async fn give_way() {
    let mut gave = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A waker that records whether it was woken, and passes the wake-up on to the task of the check.
#[derive(Default)]
pub(super) struct WakeFlag {
    is_woken: AtomicBool,
    task: AtomicWaker,
}

impl WakeFlag {
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let flag = Arc::new(Self::default());
        (flag.clone(), Waker::from(flag))
    }

    /// Returns whether it was woken since the last call; if not, `cx` is woken when it is.
    pub(super) fn was_woken(&self, cx: &Context<'_>) -> bool {
        self.task.register(cx.waker());
        self.is_woken.swap(false, Ordering::AcqRel)
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread, without a runtime: enough for in-memory transports.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}
