//! The atomics and mutexes of the hand-written synchronization between tasks: std's, or those of a model checker.
//!
//! | cfg | of | explores | run |
//! |---|---|---|---|
//! | `model` | loom | every interleaving of a small protocol | `tests/run loom` |
//! | `random_model` | shuttle | random interleavings of whole tasks | `tests/run shuttle` |
//!
//! The cfgs are not called `loom` and `shuttle`, because tokio would then leave out its sockets.

/// Defines a mutex over one of the libraries. It is entered even if a panic has poisoned it.
macro_rules! mutex {
    ($library:ident $(, $const:tt)?) => {
        #[allow(unused_imports, reason = "whether a guard is named depends on the features")]
        pub(crate) use $library::sync::MutexGuard;

        #[derive(Default)]
        pub(crate) struct Mutex<T>($library::sync::Mutex<T>);

        #[allow(dead_code, reason = "which methods are used depends on the features")]
        impl<T> Mutex<T> {
            pub(crate) $($const)? fn new(value: T) -> Self {
                Self($library::sync::Mutex::new(value))
            }

            #[inline]
            pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
                self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
            }

            pub(crate) fn get_mut(&mut self) -> &mut T {
                self.0.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner)
            }

            pub(crate) fn into_inner(self) -> T {
                self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
            }
        }

        impl<T: std::fmt::Debug> std::fmt::Debug for Mutex<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

mutex!(std, const);

/// The mutex of what a model checker runs.
#[allow(unused_imports, reason = "whether anything uses it depends on the features")]
pub(crate) mod checked {
    #[cfg(not(any(model, random_model)))]
    pub(crate) use super::{Mutex, MutexGuard};

    #[cfg(model)]
    mutex!(loom);
    #[cfg(random_model)]
    mutex!(shuttle);
}

#[cfg(all(model, any(feature = "service", feature = "rate-limit", feature = "resume")))]
#[cfg_attr(target_arch = "wasm32", allow(unused_imports, reason = "the users are native"))]
pub(crate) use loom::sync::atomic;
#[cfg(all(random_model, any(feature = "service", feature = "rate-limit", feature = "resume")))]
pub(crate) use shuttle::sync::atomic;
#[cfg(all(not(any(model, random_model)), any(feature = "service", feature = "rate-limit", feature = "resume")))]
#[cfg_attr(target_arch = "wasm32", allow(unused_imports, reason = "the users are native"))]
pub(crate) use std::sync::atomic;

/// Keeps the newest waker of one task.
#[cfg(not(model))]
pub(crate) use atomic_waker::AtomicWaker;

/// A model of it, in place of the crate atomic-waker's, whose atomics loom cannot see.
#[cfg(model)]
#[derive(Debug, Default)]
pub(crate) struct AtomicWaker(loom::sync::Mutex<Option<std::task::Waker>>);

#[cfg(model)]
#[allow(dead_code, reason = "which methods are used depends on the features")]
impl AtomicWaker {
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        drop(self.swap(Some(waker.clone())));
    }

    pub(crate) fn wake(&self) {
        self.swap(None).into_iter().for_each(std::task::Waker::wake);
    }

    pub(crate) fn take(&self) -> Option<std::task::Waker> {
        self.swap(None)
    }

    fn swap(&self, waker: Option<std::task::Waker>) -> Option<std::task::Waker> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner), waker)
    }
}
