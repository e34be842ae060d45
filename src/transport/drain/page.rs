use std::task::{Context, Poll};

use crate::{CloseFrame, Error, Message};

/// No value: a page is not a server, and no drain ends its connections.
#[derive(Debug)]
pub(crate) enum Member {}

impl Member {
    #[cfg(feature = "webtransport")]
    pub(crate) fn wrote(&mut self) {
        match *self {}
    }

    pub(crate) fn cut(&self) -> Option<Error> {
        match *self {}
    }

    pub(crate) fn frame(&self) -> Option<CloseFrame> {
        match *self {}
    }

    pub(crate) fn is_quiet(&mut self) -> bool {
        match *self {}
    }

    pub(crate) fn take_notice(&mut self) -> Option<Message> {
        match *self {}
    }

    pub(crate) fn poll_reader(&mut self, _: &mut Context<'_>) -> Option<CloseFrame> {
        match *self {}
    }

    pub(crate) fn reader_waits(&mut self, _: &Context<'_>) -> bool {
        match *self {}
    }

    pub(crate) fn poll_writer(&self) -> Option<CloseFrame> {
        match *self {}
    }

    pub(crate) fn writer_waits<T>(&mut self, _: &Poll<T>, _: &Context<'_>) -> bool {
        match *self {}
    }
}
