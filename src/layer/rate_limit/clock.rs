use governor::nanos::Nanos;

use crate::rt::Instant;

/// Governor's source of time: nanoseconds since the clock was created.
#[derive(Clone, Debug)]
pub(super) enum Clock {
    /// The processor's counter, by quanta: a third of the cost of the operating system's clock.
    #[cfg(not(target_arch = "wasm32"))]
    Fast { clock: governor::clock::DefaultClock, start: governor::clock::QuantaInstant },
    /// The runtime's clock, which tests can pause.
    Runtime(Instant),
}

impl Clock {
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn fast() -> Self {
        use governor::clock::Clock as _;

        let clock = governor::clock::DefaultClock::default();
        let start = clock.now();
        Self::Fast { clock, start }
    }

    /// Browsers have one clock.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn fast() -> Self {
        Self::runtime()
    }

    pub(super) fn runtime() -> Self {
        Self::Runtime(Instant::now())
    }
}

impl governor::clock::Clock for Clock {
    type Instant = Nanos;

    #[inline]
    fn now(&self) -> Nanos {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Fast { clock, start } => governor::clock::Reference::duration_since(&clock.now(), *start),
            Self::Runtime(start) => start.elapsed().into(),
        }
    }
}
