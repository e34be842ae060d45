use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{ReconnectHandle, ReconnectLayer, core::Core, watch::Shared};
use crate::{
    Connect, Error, Transport,
    transport::{payload::Payload, wakers::Half},
};

pin_project! {
    /// A transport over a connector, connected again and again: what [`ReconnectLayer`] makes.
    ///
    /// `Sink<Out>`, and a `Stream` of `Result<In, Error>`, as the connector's transports are. Nothing happens unless one of
    /// them is polled. See the [module](super) for the whole story.
    #[project = Parts]
    pub struct Reconnect<C, Out = crate::Message>
    where
        C: Connect,
    {
        pub(super) connector: C,
        #[pin]
        pub(super) link: Link<C::Future, C::Transport>,
        pub(super) core: Core<Out>,
    }
}

pin_project! {
    /// What there is of a connection. The future of the connect is held in place, like the transport that it gives.
    #[project = LinkParts]
    pub(super) enum Link<F, T> {
        Down,
        Dialling {
            #[pin]
            future: F,
        },
        Up {
            #[pin]
            transport: T,
        },
    }
}

impl<C: Connect, Out> Reconnect<C, Out> {
    pub(super) fn new(connector: C, layer: ReconnectLayer<Out>, shared: Arc<Shared>) -> Self {
        Self { connector, link: Link::Down, core: Core::new(layer, shared) }
    }

    /// What can be seen and asked of this transport from elsewhere.
    #[must_use]
    pub fn handle(&self) -> ReconnectHandle {
        ReconnectHandle { shared: self.core.shared.clone() }
    }

    /// The transport of the present connection, if there is one.
    #[must_use]
    pub fn connection(&self) -> Option<&C::Transport> {
        match &self.link {
            Link::Up { transport } => Some(transport),
            _ => None,
        }
    }

    /// The connector.
    #[must_use]
    pub fn get_ref(&self) -> &C {
        &self.connector
    }

    /// The connector. What is changed there counts from the next attempt on.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.connector
    }

    /// The connector; the connection and what waits for one are dropped, and counted as lost.
    #[must_use]
    pub fn into_inner(self) -> C {
        self.connector
    }
}

impl<C, Out, In> Stream for Reconnect<C, Out>
where
    C: Connect<Transport: Transport<Out, In = In>>,
    Out: 'static,
    In: 'static,
{
    type Item = Result<In, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.as_mut().project();
        if this.core.is_steady()
            && this.core.notices.is_empty()
            && let LinkParts::Up { transport } = this.link.project()
        {
            return match transport.poll_next(cx) {
                Poll::Ready(Some(Ok(message))) if Payload::of().close_message(&message).is_none() => {
                    Poll::Ready(Some(Ok(message)))
                }
                polled => self.read_rare(Some(polled), cx),
            };
        }
        self.read_rare(None, cx)
    }
}

/// What the stream of the connection gives.
type Polled<C, Out> = Poll<
    Option<
        Result<
            <<C as Connect>::Transport as Transport<Out>>::In,
            <<C as Connect>::Transport as Transport<Out>>::TransportError,
        >,
    >,
>;

impl<C, Out, In> Reconnect<C, Out>
where
    C: Connect<Transport: Transport<Out, In = In>>,
    Out: 'static,
    In: 'static,
{
    /// `poll_next` where it is not the connection's alone, out of the way of where it is.
    #[cold]
    #[inline(never)]
    fn read_rare(
        self: Pin<&mut Self>,
        polled: Option<Polled<C, Out>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<In, Error>>> {
        self.project().poll_item(polled, cx)
    }
}

impl<C, Out, In> Parts<'_, C, Out>
where
    C: Connect<Transport: Transport<Out, In = In>>,
    Out: 'static,
    In: 'static,
{
    /// `poll_next` where it is not the connection's alone. `polled` is what that said, if it was asked.
    fn poll_item(
        &mut self,
        mut polled: Option<Polled<C, Out>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<In, Error>>> {
        loop {
            let item = match polled.take() {
                Some(polled) => polled,
                None => match self.poll_reading(cx) {
                    Poll::Ready(true) => {
                        let LinkParts::Up { transport } = self.link.as_mut().project() else {
                            return Poll::Ready(None);
                        };
                        transport.poll_next(cx)
                    }
                    Poll::Ready(false) => return Poll::Ready(self.core.last_word().map(Err)),
                    Poll::Pending => return Poll::Pending,
                },
            };
            match item {
                Poll::Ready(Some(Ok(message))) => match Payload::of().close_message(&message) {
                    None => return Poll::Ready(Some(Ok(message))),
                    Some(frame) => {
                        let frame = frame.cloned();
                        if self.closed_by_peer(frame, cx) {
                            return Poll::Ready(Some(Ok(message)));
                        }
                    }
                },
                Poll::Ready(Some(Err(error))) => {
                    if let Some(error) = self.failed_to_read(error.into()) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Poll::Ready(None) => self.read_to_the_end(),
                Poll::Pending => {
                    self.core.shared.register(Half::Reader, cx);
                    // What was asked for before that did not wake this task.
                    if !self.core.shared.has_command() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Whether there is a connection to read from (true), or only a last word, if any.
    fn poll_reading(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.core.notices.is_empty() {
            return Poll::Ready(false);
        }
        if self.core.is_steady() {
            return Poll::Ready(true);
        }
        let up = self.poll_up(Half::Reader, cx);
        up.map(|is_up| is_up && !self.core.end.read && self.core.notices.is_empty())
    }
}

impl<C, Out> fmt::Debug for Reconnect<C, Out>
where
    C: Connect + fmt::Debug,
    C::Transport: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconnect")
            .field("connector", &self.connector)
            .field("connection", &self.connection())
            .field("core", &self.core)
            .finish()
    }
}
