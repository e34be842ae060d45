use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::Direction;
use crate::{sync::Mutex, transport::wakers::WakerPair};

pin_project! {
    /// A byte stream with injected faults: put it below a WebSocket to cut the connection in the middle of a frame.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tower_transport::test_util::fault::{Cut, Direction, FaultIo};
    ///
    /// let (here, mut there) = tokio::io::duplex(64);
    /// let (mut here, faults) = FaultIo::new(here);
    /// faults.cut_after(Direction::Outgoing, 3, Cut::Reset);
    /// let error = here.write_all(b"hello").await.unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    /// drop(here);
    ///
    /// let mut received = Vec::new();
    /// there.read_to_end(&mut received).await?;
    /// assert_eq!(received, b"hel");
    /// # Ok::<(), std::io::Error>(()) }).unwrap();
    /// ```
    #[derive(Debug)]
    pub struct FaultIo<T> {
        #[pin]
        inner: T,
        link: Arc<Link>,
    }
}

/// The controller of a [`FaultIo`]. Clones control the same stream.
#[derive(Clone, Debug)]
pub struct IoFaults(Arc<Link>);

#[derive(Default)]
struct Link {
    flows: Mutex<Flows>,
    wakers: WakerPair,
}

debug_fields!(Link {});

impl IoFaults {
    /// Stops this direction until [`resume`](Self::resume).
    pub fn stall(&self, direction: Direction) {
        self.change(|flows| flows.flow(direction).stalled = true);
    }

    /// Limits each read or write to one byte.
    pub fn trickle(&self, direction: Direction) {
        self.change(|flows| flows.flow(direction).trickles = true);
    }

    /// Ends a stall and a trickle.
    pub fn resume(&self, direction: Direction) {
        self.change(|flows| {
            let flow = flows.flow(direction);
            (flow.stalled, flow.trickles) = (false, false);
        });
    }

    /// Cuts this direction after `bytes` more bytes. The other direction goes on: cut both for a complete end.
    pub fn cut_after(&self, direction: Direction, bytes: usize, cut: Cut) {
        self.change(|flows| flows.flow(direction).cut = Some((bytes, cut)));
    }

    /// Cuts both directions now.
    pub fn cut(&self, cut: Cut) {
        self.change(|flows| {
            flows.outgoing.cut = Some((0, cut));
            flows.incoming.cut = Some((0, cut));
        });
    }

    /// Makes the peer vanish without a word: written bytes are swallowed, and nothing comes in, not even the end.
    pub fn half_open(&self) {
        self.change(|flows| flows.half_open = true);
    }

    fn change(&self, change: impl FnOnce(&mut Flows)) {
        change(&mut self.0.flows.lock());
        self.0.wakers.wake_both();
    }
}

impl<T> FaultIo<T> {
    /// Wraps a byte stream. There is no fault until the controller injects one.
    pub fn new(inner: T) -> (Self, IoFaults) {
        let link = Arc::new(Link::default());
        (Self { inner, link: link.clone() }, IoFaults(link))
    }

    accessors! {
        inner: T, "byte stream",
        get_mut: "Bytes that are read or written there meet no faults.",
        into_inner: ", without its faults.",
    }
}

fn write_error(cut: Cut) -> io::Error {
    match cut {
        Cut::Eof => io::ErrorKind::BrokenPipe.into(),
        Cut::Reset => io::ErrorKind::ConnectionReset.into(),
    }
}

impl<T: AsyncRead> AsyncRead for FaultIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.link.wakers.reader.register(cx.waker());
        let turn = this.link.flows.lock().turn(Direction::Incoming);
        let most = match turn {
            Turn::Wait | Turn::Swallow => return Poll::Pending,
            Turn::Fail(Cut::Eof) => return Poll::Ready(Ok(())),
            Turn::Fail(Cut::Reset) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Turn::Move(most) => most,
        };
        // Initialized, since the bytes of the part have to count as filled in the whole without `unsafe`.
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most.min(buf.remaining())));
        ready!(this.inner.poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        this.link.flows.lock().moved(Direction::Incoming, read);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite> AsyncWrite for FaultIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.link.wakers.writer.register(cx.waker());
        let turn = this.link.flows.lock().turn(Direction::Outgoing);
        let most = match turn {
            Turn::Wait => return Poll::Pending,
            Turn::Swallow => return Poll::Ready(Ok(buf.len())),
            Turn::Fail(cut) => return Poll::Ready(Err(write_error(cut))),
            Turn::Move(most) => most,
        };
        let written = ready!(this.inner.poll_write(cx, &buf[..most.min(buf.len())]))?;
        this.link.flows.lock().moved(Direction::Outgoing, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx, T::poll_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx, T::poll_shutdown)
    }
}

impl<T: AsyncWrite> FaultIo<T> {
    fn poll_written(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        this.link.wakers.writer.register(cx.waker());
        let turn = this.link.flows.lock().turn(Direction::Outgoing);
        match turn {
            Turn::Wait => Poll::Pending,
            Turn::Swallow => Poll::Ready(Ok(())),
            Turn::Fail(cut) => Poll::Ready(Err(write_error(cut))),
            Turn::Move(_) => poll(this.inner, cx),
        }
    }
}

/// How a byte stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cut {
    /// Reading returns the end of the stream (as after a FIN); writing fails with `BrokenPipe`.
    Eof,
    /// Both fail with `ConnectionReset` (as after an RST).
    Reset,
}

#[derive(Debug, Default)]
struct Flows {
    outgoing: Flow,
    incoming: Flow,
    half_open: bool,
}

#[derive(Debug, Default)]
struct Flow {
    stalled: bool,
    trickles: bool,
    /// The number of bytes that still pass, and the cut that follows.
    cut: Option<(usize, Cut)>,
}

/// The permission for the next read or write.
enum Turn {
    Wait,
    Swallow,
    Fail(Cut),
    /// Move at most this many bytes.
    Move(usize),
}

impl Flows {
    fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Outgoing => &mut self.outgoing,
            Direction::Incoming => &mut self.incoming,
        }
    }

    fn turn(&mut self, direction: Direction) -> Turn {
        let half_open = self.half_open;
        let flow = self.flow(direction);
        match flow.cut {
            Some((0, cut)) => Turn::Fail(cut),
            _ if half_open => match direction {
                Direction::Outgoing => Turn::Swallow,
                Direction::Incoming => Turn::Wait,
            },
            _ if flow.stalled => Turn::Wait,
            cut => Turn::Move(cut.map_or(usize::MAX, |(left, _)| left).min(if flow.trickles { 1 } else { usize::MAX })),
        }
    }

    fn moved(&mut self, direction: Direction, bytes: usize) {
        if let Some((left, _)) = &mut self.flow(direction).cut {
            *left = left.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Direction::*, *};

    #[test]
    fn a_cut_counts_the_bytes_of_its_direction_and_wins_over_all_else() {
        let mut flows = Flows::default();
        flows.flow(Outgoing).cut = Some((5, Cut::Reset));
        assert!(matches!(flows.turn(Outgoing), Turn::Move(5)));
        assert!(matches!(flows.turn(Incoming), Turn::Move(usize::MAX)));
        flows.moved(Outgoing, 4);
        flows.moved(Incoming, 4);
        assert!(matches!(flows.turn(Outgoing), Turn::Move(1)));
        flows.moved(Outgoing, 1);
        flows.flow(Outgoing).stalled = true;
        flows.half_open = true;
        assert!(matches!(flows.turn(Outgoing), Turn::Fail(Cut::Reset)));
    }
}
