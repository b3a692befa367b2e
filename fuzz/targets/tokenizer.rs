//! `Tokenizer::parse` on a `tokenizer.json`; what is let in must encode, decode and stream.

#![no_main]

use std::path::Path;

use hired::text::{Detokenizer, SpecialTokens, Tokenizer};
use hired_fuzz::assert_one_line;
use libfuzzer_sys::fuzz_target;

const FILE: &str = "tokenizer.json";

fuzz_target!(|data: &[u8]| {
    let Ok(json) = std::str::from_utf8(data) else { return };
    let tokenizer = match Tokenizer::parse(json, Path::new(FILE), &SpecialTokens::default()) {
        Ok(tokenizer) => tokenizer,
        Err(e) => return assert_one_line(&e, FILE),
    };
    for add_special in [true, false] {
        if let Err(e) = tokenizer.encode("a <s> b<image>\n  é🗼", add_special) {
            assert_one_line(&e, FILE);
        }
    }
    let ids: Vec<u32> = (0..300).collect();
    match tokenizer.decode(&ids) {
        Ok(text) => {
            let mut stream = Detokenizer::new(&tokenizer);
            let pieces: Result<String, _> = ids.iter().map(|&id| stream.push(id)).collect();
            let streamed = pieces.and_then(|text| Ok(text + &stream.finish()?));
            assert_eq!(streamed.expect("the whole could be decoded"), text);
        }
        Err(e) => assert_one_line(&e, FILE),
    }
});
