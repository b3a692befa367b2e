//! Questions about high-resolution images with LLaVA models on small GPUs: the engine of the program `hired`, for use
//! inside another program. It keeps only the image tokens worth their cost (HiRED and other methods).
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
//! | `image-formats` | yes | [`Image::Encoded`]: PNG, JPEG, WebP, BMP and GIF. Without it a request brings RGB8 pixels |
//! | `cli` | yes | the program `hired`; a library has no use for it |
//! | `serve` | yes | its command `hired serve`, with tokio and axum |
//!
//! Features add to what there is and change no type. Without any the crate is the engine on the CPU.
//!
//! # Threads
//!
//! An [`Engine`] answers one batch at a time (`&mut self`). It is [`Send`], so it may live in a thread of its own that
//! takes requests from a channel, and there may be several. The CPU executor works on the threads of rayon's global pool. The library
//! prints nothing and keeps no global state. Files of weights are mapped: one that somebody cuts short meanwhile ends the
//! process, unless [`EngineOptions::no_mmap`] has them read into memory.
//!
//! # What others give
//!
//! Model folders, images and words may come from people whom nobody knows: they give an answer or an [`Error`], in bounded
//! time and memory. A panic of a library that reads them becomes an error, which [`panic_is_caught`] tells a panic hook.
//! [`EngineOptions::max_pixels`] bounds the images that are decoded, [`Request::literal`] keeps special tokens that a user
//! types from being taken for the template's own.
//!
//! # Stability
//!
//! What this page shows is the public interface. Structs and enums that may grow are `#[non_exhaustive]`: begin with
//! `new` or `default`, then set fields or chain `with_…`. Modules that these pages leave out are public for this
//! project's own program, tests and benchmarks; they may change in any release.

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
