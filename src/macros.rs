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

/// Implements `Debug` with the named fields and `..`, for types with fields that cannot be shown or must not be. The
/// generics are in front of the type, in brackets. A field with a value is computed from `this`:
/// `debug_fields!([T] Queue<T>, |this| { limit, waiting: this.items.len() })`.
macro_rules! debug_fields {
    ($([$($generics:tt)*])? $type:ident $(<$($arg:tt),*>)? { $($field:ident),* $(,)? }) => {
        debug_fields!($([$($generics)*])? $type $(<$($arg),*>)?, |this| { $($field: this.$field),* });
    };
    ($([$($generics:tt)*])? $type:ident $(<$($arg:tt),*>)?, |$this:ident| {
        $($field:ident $(: $value:expr)?),* $(,)?
    }) => {
        impl $(<$($generics)*>)? std::fmt::Debug for $type $(<$($arg),*>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                #[allow(unused_variables, reason = "without fields")]
                let $this = self;
                let mut f = f.debug_struct(stringify!($type));
                $(f.field(stringify!($field), debug_fields!(@ $this $field $($value)?));)*
                f.finish_non_exhaustive()
            }
        }
    };
    (@ $this:ident $field:ident) => { &$this.$field };
    (@ $this:ident $field:ident $value:expr) => { &$value };
}
