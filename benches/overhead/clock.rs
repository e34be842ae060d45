//! Counts how often the operating system's clock is read: this program's `clock_gettime` stands before the C library's.
//!
//! A direct read of the processor's counter, as in quanta, is not counted.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod counting {
    use std::{
        ffi::{c_char, c_int, c_void},
        mem::transmute,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
    };

    type Read = unsafe extern "C" fn(c_int, *mut c_void) -> c_int;

    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    }

    /// `RTLD_NEXT`: behind this program.
    const NEXT: *mut c_void = std::ptr::without_provenance_mut(usize::MAX);

    static READS: AtomicU64 = AtomicU64::new(0);

    pub(super) fn reads() -> u64 {
        READS.load(Relaxed)
    }

    // SAFETY: the name is the C library's, and so are the arguments and the result.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut c_void) -> c_int {
        static REAL: OnceLock<Read> = OnceLock::new();
        READS.fetch_add(1, Relaxed);
        let real = REAL.get_or_init(|| {
            // SAFETY: the name ends in a zero byte, and the C library's function of that name is what `Read` says.
            unsafe { transmute::<*mut c_void, Option<Read>>(dlsym(NEXT, c"clock_gettime".as_ptr())) }
                .expect("the C library has a clock")
        });
        // SAFETY: the caller's own arguments, handed on.
        unsafe { real(clock, time) }
    }
}

/// Reads so far, in the whole process; `None` where they are not counted.
pub(crate) fn reads() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    return Some(counting::reads());
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    None
}
