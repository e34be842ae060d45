use crate::Error;

/// How hard to try, from 0 (stores only, so nothing shrinks and all is sent plain) to 9: zlib's levels.
///
/// ```
/// use tower_transport::layer::compression::Level;
///
/// assert_eq!(Level::try_from(1)?, Level::FASTEST);
/// assert!(Level::try_from(10).unwrap_err().is_config());
/// # Ok::<(), tower_transport::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// 0: sends everything plain, and understands a peer that compresses.
    pub const NONE: Self = Self(0);
    /// 1, the default: the fastest that shrinks anything.
    pub const FASTEST: Self = Self(1);
    /// 6, zlib's own default.
    pub const BALANCED: Self = Self(6);
    /// 9: the smallest, for messages that are compressed once and sent to many.
    pub const SMALLEST: Self = Self(9);

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::FASTEST
    }
}

impl TryFrom<u8> for Level {
    type Error = Error;

    /// Fails with an error that [`is_config`](Error::is_config) above 9.
    fn try_from(level: u8) -> Result<Self, Error> {
        if level <= 9 {
            Ok(Self(level))
        } else {
            Err(Error::config(format!("there is no compression level {level}: choose one of 0 to 9")))
        }
    }
}
