use tower_layer::Layer;

use super::Queued;
use crate::{Message, Queue};

/// Puts a bounded queue before a transport. See the [module](super) for the whole story.
///
/// Each transport gets a queue of its own.
#[derive(Debug)]
pub struct QueueLayer<Out = Message, In = Out> {
    queue: Queue<Out, In>,
}

impl<Out, In> QueueLayer<Out, In> {
    /// The layer of such queues. Of the bounds, those of the inbox have no meaning here.
    #[must_use]
    pub const fn new(queue: Queue<Out, In>) -> Self {
        Self { queue }
    }
}

// Derived, it would ask the same of `Out` and `In`.
impl<Out, In> Clone for QueueLayer<Out, In> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl Default for QueueLayer {
    /// [`Queue::messages`].
    fn default() -> Self {
        Self::new(Queue::messages())
    }
}

impl<T, Out, In> Layer<T> for QueueLayer<Out, In> {
    type Service = Queued<T, Out>;

    fn layer(&self, inner: T) -> Queued<T, Out> {
        Queued::new(inner, &self.queue)
    }
}
