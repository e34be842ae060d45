//! For people who write their own layers and transports: contract checks, a scripted transport, fault injection.

pub mod contract;
pub mod fault;
pub mod script;
