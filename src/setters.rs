//! Setters of the types that callers fill in.

/// Generates a `with_FIELD` method for each listed field. The structs are `#[non_exhaustive]` so that fields can be
/// added: callers start from the default and chain these methods.
macro_rules! setters {
    ($type:ident { $($with:ident($field:ident: $kind:ty);)+ }) => {
        impl $type {
            $(
                #[doc = concat!("Returns this value with another [`", stringify!($type), "::", stringify!($field), "`].")]
                #[must_use]
                pub fn $with(mut self, $field: $kind) -> Self {
                    self.$field = $field.into();
                    self
                }
            )+
        }
    };
}

pub(crate) use setters;
