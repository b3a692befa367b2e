//! Setters of the types that callers fill in.

/// `with_FIELD` for fields of a struct. Such a struct is `#[non_exhaustive]`, so that it may get more fields: callers
/// begin with its default and chain these.
macro_rules! setters {
    ($type:ident { $($with:ident($field:ident: $kind:ty);)+ }) => {
        impl $type {
            $(
                #[doc = concat!("The same with another [`", stringify!($type), "::", stringify!($field), "`].")]
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
