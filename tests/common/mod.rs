//! Shared by the integration tests, each of which uses a part.
#![allow(dead_code)]

pub mod folder;
pub mod golden;
pub mod integers;
