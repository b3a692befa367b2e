//! `Engine::load` of a folder in which one file is the input's, and a request to what was loaded.
//! The first byte chooses the file, the others are its content.

#![no_main]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use hired::{Device, Engine, EngineOptions, Image, Request};
use hired_fuzz::assert_one_line;
use libfuzzer_sys::fuzz_target;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/models/next-memory");
/// The files that an input may replace or add, in the order of the first byte.
const FILES: [&str; 10] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "adapter_config.json",
];

/// A copy of the model, for this process alone.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("hired-fuzz-folder-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the model");
    for file in fs::read_dir(MODEL).expect("the model").flatten() {
        fs::copy(file.path(), folder.join(file.file_name())).expect("a copy of a file");
    }
    folder
});

/// Puts the model's own file back, or removes the one that it does not have.
fn restore(file: &str) {
    let (from, to) = (Path::new(MODEL).join(file), FOLDER.join(file));
    if from.exists() {
        fs::copy(from, to).expect("a copy of a file");
    } else {
        fs::remove_file(to).expect("a file that was written");
    }
}

fuzz_target!(|data: &[u8]| {
    let [choice, content @ ..] = data else { return };
    let file = FILES[usize::from(*choice) % FILES.len()];
    fs::write(FOLDER.join(file), content).expect("a file of the folder");
    let options = EngineOptions::default().with_device(Device::Cpu).with_no_mmap(true);
    match Engine::load(&*FOLDER, options) {
        Ok(mut engine) => {
            let pixels = vec![127; 40 * 30 * 3];
            let request = Request::new("Why?")
                .with_image(Image::rgb8(40, 30, pixels))
                .with_max_new_tokens(2);
            if let Err(e) = engine.generate(&request, |_| ControlFlow::Continue(())) {
                assert_one_line(&e, "");
            }
        }
        Err(e) => assert_one_line(&e, ""),
    }
    restore(file);
});
