//! The methods that this crate adds to tower's `ServiceBuilder`.
