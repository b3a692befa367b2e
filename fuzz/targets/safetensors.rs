//! `parse_header` on whole files, and on headers of an input's own making in front of data of any length.

#![no_main]

use std::path::Path;

use hired::checkpoint::{canonical, parse_header};
use hired_fuzz::assert_one_line;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    parse(data);
    // A mutated length would hardly ever fit the file, so here it is made to.
    if let Some((length, header)) = data.split_first_chunk::<2>() {
        let zeros = vec![0; usize::from(u16::from_le_bytes(*length))];
        parse(&[&(header.len() as u64).to_le_bytes(), header, &zeros].concat());
    }
});

fn parse(file: &[u8]) {
    let stored = match parse_header(file, Path::new("model.safetensors")) {
        Ok(stored) => stored,
        Err(e) => return assert_one_line(&e, "model.safetensors"),
    };
    let mut end = None;
    for tensor in stored {
        let range = tensor.range;
        assert!(range.start <= range.end && range.end <= file.len(), "{range:?} of {}", file.len());
        assert!(end.is_none_or(|end| range.start == end), "hole or overlap before {range:?}");
        end = Some(range.end);
        if let Ok(format) = tensor.format {
            let elements = tensor.shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side));
            let bytes = elements.map(|elements| format.bytes(1, elements));
            assert_eq!(bytes, Some(range.len()), "{:?}", tensor.shape);
        }
        canonical(&tensor.name);
    }
    assert!(end.is_none_or(|end| end == file.len()), "data that belongs to no tensor");
}
