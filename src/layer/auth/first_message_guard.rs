use std::time::Duration;

use futures_util::{SinkExt, StreamExt};

use super::first_message::read;
use crate::{
    Error, Message, Transport,
    layer::auth::{Credentials, Oneshot, Verdict, Verify},
    rt,
};

/// For a server's transport: reads the first message, has it verified, and returns the transport together with the
/// verifier's response.
///
/// `V` is any `Service<`[`Credentials`]`>`. The response type is yours; only the error type must fit.
///
/// | limit | default | close code, and error, when it is exceeded |
/// |---|---|---|
/// | [`deadline`](Self::deadline): message and verification together | 5 s | 4401, [`is_timeout`](Error::is_timeout) |
/// | [`max_size`](Self::max_size) of the first message | 8 KiB | 1009, [`is_too_large`](Error::is_too_large) |
/// | pings and pongs before it | 16 | 1008, [`is_protocol`](Error::is_protocol) |
///
/// The size is checked when the message has arrived. The transport's own limit
/// ([`Limits::message`](crate::Limits::message)) bounds how much a peer can make this end buffer before that.
#[derive(Clone)]
pub struct FirstMessageGuard<V> {
    verifier: V,
    deadline: Duration,
    max_size: usize,
}

/// A peer that pings this often before its token does not intend to send one.
const MAX_CONTROL: usize = 16;

/// The time for a close message to a peer that may not read.
const GOODBYE: Duration = Duration::from_secs(1);

impl<V> FirstMessageGuard<V> {
    /// Creates a guard that asks `verifier`, with the default limits.
    pub const fn new(verifier: V) -> Self {
        Self { verifier, deadline: Duration::from_secs(5), max_size: 8 << 10 }
    }

    /// Sets the time within which the peer must be verified. Defaults to 5 s.
    #[must_use]
    pub const fn deadline(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }

    /// Sets the largest first message, in bytes. Defaults to 8 KiB.
    #[must_use]
    pub const fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Waits for the first message and the verifier.
    ///
    /// # Errors
    ///
    /// A refused peer has been sent a close message, and its transport is gone. The close code is 4401 for an invalid
    /// or missing token and 4403 for a token with insufficient permission; [`is_auth`](Error::is_auth) is true for both
    /// errors. It is 1013 if the verifier failed, and the error is the verifier's. The limits in the table of
    /// [`FirstMessageGuard`] have their own codes. The error contains the close frame. Returns an error for which
    /// [`is_closed`](Error::is_closed) is true if the peer left.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future drops the transport.
    pub async fn accept<T>(&self, mut transport: T) -> Result<(T, V::Response), Error>
    where
        T: Transport<Message, In = Message> + Unpin,
        V: Verify,
    {
        // One deadline for both: a peer must not get a connection's worth of time twice, and a verifier that hangs must
        // not hold strangers' connections open.
        let verified = rt::timeout(self.deadline, async {
            let credentials = self.read(&mut transport).await?;
            Oneshot::new(self.verifier.clone(), credentials).await
        });
        let error = match verified.await {
            Ok(Ok(principal)) => return Ok((transport, principal)),
            Ok(Err(error)) => error,
            Err(_) => Error::timeout(format!(
                "the peer did not authenticate within {:?} (FirstMessageGuard::deadline)",
                self.deadline
            ))
            .with_close_frame(Some(Verdict::Unauthorized.close_frame())),
        };
        // There is nobody left to tell.
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
                None => return Err(Error::closed("the peer left before it authenticated")),
            };
            match message {
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(frame) => {
                    return Err(Error::closed("the peer left before it authenticated").with_close_frame(frame));
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
                    let token = read(&message).ok_or_else(|| Error::auth("the first message is not a token"))?;
                    return Ok(Credentials::Bearer(token));
                }
            }
        }
        let frame = crate::CloseFrame::new(crate::CloseCode::POLICY, "a token was expected");
        Err(Error::protocol("the peer sent too many pings or pongs before a token").with_close_frame(Some(frame)))
    }
}

fn too_big() -> crate::CloseFrame {
    crate::CloseFrame::new(crate::CloseCode::TOO_BIG, "the first message is too large")
}

debug_fields!([V] FirstMessageGuard<V> { deadline, max_size });
