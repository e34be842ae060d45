use std::task::Context;

/// The maximum number of items that a stream yields before it lets other tasks run once.
const AT_ONCE: u16 = 1024;

/// Counts the items that a stream yields without a pause.
///
/// A peer may send messages of two bytes as fast as they are read. A task that drops them in a loop, as a close does,
/// would then never return to its executor. The sockets below do not prevent that: one read of a TCP socket brings
/// thousands of such messages, and QUIC does not take part in tokio's cooperative budget.
#[derive(Debug, Default)]
pub(crate) struct Burst(u16);

impl Burst {
    /// Returns whether it is time for other tasks. If so, the task is woken, and the stream has to return `Pending`.
    #[inline]
    pub(crate) fn is_over(&mut self, cx: &Context<'_>) -> bool {
        if self.0 < AT_ONCE {
            return false;
        }
        self.0 = 0;
        cx.waker().wake_by_ref();
        true
    }

    /// Records the outcome of a poll of the stream.
    #[inline]
    pub(crate) fn record(&mut self, has_yielded: bool) {
        self.0 = if has_yielded { self.0 + 1 } else { 0 };
    }
}
