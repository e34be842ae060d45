use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::transport::sse::SseDuplexBody;

/// The body of a [`SessionService`](super::SessionService)'s responses: empty, a sentence, or the event stream of a
/// session.
#[derive(Debug, Default)]
pub struct SessionBody(Kind);

#[derive(Debug)]
enum Kind {
    Sentence(Full<Bytes>),
    Events(SseDuplexBody),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Sentence(Full::default())
    }
}

impl SessionBody {
    pub(super) fn sentence(text: &'static str) -> Self {
        Full::from(text).into()
    }
}

impl From<Full<Bytes>> for SessionBody {
    fn from(body: Full<Bytes>) -> Self {
        Self(Kind::Sentence(body))
    }
}

impl From<SseDuplexBody> for SessionBody {
    fn from(body: SseDuplexBody) -> Self {
        Self(Kind::Events(body))
    }
}

impl Body for SessionBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Kind::Sentence(body) => Pin::new(body).poll_frame(cx),
            Kind::Events(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Sentence(body) => body.is_end_stream(),
            Kind::Events(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Sentence(body) => body.size_hint(),
            Kind::Events(body) => body.size_hint(),
        }
    }
}
