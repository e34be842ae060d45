//! Whether a page can use a connection: it has a network, and somebody looks at it.

use std::{cell::Cell, rc::Rc, sync::Arc, time::Duration};

use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{Event, EventTarget};

use super::handle::Shared;
use crate::rt::{self, Instant};

/// The least time between two attempts of a hidden page.
pub(super) const HIDDEN: Duration = Duration::from_secs(60);

/// How long a return counts. The end of a connection that was lost meanwhile is told after the page's return.
const RETURNED: Duration = Duration::from_secs(2);

/// The events by which a page stops running: it is left, and ends or waits in the cache of such pages (bfcache); or it
/// is hidden, and the browser freezes it.
const STOPS: [&str; 2] = ["pagehide", "freeze"];
/// The events by which such a page runs again.
const RUNS: [&str; 2] = ["pageshow", "resume"];

/// All events that are listened to. The page is also back once it has a network or is seen again.
const OF_THE_PAGE: [&str; 3] = ["online", "pageshow", "pagehide"];
const OF_THE_DOCUMENT: [&str; 3] = ["resume", "freeze", "visibilitychange"];

/// Listens for the page's stop and return, and wakes the tasks of a transport then. Dropping it detaches the listeners.
pub(super) struct Presence {
    is_stopped: Rc<Cell<bool>>,
    returned: Rc<Cell<Option<Instant>>>,
    listener: Closure<dyn FnMut(Event)>,
}

impl Presence {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (is_stopped, returned) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(None)));
        let listener = Closure::new({
            let (is_stopped, returned) = (is_stopped.clone(), returned.clone());
            move |event: Event| {
                let event = event.type_();
                if STOPS.contains(&event.as_str()) {
                    is_stopped.set(true);
                    shared.stop();
                    return;
                }
                if RUNS.contains(&event.as_str()) {
                    is_stopped.set(false);
                }
                // The document also tells that it is hidden now.
                if !is_stopped.get() && !rt::is_offline() && !is_hidden() {
                    returned.set(Some(Instant::now()));
                    shared.wake_both();
                }
            }
        });
        let presence = Self { is_stopped, returned, listener };
        presence.each(|target, event, listener| {
            let _ = target.add_event_listener_with_callback(event, listener);
        });
        presence
    }

    /// Returns whether the page was left or is frozen.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.get()
    }

    /// Returns whether the page came back just now. Returns it once.
    pub(super) fn take_return(&self) -> bool {
        self.returned.take().is_some_and(|at| at.elapsed() < RETURNED)
    }

    fn each(&self, call: impl Fn(&EventTarget, &str, &js_sys::Function)) {
        let listener = self.listener.as_ref().unchecked_ref();
        let page: EventTarget = js_sys::global().unchecked_into();
        OF_THE_PAGE.iter().for_each(|event| call(&page, event, listener));
        // A worker has none, and is not told.
        if let Some(document) = document() {
            OF_THE_DOCUMENT.iter().for_each(|event| call(document.unchecked_ref(), event, listener));
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.each(|target, event, listener| {
            let _ = target.remove_event_listener_with_callback(event, listener);
        });
    }
}

/// Returns whether nobody sees the page.
pub(super) fn is_hidden() -> bool {
    document().and_then(|document| rt::property(&document, "hidden")).is_some_and(|hidden| hidden == true)
}

fn document() -> Option<JsValue> {
    rt::property(&js_sys::global(), "document").filter(JsValue::is_object)
}
