use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::port::{Arrival, Port};
use crate::Error;

/// One end of the pair.
pub(super) struct Side<'c> {
    pub(super) port: Box<dyn Port + 'c>,
    /// The numbers that it accepted and the other end has not received.
    pub(super) in_flight: VecDeque<usize>,
    pub(super) next: usize,
}

impl<'c> Side<'c> {
    pub(super) fn new(port: Box<dyn Port + 'c>) -> Self {
        Self { port, in_flight: VecDeque::new(), next: 0 }
    }

    /// Returns the number of the next message. Each is returned once.
    pub(super) fn number(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}

/// Lets the checks use the same method as users: [`send_message`](crate::TransportExt::send_message).
impl Sink<usize> for Side<'_> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.port.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, number: usize) -> Result<(), Error> {
        self.port.start_send(number)?;
        self.in_flight.push_back(number);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.port.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.port.poll_close(cx)
    }
}

impl Stream for Side<'_> {
    type Item = Result<Arrival, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Only the bench, which polls the port, knows which message is due. This only checks whether one came.
        self.port.poll_next(cx, None, 0)
    }
}
