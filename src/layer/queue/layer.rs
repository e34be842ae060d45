use tower_layer::Layer;

use super::Queued;
use crate::{Message, Queue};

/// A layer that puts a bounded queue in front of a transport. See the [module](super) for the complete documentation.
///
/// Each transport gets its own queue.
#[derive(Debug)]
pub struct QueueLayer<Out = Message, In = Out> {
    queue: Queue<Out, In>,
}

impl<Out, In> QueueLayer<Out, In> {
    /// Creates a layer with such queues. The inbox limits have no effect here.
    #[must_use]
    pub const fn new(queue: Queue<Out, In>) -> Self {
        Self { queue }
    }
}

// A derived impl would require the same of `Out` and `In`.
impl<Out, In> Clone for QueueLayer<Out, In> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl Default for QueueLayer {
    /// Returns a layer with [`Queue::messages`].
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
