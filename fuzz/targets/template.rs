//! `ChatTemplate::parse` and `render` on a template and, after a zero byte, the user's words.

#![no_main]

use std::path::Path;

use hired::text::ChatTemplate;
use hired_fuzz::assert_one_line;
use libfuzzer_sys::fuzz_target;

const FILE: &str = "chat_template.jinja";

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (source, prompt) = text.split_once('\0').unwrap_or((text, "Why?"));
    let tokens = [("bos_token".into(), "<s>".into()), ("eos_token".into(), "</s>".into())];
    let template = match ChatTemplate::parse(source, Path::new(FILE), &tokens) {
        Ok(template) => template,
        Err(e) => return assert_one_line(&e, FILE),
    };
    for with_image in [true, false] {
        if let Err(e) = template.render(prompt, with_image) {
            assert_one_line(&e, FILE);
        }
    }
});
