//! Macros for methods that many types have.

/// Defines `get_ref`, `get_mut` and `into_inner` of a wrapper. The literals complete the documentation: `$get_mut` says
/// what a direct use bypasses, `$into_inner` what is lost.
macro_rules! accessors {
    ($inner:ident: $Inner:ty, $kind:literal, get_mut: $get_mut:literal, into_inner: $into_inner:literal $(,)?) => {
        #[doc = concat!("Returns a reference to the inner ", $kind, ".")]
        #[must_use]
        pub fn get_ref(&self) -> &$Inner {
            &self.$inner
        }

        #[doc = concat!("Returns a mutable reference to the inner ", $kind, ". ", $get_mut)]
        #[must_use]
        pub fn get_mut(&mut self) -> &mut $Inner {
            &mut self.$inner
        }

        #[doc = concat!("Returns the inner ", $kind, $into_inner)]
        #[must_use]
        pub fn into_inner(self) -> $Inner {
            self.$inner
        }
    };
}

pub(crate) use accessors;
