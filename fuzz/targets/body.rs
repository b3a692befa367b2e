//! `Asked::of` on a request's body, by both ways to ask. The server's modules are part of the program and not of the
//! library: they are taken as they are.

#![no_main]
// Parts of these modules are for the server alone.
#![allow(dead_code)]

#[path = "../../src/serve/ask.rs"]
mod ask;
#[path = "../../src/serve/error.rs"]
mod error;
#[path = "../../src/serve/fields.rs"]
mod fields;
#[path = "../../src/serve/images.rs"]
mod images;
#[path = "../../src/serve/messages.rs"]
mod messages;
#[path = "../../src/serve/own.rs"]
mod own;
#[path = "../../src/serve/sampling.rs"]
mod sampling;

/// What the program reads files with.
mod cli {
    pub mod files {
        /// No folder is allowed below, so that this is never reached.
        pub fn read_bounded(_: std::fs::File, _: Option<usize>) -> std::io::Result<Option<Vec<u8>>> {
            panic!("a body has made the server read a file")
        }
    }
}

use ask::{Asked, Terms, Way, parsed};
use hired::select::Selection;
use images::Images;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let images = Images { folder: None, max_pixels: Some(1 << 20), most: 4 };
    let terms = Terms {
        model: "model".into(),
        selection: Selection::default(),
        default_tokens: 512,
        most_tokens: Some(4096),
        images,
    };
    for way in [Way::Chat, Way::Text] {
        match parsed(data).and_then(|body| Asked::of(body, way, &terms)) {
            Ok(asked) => {
                assert!(asked.request.literal && asked.request.images().len() <= 4);
                assert!((1..=4096).contains(&asked.request.max_new_tokens));
            }
            Err(error) => {
                assert!(error.status.is_client_error(), "{error:?}");
                let object = error.object();
                let message = object["error"]["message"].as_str().unwrap_or_default();
                assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
            }
        }
    }
});
