//! The common part of the codecs of serde's formats.

/// Defines the constructor and the traits of a codec with a [`SerdeBuffer`](super::buffer::SerdeBuffer) and settings
/// that are `Copy`.
macro_rules! serde_codec {
    ($Codec:ident { $($setting:ident: $default:expr),* }) => {
        impl<Out, In> $Codec<Out, In> {
            /// Creates a codec. Its buffer is allocated with the first outgoing value.
            #[must_use]
            pub fn new() -> Self {
                Self { buffer: SerdeBuffer::default(), $($setting: $default,)* values: PhantomData }
            }
        }

        impl<Out, In> Default for $Codec<Out, In> {
            fn default() -> Self {
                Self::new()
            }
        }

        /// Returns a codec for another connection, with the same settings. Buffers are not shared.
        impl<Out, In> Clone for $Codec<Out, In> {
            fn clone(&self) -> Self {
                Self { $($setting: self.$setting,)* ..Self::new() }
            }
        }

        debug_fields!([Out, In] $Codec<Out, In> { $($setting),* });
    };
}

pub(super) use serde_codec;
