//! Ready-made: whole stacks as one type, for those who do not want to compose.

#[cfg(feature = "pool")]
#[cfg_attr(docsrs, doc(cfg(feature = "pool")))]
pub mod pool;
