use governor::nanos::Nanos;

use crate::rt::Instant;

/// From where governor knows the time: nanoseconds since the clock was made.
#[derive(Clone, Debug)]
pub(super) enum Clock {
    /// The processor's counter, by quanta: a third of what the operating system's clock costs.
    #[cfg(not(target_arch = "wasm32"))]
    Fast { clock: governor::clock::DefaultClock, start: governor::clock::QuantaInstant },
    /// That of the runtime, which tests pause.
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
