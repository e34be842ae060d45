use tower_layer::Layer;

use super::Coded;

/// Makes a transport of messages a transport of values. See the [module](super) for the whole story.
///
/// Each transport gets a clone of the codec, with buffers of its own.
#[derive(Clone, Debug)]
pub struct CodecLayer<C> {
    codec: C,
    close_on_bad_payload: bool,
}

impl<C> CodecLayer<C> {
    /// The layer of this codec. A bad payload is an error for its message, and the stream goes on.
    #[must_use]
    pub const fn new(codec: C) -> Self {
        Self { codec, close_on_bad_payload: false }
    }

    /// After the error of a bad payload, close the transport with
    /// [1007](crate::CloseCode::INVALID_PAYLOAD): the close message is sent and flushed, then the stream ends.
    #[must_use]
    pub fn close_on_bad_payload(mut self) -> Self {
        self.close_on_bad_payload = true;
        self
    }
}

impl<T, C: Clone> Layer<T> for CodecLayer<C> {
    type Service = Coded<T, C>;

    fn layer(&self, inner: T) -> Coded<T, C> {
        Coded::new(inner, self.codec.clone(), self.close_on_bad_payload)
    }
}
