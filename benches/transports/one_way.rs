//! As fast as they go, in one direction: handed over one after the other, a flush for every 64, as a driver does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cpu_time::ProcessTime;
use tokio::{sync::Barrier, time::timeout};

use crate::{
    contestant::{Contestant, End},
    loopback::{on_one_thread, payload},
    rounds::Sample,
};

const FLUSH_EVERY: usize = 64;

/// A message counts as lost if nothing has arrived for this long.
const QUIET: Duration = Duration::from_millis(50);

#[derive(Clone, Copy)]
pub(crate) struct OneWay {
    /// Bytes of payload.
    pub(crate) size: usize,
    pub(crate) messages: usize,
}

/// Of lossy messages: those that were sent, and those that arrived.
static LOSSY: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// The share of lossy messages that arrived, since this was asked last.
pub(crate) fn arrived() -> f64 {
    let [sent, arrived] = LOSSY.each_ref().map(|count| count.swap(0, Relaxed));
    arrived as f64 / sent as f64
}

/// The number of messages that arrived, and when the last one did.
struct Heard {
    messages: usize,
    last: Instant,
}

async fn hear<C: Contestant>(far: &mut C::Far, size: usize, due: usize, is_said: &AtomicBool) -> Heard {
    let mut heard = Heard { messages: 0, last: Instant::now() };
    while heard.messages < due {
        let length = if C::IS_LOSSY {
            match timeout(QUIET, far.receive()).await {
                Ok(length) => length,
                Err(_) if is_said.load(Relaxed) => break,
                Err(_) => continue,
            }
        } else {
            far.receive().await
        };
        assert_eq!(length, Some(size));
        heard.messages += 1;
        if C::IS_LOSSY {
            heard.last = Instant::now();
        }
    }
    if !C::IS_LOSSY {
        heard.last = Instant::now();
    }
    heard
}

impl OneWay {
    /// Per message that came.
    pub(crate) fn run<C: Contestant>(self) -> Sample {
        let Self { size, messages } = self;
        on_one_thread(async move {
            let (mut near, mut far) = C::pair().await;
            let payload = payload(size);
            let (start, is_said) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(false)));
            let (started, said) = (start.clone(), is_said.clone());
            // For buffers and the congestion window to grow.
            let unmeasured = messages.div_ceil(10);
            tokio::spawn(async move {
                for count in [unmeasured, messages] {
                    said.store(false, Relaxed);
                    for message in 1..=count {
                        near.send(&payload).await;
                        if message % FLUSH_EVERY == 0 || message == count {
                            near.flush().await;
                        }
                    }
                    said.store(true, Relaxed);
                    started.wait().await;
                }
                // Kept open until the other end has read everything.
                near.receive().await;
            });
            hear::<C>(&mut far, size, unmeasured, &is_said).await;
            // The writer waits already, or comes to its wait before this task has its turn again.
            let (wall, cpu) = (Instant::now(), ProcessTime::now());
            start.wait().await;
            let heard = hear::<C>(&mut far, size, messages, &is_said).await;
            if C::IS_LOSSY {
                LOSSY[0].fetch_add(messages, Relaxed);
                LOSSY[1].fetch_add(heard.messages, Relaxed);
            }
            Sample::of(heard.last - wall, cpu.elapsed(), heard.messages.max(1))
        })
    }
}
