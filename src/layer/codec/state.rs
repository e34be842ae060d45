use crate::{CloseCode, CloseFrame, Error};

/// Where a coded transport stands.
///
/// ```text
///            bad payload,           the inner sink       it is           it is
///            to be closed           takes the close      flushed         closed
///   Open ------------------> Refusing ------------> Flushing ----> Closing ----> Ended
///     \___ a close message, or the end of the inner stream ______________________/
/// ```
///
/// A failure of the inner sink on the way to the end ends it at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Refusing,
    Flushing,
    Closing,
    Ended,
}

/// The state, and what is known about the end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) state: State,
    /// No more can be sent: there was a close message, or there will be.
    closed: bool,
    frame: Option<CloseFrame>,
}

impl End {
    pub(super) const fn new() -> Self {
        Self { state: State::Open, closed: false, frame: None }
    }

    pub(super) fn frame(&self) -> Option<&CloseFrame> {
        self.frame.as_ref()
    }

    /// The peer sent a close message.
    pub(super) fn closed_by_peer(&mut self, frame: Option<CloseFrame>) {
        *self = Self { state: State::Ended, closed: true, frame };
    }

    /// The transport is to be closed for a bad payload. The peer learns no more than that.
    pub(super) fn refuse(&mut self) {
        let frame = CloseFrame::new(CloseCode::INVALID_PAYLOAD, "a payload is not what this end expects");
        *self = Self { state: State::Refusing, closed: true, frame: Some(frame) };
    }

    /// This end closes with a frame. Returns whether no close message was sent or received before.
    pub(super) fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closed, true)
    }

    /// An error of the inner transport may know why it ended.
    pub(super) fn learn(&mut self, error: &Error) {
        if let (None, Some(frame)) = (&self.frame, error.close_frame()) {
            self.frame = Some(frame.clone());
        }
    }

    /// Whether a value may be sent.
    pub(super) fn check_open(&self) -> Result<(), Error> {
        if !self.closed {
            return Ok(());
        }
        Err(Error::closed("the transport was closed with a close message").with_close_frame(self.frame.clone()))
    }
}
