//! The server: the body poll by poll, its channel, and both behind real HTTP servers.

mod body;
mod channel;
mod compression;
mod http;
mod injection;

use std::pin::Pin;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tower_transport::BoxError;

/// The next frame as text, if the body gives one at once.
fn frame<B>(body: &mut B) -> Option<Result<String, BoxError>>
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let frame = Pin::new(body).frame().now_or_never().expect("there is a frame");
    Some(frame?.map(|frame| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()))
}

/// The next frame, which is there and good.
fn text<B>(body: &mut B) -> String
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    frame(body).unwrap().unwrap()
}

/// Whether there is nothing to send for now.
fn is_silent<B>(body: &mut B) -> bool
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    Pin::new(body).frame().now_or_never().is_none()
}
