//! `parse_index`: no shard it lists lies outside the model's folder.

#![no_main]

use std::path::{Component, Path};

use hired::checkpoint::parse_index;
use hired_fuzz::assert_one_line;
use libfuzzer_sys::fuzz_target;

const INDEX: &str = "model.safetensors.index.json";

fuzz_target!(|data: &[u8]| {
    match parse_index(data, Path::new(INDEX)) {
        Ok(map) => {
            assert!(!map.is_empty());
            for file in map.values() {
                let mut parts = Path::new(file).components();
                assert_eq!(parts.next(), Some(Component::Normal(file.as_ref())), "{file:?}");
                assert_eq!(parts.next(), None, "{file:?}");
                assert!(!file.contains(['\\', ':', '\0']), "{file:?}");
            }
        }
        Err(e) => assert_one_line(&e, INDEX),
    }
});
