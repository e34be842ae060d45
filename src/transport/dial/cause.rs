use std::{error::Error as StdError, io};

use crate::{BoxError, Error};

/// Finds the most specific cause among the sources of a foreign error: an error of this crate or of the operating
/// system.
pub(in crate::transport) fn by_cause(error: impl Into<BoxError>, what: &'static str) -> Error {
    let error = error.into();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&*error);
    while let Some(this) = cause {
        if let Some(own) = this.downcast_ref::<Error>() {
            return own.clone();
        }
        if let Some(io) = this.downcast_ref::<io::Error>() {
            let kind = io.kind();
            return Error::from(io::Error::new(kind, error));
        }
        cause = this.source();
    }
    Error::other(what).with_source(error)
}
