//! The type or the id of an event: short text that is cloned with each event.

use std::{fmt, sync::Arc};

/// The maximum length that is stored inline, in bytes, which makes the whole 24 bytes.
const SHORT: usize = 22;

/// The length value that means that there is no text.
const ABSENT: u8 = u8::MAX;

/// Text that is stored inline if it is short, and shared otherwise; either way a clone allocates nothing. Most ids and
/// types are short, and change with each event or alternate. Inline they cost neither an allocation nor a reference
/// count.
#[derive(Clone)]
pub(super) enum Label {
    /// The length, and the bytes, which are UTF-8.
    Short(u8, [u8; SHORT]),
    Long(Arc<str>),
}

impl Label {
    /// No text, which differs from an empty one. Not an `Option`: a value that is always 24 bytes moves faster.
    pub(super) const ABSENT: Self = Self::Short(ABSENT, [0; SHORT]);

    #[inline]
    pub(super) fn is_present(&self) -> bool {
        !matches!(self, Self::Short(ABSENT, _))
    }

    /// Returns the text, if there is one.
    pub(super) fn get(&self) -> Option<&str> {
        self.is_present().then(|| self.as_str())
    }

    #[inline]
    pub(super) fn new(text: &str) -> Self {
        let mut short = [0; SHORT];
        match (short.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(place), Ok(length)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short(length, short)
            }
            _ => Self::Long(text.into()),
        }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, short) => short.get(..usize::from(*length)).unwrap_or_default(),
            Self::Long(text) => text.as_bytes(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Short(..) => str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.is_present() == other.is_present() && self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Label {}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_any_length_comes_out_as_it_went_in() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 255, 256, 1000] {
            let text = "é".repeat(length / 2) + &"x".repeat(length % 2);
            let label = Label::new(&text);
            assert_eq!((label.as_str(), label.as_bytes()), (&*text, text.as_bytes()));
            assert_eq!(matches!(label, Label::Short(..)), length <= SHORT);
            assert_eq!(label, Label::new(&text));
        }
    }

    #[test]
    fn an_absent_text_is_not_an_empty_one() {
        assert_ne!(Label::ABSENT, Label::new(""));
        assert_eq!((Label::ABSENT.get(), Label::ABSENT.as_str()), (None, ""));
        assert_eq!(Label::new("").get(), Some(""));
    }

    #[test]
    fn a_label_takes_no_more_than_a_string() {
        assert_eq!(size_of::<Label>(), 24);
    }
}
