use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use crate::{BoxError, Error};

pin_project! {
    /// Makes a transport of a foreign `Sink` and `Stream`, whose errors do not convert into [`Error`] or are of two
    /// types.
    ///
    /// A `Sink` and `Stream` with one error that is `Into<Error>` is a [`Transport`](crate::Transport) as it is. This
    /// adapter is for all others: it passes on each message and each poll, and converts the errors. It can be polled
    /// again after an error, as every transport can. futures' `sink_map_err`, which also converts errors, panics then.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use futures_util::{SinkExt, TryStreamExt};
    /// use tower_transport::{Error, TransportExt, channel, transport::Foreign};
    ///
    /// enum TheirError {
    ///     Gone,
    ///     Io(std::io::Error),
    /// }
    ///
    /// fn convert(error: TheirError) -> Error {
    ///     match error {
    ///         TheirError::Gone => Error::closed("the peer is gone"),
    ///         TheirError::Io(error) => error.into(),
    ///     }
    /// }
    ///
    /// # let (theirs, peer) = channel::<u32, u32>(1);
    /// # let theirs = theirs.map_err(|_| TheirError::Io(std::io::Error::other(""))).sink_map_err(|_| TheirError::Gone);
    /// // `theirs` is a sink and a stream with the error `TheirError`.
    /// let mut transport = Foreign::with(theirs, convert, convert);
    /// # drop(peer);
    /// assert!(transport.send_message(1).await.unwrap_err().is_closed());
    /// # });
    /// ```
    ///
    /// [`new`](Self::new) is for errors that implement [`std::error::Error`], and needs no function.
    pub struct Foreign<T, SinkError, StreamError = SinkError> {
        #[pin]
        inner: T,
        from_sink: fn(SinkError) -> Error,
        from_stream: fn(StreamError) -> Error,
    }
}

impl<T, SinkError, StreamError> Foreign<T, SinkError, StreamError> {
    /// Creates a transport of a sink and stream whose errors are boxed, and converted as `Error::from(BoxError)` does.
    /// The [`source`](std::error::Error::source) of such an error is the foreign error. Use [`with`](Self::with) to
    /// give errors a kind, such as [`Error::closed`], which other layers understand.
    #[must_use]
    pub fn new<Out, In>(inner: T) -> Self
    where
        T: Sink<Out, Error = SinkError> + Stream<Item = Result<In, StreamError>>,
        SinkError: Into<BoxError>,
        StreamError: Into<BoxError>,
    {
        Self::with(inner, |error| Error::from(error.into()), |error| Error::from(error.into()))
    }

    /// Creates a transport of a sink and stream whose errors are converted by two functions, which may be the same.
    #[must_use]
    pub const fn with(inner: T, from_sink: fn(SinkError) -> Error, from_stream: fn(StreamError) -> Error) -> Self {
        Self { inner, from_sink, from_stream }
    }

    accessors! {
        inner: T, "sink and stream",
        get_mut: "Its errors are not converted.",
        into_inner: ".",
    }
}

impl<T, SinkError, In, StreamError> Stream for Foreign<T, SinkError, StreamError>
where
    T: Stream<Item = Result<In, StreamError>>,
{
    type Item = Result<In, Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        this.inner.poll_next(cx).map(|item| item.map(|item| item.map_err(this.from_stream)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T, Out, SinkError, StreamError> Sink<Out> for Foreign<T, SinkError, StreamError>
where
    T: Sink<Out, Error = SinkError>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.inner.poll_ready(cx).map_err(this.from_sink)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.project();
        this.inner.start_send(message).map_err(this.from_sink)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.inner.poll_flush(cx).map_err(this.from_sink)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.inner.poll_close(cx).map_err(this.from_sink)
    }
}

debug_fields!([T: fmt::Debug, SinkError, StreamError] Foreign<T, SinkError, StreamError> { inner });
