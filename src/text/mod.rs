//! Prompts, token ids and text.
