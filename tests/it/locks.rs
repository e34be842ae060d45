//! Nothing of the user's runs under a lock: neither the writer that a value is printed into, nor the drop of a source.

use std::{
    fmt::{self, Write},
    sync::mpsc,
    time::Duration,
};

use tower_transport::{
    layer::{heartbeat::Monitor, resume::ResumeHandle},
    test_util::fault::{Cut, Direction, FaultIo, Faults},
};

/// A writer that asks about the printed value before each piece.
struct Asking<F>(F);

impl<F: FnMut()> Write for Asking<F> {
    fn write_str(&mut self, _: &str) -> fmt::Result {
        self.0();
        Ok(())
    }
}

/// Fails if it takes forever.
pub(crate) fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    is_done.recv_timeout(Duration::from_secs(20)).expect("a deadlock, or a panic");
}

/// Prints the value into a writer that does this each time.
fn prints<T: fmt::Debug>(value: &T, ask: impl FnMut()) {
    write!(Asking(ask), "{value:?} {value:#?}").unwrap();
}

#[test]
fn handles_are_printed_without_their_locks() {
    in_time(|| {
        let monitor = Monitor::new();
        prints(&monitor, || _ = monitor.rtt());
        let handle = ResumeHandle::new();
        prints(&handle, || _ = (handle.id(), handle.verdict()));
        let faults = Faults::new();
        prints(&faults, || faults.resume(Direction::Incoming));
        let (io, faults) = FaultIo::new(tokio::io::empty());
        prints(&io, || faults.cut_after(Direction::Outgoing, 1, Cut::Eof));
    });
}
