//! Signals between a transport and the layers above it during a poll, next to its messages.
//!
//! A [`Transport`](crate::Transport) is any `Sink + Stream`, so it has no method of its own to ask whether bytes move,
//! or to close it with a code through a codec that knows no close messages. These facts travel next to the call
//! instead, as tokio's cooperative budget does: a layer that polls the transport below it reads a thread-local counter
//! before and after. Layers in between do not take part and need no support for it.
//!
//! | signal | direction | set by | read by |
//! |---|---|---|---|
//! | [`moved`] | up | a byte transport, for each read or write that makes progress | heartbeat, idle limit |
//! | [`connection_lost`] | up | a layer that goes on with another connection | `service::Client`, the driver |
//! | [`awaits_client`] | up | a session on the server whose client is away | the time limits of a close |
//! | size of a decoded message | up | the codec layer, for each value | the driver, whose inbox counts bytes |
//! | [`drains`] | up | a server's transport whose drain has started | `service::Server` |
//! | a hold of the drain | down | `service::Server`, for each poll | the same transport, which then leaves the close to it |
//! | [`close_frame`] | down | [`Sender::close`](crate::Sender::close), in `poll_close` | a transport's `poll_close` |
//!
//! A transport whose bytes move in another task (hyper's, say) counts them itself and reports the difference when it is
//! polled.
//!
//! # Cost
//!
//! Each report costs one addition to a thread-local integer. Nothing is allocated or locked.

use std::cell::{Cell, RefCell};

use crate::CloseFrame;

thread_local! {
    static MOVED: Cell<u64> = const { Cell::new(0) };
    static LOSSES: Cell<u64> = const { Cell::new(0) };
    static AWAITING: Cell<u64> = const { Cell::new(0) };
    static DRAINS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<bool> = const { Cell::new(false) };
    static DECODED: Cell<usize> = const { Cell::new(0) };
    static CLOSE_FRAME: RefCell<Option<CloseFrame>> = const { RefCell::new(None) };
}

/// Reports that `bytes` moved on the connection that is being polled, in either direction.
///
/// Call it from `poll_next`, `poll_ready`, `poll_flush` or `poll_close` of a transport, so that liveness and idle rules
/// above see a long message on a slow line as progress. A report outside of a poll has no effect.
///
/// Report incoming bytes from `poll_next`, and outgoing ones from the sink's methods if possible. The operating system
/// accepts a few outgoing bytes even if the peer is dead. The heartbeat therefore counts bytes that move in a sink's
/// method only if the sink had no room before; it always counts those that move in `poll_next`.
#[inline]
pub fn moved(bytes: usize) {
    MOVED.set(MOVED.get().wrapping_add(bytes as u64));
}

/// Reports that the connection below was lost and replaced by another one, and that messages in either direction may be
/// lost with it.
///
/// Call it from within a poll of a transport that continues. A transport that resumes without a loss reports nothing.
#[inline]
pub fn connection_lost() {
    LOSSES.set(LOSSES.get().wrapping_add(1));
}

/// Reports that the sink which is being polled waits for its client to connect again, and limits that wait itself.
///
/// The limits of a close above it, such as [`QueueConfig::close_within`](crate::QueueConfig::close_within), do not
/// count this time. Call it from a method of the sink that returns `Pending`. A transport that connects again itself
/// must not call it: nothing would limit its close then.
#[inline]
pub fn awaits_client() {
    AWAITING.set(AWAITING.get().wrapping_add(1));
}

/// Reports that the server of the transport which is being polled drains, so that the transport is to be closed.
///
/// A layer above that has work in flight finishes it and closes the transport. Call it from each poll of a transport
/// that a drain closes.
#[inline]
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a page is not a server"))]
pub fn drains() {
    DRAINS.set(DRAINS.get().wrapping_add(1));
}

/// Returns whether the layer above closes the transport itself once its work is done.
#[inline]
#[allow(dead_code, reason = "transports with a server's end look, which are features and native")]
pub(crate) fn is_held() -> bool {
    HELD.get()
}

/// Runs `poll`, a poll of the transport below, so that the transport does not close on its own account when its server
/// [drains]. The caller closes it.
#[inline]
#[allow(dead_code, reason = "the servers of calls use it, which are a feature")]
pub(crate) fn holding<R>(poll: impl FnOnce() -> R) -> R {
    /// Restores the value of an outer call, even after a panic.
    struct Restore(bool);

    impl Drop for Restore {
        fn drop(&mut self) {
            HELD.set(self.0);
        }
    }

    let _restored = Restore(HELD.replace(true));
    poll()
}

/// Reports that the value which this `poll_next` gives was decoded from a message of `bytes` bytes.
#[inline]
pub(crate) fn decoded(bytes: usize) {
    DECODED.set(bytes);
}

/// Takes what was [reported](decoded) last. Call it before a poll as well, to forget a report that nobody took.
#[inline]
pub(crate) fn take_decoded() -> usize {
    DECODED.take()
}

/// Returns the close frame that the caller of this `poll_close` asks for, if any.
///
/// A transport with a closing handshake reads it when it begins to close. If there is no frame, it closes with code
/// 1000.
#[must_use]
pub fn close_frame() -> Option<CloseFrame> {
    CLOSE_FRAME.with_borrow(Clone::clone)
}

/// Runs `poll`, a `poll_close` of the transport below, so that [`close_frame`] returns `frame` within it.
#[inline]
pub fn with_close_frame<R>(frame: Option<&CloseFrame>, poll: impl FnOnce() -> R) -> R {
    let Some(frame) = frame else { return poll() };
    let _restored = Restore(CLOSE_FRAME.replace(Some(frame.clone())));
    poll()
}

/// Restores the frame of an outer call, even after a panic.
struct Restore(Option<CloseFrame>);

impl Drop for Restore {
    fn drop(&mut self) {
        CLOSE_FRAME.set(self.0.take());
    }
}

/// A snapshot of the thread-local counters before a poll.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    moved: u64,
    losses: u64,
    awaiting: u64,
    drains: u64,
}

impl Mark {
    /// Returns a snapshot of the counters. Take it directly before a poll and query it directly after, in the same
    /// call.
    #[inline]
    #[must_use]
    pub fn now() -> Self {
        Self { moved: MOVED.get(), losses: LOSSES.get(), awaiting: AWAITING.get(), drains: DRAINS.get() }
    }

    /// Returns whether bytes [moved] since the snapshot.
    #[inline]
    #[must_use]
    pub fn has_moved(&self) -> bool {
        MOVED.get() != self.moved
    }

    /// Returns how many bytes [moved] since the snapshot.
    #[inline]
    #[must_use]
    pub fn moved(&self) -> u64 {
        MOVED.get().wrapping_sub(self.moved)
    }

    /// Returns whether a [connection was lost](connection_lost) since the snapshot.
    #[inline]
    #[must_use]
    pub fn has_lost(&self) -> bool {
        LOSSES.get() != self.losses
    }

    /// Returns whether the sink [waits for its client](awaits_client) since the snapshot.
    #[inline]
    #[must_use]
    pub fn has_awaited_client(&self) -> bool {
        AWAITING.get() != self.awaiting
    }

    /// Returns whether the transport's server [drains] since the snapshot.
    #[inline]
    #[must_use]
    pub fn has_drained(&self) -> bool {
        DRAINS.get() != self.drains
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CloseCode;

    #[test]
    fn a_mark_sees_what_was_reported_after_it_alone() {
        moved(3);
        let mark = Mark::now();
        assert!(!mark.has_moved() && !mark.has_lost());
        moved(1);
        assert!(mark.has_moved() && !mark.has_lost());
        moved(4);
        assert_eq!(mark.moved(), 5);
        connection_lost();
        assert!(mark.has_lost() && !mark.has_awaited_client());
        awaits_client();
        assert!(mark.has_awaited_client());
        assert!(!Mark::now().has_moved() && !Mark::now().has_awaited_client());
    }

    #[test]
    fn a_close_frame_is_seen_within_the_call_and_gone_after_it() {
        let frame = CloseFrame::new(CloseCode::RESTART, "new version");
        let inner = CloseFrame::new(CloseCode::AWAY, "");
        with_close_frame(Some(&frame), || {
            assert_eq!(close_frame().as_ref(), Some(&frame));
            with_close_frame(Some(&inner), || assert_eq!(close_frame().as_ref(), Some(&inner)));
            with_close_frame(None, || assert_eq!(close_frame().as_ref(), Some(&frame)));
            assert_eq!(close_frame().as_ref(), Some(&frame));
        });
        assert_eq!(close_frame(), None);
    }

    #[test]
    fn a_panic_leaves_no_close_frame_behind() {
        let frame = CloseFrame::new(CloseCode::AWAY, "");
        let panicked = std::panic::catch_unwind(|| with_close_frame(Some(&frame), || panic!("a transport's own")));
        assert!(panicked.is_err());
        assert_eq!(close_frame(), None);
    }
}
