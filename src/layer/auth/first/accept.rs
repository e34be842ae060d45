use std::{fmt, time::Duration};

use futures_util::{SinkExt, StreamExt};

use super::form;
use crate::{
    Error, Message, Transport,
    layer::auth::{Credentials, Oneshot, Verdict, Verify},
    rt,
};

/// On a server's transport: reads the first message, has it verified, and gives the transport with what the verifier said.
///
/// `V` is any `Service<`[`Credentials`]`>`; its answer is yours, the one type that must fit is its error.
///
/// | limit | default | over it |
/// |---|---|---|
/// | [`deadline`](Self::deadline): first message and verification together | 5 s | closed with 4401, an error that [`is_timeout`](Error::is_timeout) |
/// | [`max_size`](Self::max_size) of the first message | 8 KiB | closed with 1009, an error that [`is_too_large`](Error::is_too_large) |
/// | pings and pongs ahead of it | 16 | closed with 1008, an error that [`is_protocol`](Error::is_protocol) |
///
/// The size is looked at when the message is there: what a peer can make this end hold before that is the transport's own
/// limit ([`Limits::message`](crate::Limits::message)).
#[derive(Clone)]
pub struct FirstMessageGuard<V> {
    verifier: V,
    deadline: Duration,
    max_size: usize,
}

/// Who pings so often ahead of a token does not mean to send one.
const MAX_CONTROL: usize = 16;

/// For a close message to a peer that may not read.
const GOODBYE: Duration = Duration::from_secs(1);

impl<V> FirstMessageGuard<V> {
    /// Asks `verifier`, with the default limits.
    pub const fn new(verifier: V) -> Self {
        Self { verifier, deadline: Duration::from_secs(5), max_size: 8 << 10 }
    }

    /// Sets the time until the peer must have been verified.
    #[must_use]
    pub const fn deadline(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }

    /// Sets the largest first message, in bytes.
    #[must_use]
    pub const fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Waits for the first message and the verifier.
    ///
    /// # Errors
    ///
    /// A peer that is refused has been sent a close message, and its transport is gone: 4401 for a token that is not good or not there,
    /// 4403 for one that is not enough ([`is_auth`](Error::is_auth) both), 1013 where the verifier failed (its error), and those
    /// of the table. The error has the close frame. A peer that left is [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the transport.
    pub async fn accept<T>(&self, mut transport: T) -> Result<(T, V::Response), Error>
    where
        T: Transport<Message, In = Message> + Unpin,
        V: Verify,
    {
        let verified = rt::timeout(self.deadline, async {
            let credentials = self.read(&mut transport).await?;
            Oneshot::new(self.verifier.clone(), credentials).await
        });
        let error = match verified.await {
            Ok(Ok(principal)) => return Ok((transport, principal)),
            Ok(Err(error)) => error,
            Err(_) => Error::timeout(format!("the peer did not say who it is within {:?}", self.deadline))
                .with_close_frame(Some(Verdict::Unauthorized.close_frame())),
        };
        if error.is_closed() {
            return Err(error);
        }
        let frame = error.close_frame().cloned().unwrap_or_else(|| Verdict::of(&error).close_frame());
        let goodbye = async {
            transport.send(Message::Close(Some(frame.clone()))).await?;
            transport.close().await
        };
        // A peer that does not read is cut.
        let _ = rt::timeout(GOODBYE, goodbye).await;
        Err(error.with_close_frame(Some(frame)))
    }

    async fn read<T>(&self, transport: &mut T) -> Result<Credentials, Error>
    where
        T: Transport<Message, In = Message> + Unpin,
    {
        for _ in 0..=MAX_CONTROL {
            let message = match transport.next().await {
                Some(message) => message.map_err(Into::into)?,
                None => return Err(Error::closed("the peer left before it said who it is")),
            };
            match message {
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(frame) => {
                    return Err(Error::closed("the peer left before it said who it is").with_close_frame(frame));
                }
                message if message.len() > self.max_size => {
                    return Err(Error::too_large(format!(
                        "the first message has {} bytes, over the limit of {}",
                        message.len(),
                        self.max_size
                    ))
                    .with_close_frame(Some(too_big())));
                }
                message => {
                    let token = form::read(&message).ok_or_else(|| Error::auth("the first message is no token"))?;
                    return Ok(Credentials::Bearer(token));
                }
            }
        }
        let frame = crate::CloseFrame::new(crate::CloseCode::POLICY, "a token was expected");
        Err(Error::protocol("the peer sent pings and no token").with_close_frame(Some(frame)))
    }
}

fn too_big() -> crate::CloseFrame {
    crate::CloseFrame::new(crate::CloseCode::TOO_BIG, "the first message is too large")
}

impl<V> fmt::Debug for FirstMessageGuard<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstMessageGuard")
            .field("deadline", &self.deadline)
            .field("max_size", &self.max_size)
            .finish_non_exhaustive()
    }
}
