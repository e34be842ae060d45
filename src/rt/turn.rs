use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{Event, MessageChannel, MessagePort};
use web_time::Instant;

/// How long messages are moved before the browser draws a frame, handles input, or runs other tasks.
const TURN: Duration = Duration::from_millis(5);

/// The number of messages that are moved without a look at the clock. A round trip alone costs no more than a counter.
const FREE: u32 = 32;

/// The number of messages between two looks at the clock.
const LOOK: u32 = 8;

/// One half of a transport, which moves messages in turns with everything else in the page.
///
/// Tasks of a page run as microtasks: the browser gets no turn until all of them wait. A half that always finds another
/// message would therefore freeze the page, and there is no budget as in a tokio task that would stop it.
///
/// All halves of a page share one turn. It begins with the first message and lasts for [`TURN`]; then they wait for an
/// event of their own, which the browser delivers after everything that was due before.
#[derive(Default)]
pub(crate) struct Turn(Rc<Waiting>);

#[derive(Default)]
struct Waiting {
    waker: Cell<Option<Waker>>,
    is_listed: Cell<bool>,
}

/// The turn of this page.
#[derive(Default)]
struct Page {
    /// The number of messages in this turn.
    moved: Cell<u32>,
    /// The end of this turn. It is set when the event that begins the next one is requested.
    end: Cell<Option<Instant>>,
    /// The halves that wait for the next turn, each once.
    waiting: RefCell<Vec<Rc<Waiting>>>,
    channel: RefCell<Option<Channel>>,
}

struct Channel {
    port: MessagePort,
    _listener: Closure<dyn FnMut(Event)>,
}

thread_local! {
    static PAGE: Page = Page::default();
}

#[allow(dead_code, reason = "which of them are used depends on the features")]
impl Turn {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Returns `Ready` if one more message may be moved in this turn, and counts it. Otherwise the task of `cx` is woken
    /// in the next turn.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        PAGE.with(|page| {
            if page.has_time() {
                return Poll::Ready(());
            }
            let replaced = self.0.waker.replace(Some(cx.waker().clone()));
            drop(replaced);
            if !self.0.is_listed.replace(true) {
                page.waiting.borrow_mut().push(self.0.clone());
            }
            Poll::Pending
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.0.waker.take());
    }
}

debug_fields!(Turn, |this| { is_waiting: this.0.is_listed.get() });

impl Page {
    fn has_time(&self) -> bool {
        let moved = self.moved.get();
        // A turn that is over stays so: its count does not change, and the clock goes on.
        if moved < FREE || moved % LOOK != 0 {
            self.moved.set(moved.wrapping_add(1));
            return true;
        }
        let now = Instant::now();
        let has_time = match self.end.get() {
            Some(end) => now < end,
            None => {
                // Without the event, turns do not end.
                if self.request_next() {
                    self.end.set(Some(now + TURN));
                }
                true
            }
        };
        self.moved.set(moved.wrapping_add(u32::from(has_time)));
        has_time
    }

    /// Requests the event that begins the next turn. Unlike a timer, it is not delayed in a hidden page.
    fn request_next(&self) -> bool {
        let mut channel = self.channel.borrow_mut();
        if channel.is_none() {
            *channel = Channel::open();
        }
        channel.as_ref().is_some_and(|channel| channel.port.post_message(&JsValue::NULL).is_ok())
    }

    fn begin_next(&self) {
        self.moved.set(0);
        self.end.set(None);
        // The executor's code runs while nothing is borrowed.
        let waiting = self.waiting.take();
        for half in &waiting {
            half.is_listed.set(false);
        }
        for waker in waiting.iter().filter_map(|half| half.waker.take()) {
            waker.wake();
        }
    }
}

impl Channel {
    fn open() -> Option<Self> {
        let channel = MessageChannel::new().ok()?;
        let listener = Closure::new(|_: Event| PAGE.with(Page::begin_next));
        channel.port1().set_onmessage(Some(listener.as_ref().unchecked_ref()));
        Some(Self { port: channel.port2(), _listener: listener })
    }
}
