use std::{
    any::Any,
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use crate::{Error, Message, Transport};

/// A transport whose messages the checks see as numbers, whatever its types are.
pub(super) trait Port {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    fn start_send(&mut self, number: usize) -> Result<(), Error>;
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    /// `due` is the next expected number, `sent` the total.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<usize>,
        sent: usize,
    ) -> Poll<Option<Result<Arrival, Error>>>;
}

/// An incoming item.
pub(super) enum Arrival {
    /// The message with this number.
    Number(usize),
    /// A message that was not sent, in its printed form.
    Foreign(String),
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "message {number}"),
            Self::Foreign(text) => write!(f, "a message that was never sent: {text}"),
        }
    }
}

pub(super) struct Numbered<'c, T, Out, Make, Arrives> {
    transport: Pin<Box<T>>,
    make: &'c Make,
    arrives: &'c Arrives,
    out: PhantomData<fn(Out)>,
}

impl<'c, T, Out, Make, Arrives> Numbered<'c, T, Out, Make, Arrives> {
    pub(super) fn new(transport: T, make: &'c Make, arrives: &'c Arrives) -> Self {
        Self { transport: Box::pin(transport), make, arrives, out: PhantomData }
    }
}

impl<T, Out, Make, Arrives, Due> Port for Numbered<'_, T, Out, Make, Arrives>
where
    T: Transport<Out>,
    T::In: PartialEq<Due> + fmt::Debug + 'static,
    Make: Fn(usize) -> Out,
    Arrives: Fn(usize) -> Due,
{
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.transport.as_mut().poll_ready(cx).map_err(Into::into)
    }

    fn start_send(&mut self, number: usize) -> Result<(), Error> {
        self.transport.as_mut().start_send((self.make)(number)).map_err(Into::into)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.transport.as_mut().poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.transport.as_mut().poll_close(cx).map_err(Into::into)
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        due: Option<usize>,
        sent: usize,
    ) -> Poll<Option<Result<Arrival, Error>>> {
        loop {
            let message = match self.transport.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            };
            // A transport may have its own control messages: a ping, the peer's close.
            if (&message as &dyn Any).downcast_ref::<Message>().is_some_and(Message::is_control) {
                continue;
            }
            let found = due.into_iter().chain(0..sent).find(|&number| message == (self.arrives)(number));
            return Poll::Ready(Some(Ok(match found {
                Some(number) => Arrival::Number(number),
                None => Arrival::Foreign(format!("{message:?}").chars().take(200).collect()),
            })));
        }
    }
}
