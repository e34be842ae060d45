use crate::{CloseFrame, Error};

/// The text of the sink's error where the layer has none of its own.
pub(super) const CLOSED_HERE: &str = "a layer of this end closed the transport";

/// Whether a layer has ended its transport, and the errors that say so.
///
/// ```text
///           close                       closed, failed, give_up
///   Open ---------> Closing ------------------------------------> Ended
///     |                                                             ^
///     |----------------------------- abort -------------------------|
///     |
///      \-- close_sink --> SinkClosed
/// ```
///
/// `None` is open. Boxed, because most transports are open.
#[derive(Debug, Default)]
pub(super) struct Ending(Option<Box<End>>);

#[derive(Debug)]
struct End {
    stage: Stage,
    /// For the stream, once.
    error: Option<Error>,
    /// For the sink, each time.
    closed: Error,
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

impl Ending {
    #[inline]
    pub(super) const fn is_open(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn stage(&self) -> Option<Stage> {
        self.0.as_ref().map(|end| end.stage)
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<(), Error> {
        match &self.0 {
            None => Ok(()),
            Some(end) => Err(end.closed.clone()),
        }
    }

    pub(super) fn close_frame(&self) -> Option<&CloseFrame> {
        self.0.as_ref()?.closed.close_frame()
    }

    pub(super) fn enter(&mut self, stage: Stage, error: Option<Error>, closed: Error) {
        // Whatever made the layer end the transport, it is more than the refusal of one message.
        let error = error.map(|error| if error.is_rejection() { error.into_fatal() } else { error });
        self.0 = Some(Box::new(End { stage, error, closed }));
    }

    /// Ends a close that takes too long.
    pub(super) fn give_up(&mut self) {
        if let Some(end) = &mut self.0
            && end.stage == Stage::Closing
        {
            end.stage = Stage::Ended;
        }
    }

    pub(super) fn take_error(&mut self) -> Option<Error> {
        self.0.as_mut()?.error.take()
    }
}
