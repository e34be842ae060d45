use std::{collections::VecDeque, fmt, marker::PhantomData};

use super::frame::Frame;
use crate::Error;

/// The wire of calls: how the [`Frame`]s of two peers travel as messages of their transport.
///
/// [`Frames`] sends the frames as they are. [`JsonRpc`](super::JsonRpc) speaks JSON-RPC 2.0. Implement the trait for a
/// protocol of your own. Its methods run within a poll of the [`Peer`](super::Peer), so they must not block.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a protocol of calls",
    note = "`Frames` and `JsonRpc` are; for a wire of your own, implement `Protocol` for your own type"
)]
pub trait Protocol {
    /// A request that this end sends.
    type Request;
    /// An answer that this end receives.
    type Response;
    /// A request that this end receives.
    type InRequest;
    /// An answer that this end sends.
    type InResponse;
    /// An error of the application, in both directions.
    type Failure;
    /// The outgoing message of the transport.
    type Out;
    /// The incoming message of the transport.
    type In;

    /// Whether credit is told on this wire. Without it, a stream of answers ends with an error once more items wait
    /// than the window allows, and otherwise the connection does, whose peer breaks the protocol.
    const HAS_CREDIT: bool = true;

    /// Makes a message of a frame. `None` sends nothing: the frame has no place in this protocol, or waits for others
    /// (a batch).
    ///
    /// # Errors
    ///
    /// An error ends the call that the frame belongs to; the connection continues.
    fn encode(&mut self, frame: OutFrame<Self>) -> Result<Option<Self::Out>, Error>;

    /// Takes the frames of a message, and answers at once what the protocol itself has to answer.
    ///
    /// # Errors
    ///
    /// An error ends the connection.
    fn decode(&mut self, message: Self::In, decoded: &mut Decoded<Self>) -> Result<(), Error>;

    /// Takes back the last message, because the transport has rejected it: it is too large, say. If it answered a call
    /// of the peer, a [`Frame::Rejected`] for this call follows.
    fn take_back(&mut self) {}

    /// Forgets the calls of a connection that was lost, because the transport goes on with another one.
    fn connection_lost(&mut self) {}
}

/// A frame that leaves.
pub type OutFrame<P> = Frame<<P as Protocol>::Request, <P as Protocol>::InResponse, <P as Protocol>::Failure>;

/// A frame that arrives.
pub type InFrame<P> = Frame<<P as Protocol>::InRequest, <P as Protocol>::Response, <P as Protocol>::Failure>;

/// The result of [`Protocol::decode`]: frames for this end, and messages of the protocol's own that go back.
pub struct Decoded<P: Protocol + ?Sized> {
    pub(super) frames: VecDeque<InFrame<P>>,
    pub(super) replies: VecDeque<P::Out>,
}

impl<P: Protocol + ?Sized> Decoded<P> {
    /// Creates an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { frames: VecDeque::new(), replies: VecDeque::new() }
    }

    /// Adds a frame.
    pub fn frame(&mut self, frame: InFrame<P>) {
        self.frames.push_back(frame);
    }

    /// Adds a message that goes back to the peer ahead of all others: an error that belongs to no call, say. The peer
    /// is not read from while 64 of them wait, so that a peer that never reads its own costs no memory.
    pub fn reply(&mut self, message: P::Out) {
        self.replies.push_back(message);
    }

    /// Takes the next frame.
    pub fn next_frame(&mut self) -> Option<InFrame<P>> {
        self.frames.pop_front()
    }

    /// Takes the next reply.
    pub fn next_reply(&mut self) -> Option<P::Out> {
        self.replies.pop_front()
    }
}

impl<P: Protocol + ?Sized> Default for Decoded<P> {
    fn default() -> Self {
        Self::new()
    }
}

debug_fields!([P: Protocol + ?Sized] Decoded<P>, |this| { frames: this.frames.len(), replies: this.replies.len() });

/// The crate's own wire of calls: the messages of the transport are the [`Frame`]s, which its codec encodes.
///
/// `Req` and `Res` are the requests of this end and their answers, `InReq` and `InRes` those of the other end, and `F`
/// is the application's error in both directions. Without the last two, both ends speak the same language.
pub struct Frames<Req, Res, F, InReq = Req, InRes = Res>(Marker<Req, Res, F, InReq, InRes>);

/// The types, without their auto traits.
type Marker<Req, Res, F, InReq, InRes> = PhantomData<fn() -> (Req, Res, F, InReq, InRes)>;

impl<Req, Res, F, InReq, InRes> Frames<Req, Res, F, InReq, InRes> {
    /// Creates the protocol.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<Req, Res, F, InReq, InRes> Protocol for Frames<Req, Res, F, InReq, InRes> {
    type Request = Req;
    type Response = Res;
    type InRequest = InReq;
    type InResponse = InRes;
    type Failure = F;
    type Out = Frame<Req, InRes, F>;
    type In = Frame<InReq, Res, F>;

    fn encode(&mut self, frame: OutFrame<Self>) -> Result<Option<Self::Out>, Error> {
        // The first item says so.
        Ok(if let Frame::Accepted { .. } = frame { None } else { Some(frame) })
    }

    fn decode(&mut self, message: Self::In, decoded: &mut Decoded<Self>) -> Result<(), Error> {
        decoded.frame(message);
        Ok(())
    }
}

impl<Req, Res, F, InReq, InRes> Default for Frames<Req, Res, F, InReq, InRes> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Req, Res, F, InReq, InRes> Clone for Frames<Req, Res, F, InReq, InRes> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Req, Res, F, InReq, InRes> Copy for Frames<Req, Res, F, InReq, InRes> {}

impl<Req, Res, F, InReq, InRes> fmt::Debug for Frames<Req, Res, F, InReq, InRes> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Frames")
    }
}
