//! Answers questions about high-resolution images with LLaVA models on small GPUs. This is the engine of the program
//! `hired`, as a library. To save time and memory it keeps only the most important image tokens, chosen by HiRED or
//! another method.
//!
//! The package is called `hired-vlm`, the library is imported as `hired`:
//!
//! ```toml
//! [dependencies]
//! hired-vlm = { version = "0.1", default-features = false, features = ["cuda", "image-formats"] }
//! ```
//!
//! ```no_run
//! use hired::{Engine, EngineOptions, Event, Image, Request, Selection};
//! use std::ops::ControlFlow;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A folder of LLaVA-v1.6 or LLaVA-1.5 from the Hugging Face hub, on the first GPU that works, else on the CPU.
//! let mut engine = Engine::load("llava-v1.6-vicuna-7b-hf", EngineOptions::default())?;
//!
//! let image = Image::encoded("sign.jpg", std::fs::read("sign.jpg")?);
//! let request = Request::new("What is on the sign?")
//!     .with_image(image)
//!     .with_selection(Selection::default().with_budget("20%".parse()?))
//!     .with_max_new_tokens(64);
//!
//! let answer = engine.generate(&request, |event| {
//!     if let Event::Token { text, .. } | Event::Finished { text, .. } = event {
//!         print!("{text}");
//!     }
//!     ControlFlow::Continue(()) // Break ends the answer early.
//! })?;
//! println!("\n{:?}, first token after {:.2} s", answer.finish_reason, answer.timings.ttft);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `cuda` | yes | the executor for NVIDIA GPUs. At run time it opens the driver if there is one and needs no toolkit; when it is built, `nvcc` compiles the kernels (without `nvcc`, or with `HIRED_NO_CUDA=1`, it is built without kernels) |
//! | `image-formats` | yes | [`Image::Encoded`]: PNG, JPEG, WebP, BMP and GIF. Without it images are given as RGB8
//! pixels |
//! | `cli` | yes | the program `hired`; a library does not need it |
//! | `serve` | yes | the program's command `hired serve`, with tokio, axum and reqwest; building its TLS (ring) needs a C compiler |
//!
//! Features only add items; none changes a type. Without any feature the crate is the engine on the CPU.
//!
//! # Threads
//!
//! An [`Engine`] answers one batch at a time (`&mut self`). It is [`Send`], so it can live in a thread of its own
//! that receives requests through a channel, and a process can hold several engines. The CPU executor uses rayon's
//! global thread pool. The library prints nothing and keeps no global state. Weight files are memory-mapped: if
//! another process truncates one while it is in use, this process is killed by SIGBUS, unless
//! [`EngineOptions::no_mmap`] is set, which reads the weights into memory.
//!
//! # Untrusted input
//!
//! Model folders, images and prompts may come from untrusted people: the result is an answer or an [`Error`], in
//! bounded time and memory. A panic inside a library that parses them becomes an error; [`panic_is_caught`] lets a
//! panic hook recognise such panics. [`EngineOptions::max_pixels`] bounds the images that are decoded.
//! [`Request::literal`] encodes special tokens in a user's text as plain text, so that they cannot act as the
//! template's own.
//!
//! # Stability
//!
//! This page shows the public interface. Structs and enums that may grow are `#[non_exhaustive]`: create them with
//! `new` or `default`, then set fields or chain the `with_…` methods. Public modules that are hidden from these pages
//! exist for this project's own program, tests and benchmarks; they may change in any release.

#![warn(missing_docs)]

#[doc(hidden)]
pub mod checkpoint;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod engine;
mod error;
mod files;
#[doc(hidden)]
pub mod format;
mod guard;
#[doc(hidden)]
pub mod image;
#[doc(hidden)]
pub mod kv;
mod matrix;
#[doc(hidden)]
pub mod model;
#[doc(hidden)]
pub mod ops;
pub mod quant;
#[doc(hidden)]
pub mod select;
mod setters;
#[doc(hidden)]
pub mod text;

pub use checkpoint::synth::Preset;
pub use engine::{
    Answer, BudgetNeed, CardInfo, Device, Dtype, Engine, EngineOptions, Event, FinishReason, Gemm,
    Image, Inspection, Limit, Memory, Message, Part, Prompt, Request, Role, Scheduler,
    SchedulerOptions, Stage, Stages, Statistics, SubmitError, Ticket, Timings, Update,
    VisionInspection, Visual, inspect,
};
pub use error::{Error, Result};
pub use guard::panic_is_caught;
pub use image::Resample;
pub use ops::sample::Sampling;
pub use select::{
    Alpha, Budget, Counting, Factor, Heads, Method, Newlines, Rule, Selection, Spacing, Tuning,
};
