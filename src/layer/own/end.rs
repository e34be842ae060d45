use crate::Error;

/// How a layer ended its transport, and the errors that say so.
#[derive(Debug)]
pub(super) struct End {
    pub(super) stage: Stage,
    /// For the stream, once.
    pub(super) error: Option<Error>,
    /// For the sink, each time.
    pub(super) closed: Error,
}

/// The states of a [`LayerSink`](super::LayerSink) that is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The close message, or the close of the transport below, is on its way.
    Closing,
    /// Nothing is left to send.
    Ended,
    /// The sink alone is closed.
    SinkClosed,
}

impl End {
    pub(super) fn new(stage: Stage, error: Option<Error>, closed: Error) -> Self {
        // Whatever made the layer end the transport, it is more than the refusal of one message.
        let error = error.map(|error| if error.is_rejection() { error.into_fatal() } else { error });
        Self { stage, error, closed }
    }
}
