//! The test kit, tested: what is broken must be found, what is scripted must happen, what is a fault must hurt.

mod broken;
mod contract;
mod fault;
mod fault_io;
mod runtime;
mod script;
