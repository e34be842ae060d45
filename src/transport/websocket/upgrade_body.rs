use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of a [`WebSocketService`](super::WebSocketService)'s responses: empty, or the reason of a refusal.
///
/// A service that answers other requests next to the upgrade makes its own bodies from [`Bytes`], strings or
/// `Default`.
#[derive(Clone, Debug, Default)]
pub struct UpgradeBody(Bytes);

impl From<Bytes> for UpgradeBody {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<&'static str> for UpgradeBody {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

impl From<String> for UpgradeBody {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl Body for UpgradeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.get_mut().0);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}
