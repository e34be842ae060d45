use std::{fmt, ops::Deref, str::Utf8Error};

use bytes::Bytes;
use bytestring::ByteString;

/// UTF-8 text over shared bytes. Cloning and slicing do not copy.
///
/// It dereferences to `str`. Text from the network is validated once, when it is received.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(ByteString);

impl Text {
    /// Creates a text from a string that lives as long as the program.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }

    /// Returns the text as a `str`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the part of this text that `part` points at, sharing the same memory.
    ///
    /// # Panics
    ///
    /// Panics if `part` is not a slice of this text, as [`Bytes::slice_ref`] does.
    #[must_use]
    pub fn slice_ref(&self, part: &str) -> Self {
        Self(self.0.slice_ref(part))
    }

    /// Returns the bytes of the text, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into_bytes()
    }

    /// Creates a text from bytes that another library has already validated, without validating them a second time.
    ///
    /// # Safety
    ///
    /// `bytes` must be UTF-8.
    #[cfg(all(feature = "websocket", not(target_arch = "wasm32")))]
    pub(crate) unsafe fn from_utf8_unchecked(bytes: Bytes) -> Self {
        // SAFETY: this function requires of its caller exactly the condition that `ByteString` requires here.
        Self(unsafe { ByteString::from_bytes_unchecked(bytes) })
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<Text> for Bytes {
    fn from(text: Text) -> Self {
        text.into_bytes()
    }
}

impl TryFrom<Bytes> for Text {
    type Error = Utf8Error;

    /// Validates the bytes without copying them.
    #[inline]
    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        ByteString::try_from(bytes).map(Self)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}
