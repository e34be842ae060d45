//! The bounds of what may move to another thread: [`MaybeSend`] and [`MaybeSync`].

/// `Send` natively; every type in a page.
///
/// A task of a server may run on any thread. A page has one thread, and what belongs to its browser cannot leave it:
/// there, nothing has to be `Send`. A bound with this name is `Send` on every target except `wasm32`. It is implemented
/// for every type that fits and cannot be implemented by hand.
#[cfg(not(target_arch = "wasm32"))]
pub trait MaybeSend: Send {}

#[cfg(not(target_arch = "wasm32"))]
impl<T: ?Sized + Send> MaybeSend for T {}

/// `Send` natively; every type in a page.
///
/// A task of a server may run on any thread. A page has one thread, and what belongs to its browser cannot leave it:
/// there, nothing has to be `Send`. A bound with this name is `Send` on every target except `wasm32`. It is implemented
/// for every type that fits and cannot be implemented by hand.
#[cfg(target_arch = "wasm32")]
pub trait MaybeSend {}

#[cfg(target_arch = "wasm32")]
impl<T: ?Sized> MaybeSend for T {}

/// `Sync` natively; every type in a page. See [`MaybeSend`].
#[cfg(not(target_arch = "wasm32"))]
pub trait MaybeSync: Sync {}

#[cfg(not(target_arch = "wasm32"))]
impl<T: ?Sized + Sync> MaybeSync for T {}

/// `Sync` natively; every type in a page. See [`MaybeSend`].
#[cfg(target_arch = "wasm32")]
pub trait MaybeSync {}

#[cfg(target_arch = "wasm32")]
impl<T: ?Sized> MaybeSync for T {}

/// The type of a function behind a pointer, [`MaybeSend`]: a trait object takes no bound but auto traits.
#[cfg(not(target_arch = "wasm32"))]
#[allow(unused_macros, reason = "which of them are used depends on the features")]
macro_rules! dyn_send {
    ($($function:tt)+) => { dyn $($function)+ + Send };
}

#[cfg(target_arch = "wasm32")]
#[allow(unused_macros, reason = "which of them are used depends on the features")]
macro_rules! dyn_send {
    ($($function:tt)+) => { dyn $($function)+ };
}

/// The type of a function behind a shared pointer, [`MaybeSend`] and [`MaybeSync`].
#[cfg(not(target_arch = "wasm32"))]
macro_rules! dyn_shared {
    ($($function:tt)+) => { dyn $($function)+ + Send + Sync };
}

#[cfg(target_arch = "wasm32")]
macro_rules! dyn_shared {
    ($($function:tt)+) => { dyn $($function)+ };
}

#[allow(unused_imports, reason = "which of them are used depends on the features")]
pub(crate) use {dyn_send, dyn_shared};
