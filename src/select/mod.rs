//! Which visual tokens reach the language model.
