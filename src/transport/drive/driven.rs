use super::{driver::Driver, queues::Queues, receiver::Receiver, sender::Sender};
use crate::transport::QueueConfig;
#[cfg(feature = "rt")]
use crate::{MaybeSend, Transport, rt};

/// The result of [`TransportExt::drive`](crate::TransportExt::drive): the two ends, and the driver that moves messages
/// between them and the transport.
///
/// Nothing moves until the driver is polled. [`spawn`](Self::spawn) spawns it; [`into_parts`](Self::into_parts) leaves
/// that to you.
#[must_use = "nothing moves until the driver is polled: call `spawn`, or spawn the driver of `into_parts`"]
pub struct Driven<T, Out, In = Out> {
    sender: Sender<Out, In>,
    receiver: Receiver<Out, In>,
    driver: Driver<T, Out, In>,
}

impl<T, Out, In> Driven<T, Out, In> {
    pub(crate) fn new(transport: T, queue: QueueConfig<Out, In>) -> Self {
        let queues = Queues::new(&queue, false);
        Self {
            sender: Sender::new(queues.clone()),
            receiver: Receiver::new(queues.clone()),
            driver: Driver::new(transport, queues, &queue),
        }
    }

    /// Spawns the driver as a task of the current tokio runtime (in a page: as a task of the page), and returns the two
    /// ends.
    ///
    /// The task ends with the transport. [`Sender::closed`] and the last item of the receiver report its error. To wait
    /// for the task, or to run the driver elsewhere, use [`into_parts`](Self::into_parts).
    ///
    /// # Panics
    ///
    /// Panics natively outside of a tokio runtime, as `tokio::spawn` does.
    #[cfg(feature = "rt")]
    #[cfg_attr(docsrs, doc(cfg(feature = "rt")))]
    pub fn spawn(self) -> (Sender<Out, In>, Receiver<Out, In>)
    where
        T: Transport<Out, In = In> + MaybeSend + 'static,
        Out: MaybeSend + 'static,
        In: MaybeSend + 'static,
    {
        self.sender.queues().drive();
        // Both ends learn how it ended, so nobody waits for the task.
        rt::detach(self.driver);
        (self.sender, self.receiver)
    }

    /// Returns the two ends, and the driver to spawn or poll.
    ///
    /// Poll the driver for as long as the ends are used. A driver that is bound to a name and forgotten (`let (sender,
    /// receiver, _driver) = ..`) compiles without a warning. As long as nobody has polled it, [`Sender::send`] in a
    /// full queue, [`Sender::flush`] and [`Receiver::receive`] wait 10 seconds at most, and return an error for which
    /// [`is_config`](crate::Error::is_config) is true. (They wait forever without the feature `rt` or, natively, in a
    /// runtime without timers.) Once the driver is dropped, both ends return an error for which
    /// [`is_closed`](crate::Error::is_closed) is true. [`spawn`](Self::spawn) leaves nothing to forget.
    #[allow(clippy::type_complexity, reason = "three things, each named")]
    pub fn into_parts(self) -> (Sender<Out, In>, Receiver<Out, In>, Driver<T, Out, In>) {
        (self.sender, self.receiver, self.driver)
    }
}

debug_fields!([T, Out, In] Driven<T, Out, In> { sender, driver });
