//! Messages in one direction, measured from an empty connection to an empty connection.

use std::{ops::Range, sync::Arc, time::Instant};

use cpu_time::ProcessTime;
use tokio::sync::Barrier;

use crate::{contestant::Contestant, rounds::Sample};

/// Each writer first sends messages that are not measured. When all of them have arrived, it sends the measured ones.
#[derive(Clone)]
pub struct Flow {
    writers: usize,
    unmeasured: usize,
    measured: usize,
    start: Arc<Barrier>,
}

impl Flow {
    /// `messages` are shared out evenly to the writers; a tenth more are not measured.
    pub fn new(writers: usize, messages: usize) -> Self {
        let measured = messages.div_ceil(writers);
        let start = Arc::new(Barrier::new(writers + 1));
        Self { writers, unmeasured: measured.div_ceil(10), measured, start }
    }

    /// The messages of one writer.
    pub fn turns(&self) -> Range<usize> {
        0..self.unmeasured + self.measured
    }

    /// Whether the measured messages begin here.
    pub fn begins(&self, turn: usize) -> bool {
        turn == self.unmeasured
    }

    /// Waits where the measured messages begin.
    pub async fn before(&self, turn: usize) {
        if self.begins(turn) {
            self.start.wait().await;
        }
    }

    /// Receives what all writers send.
    pub async fn receive<C: Contestant>(self, server: &mut C, size: usize) -> Sample {
        for _ in 0..self.unmeasured * self.writers {
            assert_eq!(server.receive().await, Some(size));
        }
        let (wall, cpu) = (Instant::now(), ProcessTime::now());
        self.start.wait().await;
        for _ in 0..self.measured * self.writers {
            assert_eq!(server.receive().await, Some(size));
        }
        Sample::of(wall.elapsed(), cpu.elapsed(), self.measured * self.writers)
    }
}
