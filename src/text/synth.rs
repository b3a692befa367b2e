//! A small, rule-based tokenizer for synthetic checkpoints that behaves like LLaMA's.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// Words from which merges are derived; each becomes one token with its leading space.
const WORDS: &str = "a the of and to in is it on at as an or by we he be do if up so no my \
    what where which who how why when there this that these those are was were has have had will can \
    image picture photo figure chart table text page sign word number title line label color shape size \
    red green blue black white yellow large small left right top bottom first last one two three four \
    man woman child people person dog cat bird car street house tree water sky road building window \
    show shown shows see seen describe explain answer question read write count find name list \
    USER ASSISTANT INST What The This It A In There Describe How Which";
/// Common word endings, merged without a leading space.
const ENDINGS: &str = "ing tion ed er est ly ment ness able al ive ous ful";
const SPACE: &str = "▁";

/// [`tokenizer_json_with`] only the image token `<image>`.
pub fn tokenizer_json(vocab: usize, image_token: u32) -> String {
    tokenizer_json_with(vocab, image_token, &["<image>"])
}

/// The text of a `tokenizer.json` whose last tokens before `<pad>` are `image_tokens`, the last of which has the id
/// `image_token` (`<image>`, preceded by tokens that enclose an image). `vocab` is the model's number of embedding
/// rows.
///
/// It is BPE with byte fallback like LLaMA's: `<unk>`, `<s>`, `</s>`, 256 byte tokens, `▁` and the printable ASCII
/// characters, pieces of common English words with their merges, and numbered pieces (`▁p7`) up to `image_token`, to
/// which no text encodes but which a model with random weights will generate. If there are too few ids, pieces are
/// left out from the end; every text can be encoded if `image_token` is at least 259. `<pad>` is left out if `vocab`
/// has no row for it. Remaining rows get special tokens to which no text encodes, because converters to other formats
/// take the tokenizer's length for the number of rows.
pub fn tokenizer_json_with(vocab: usize, image_token: u32, image_tokens: &[&str]) -> String {
    let size = image_token as usize + 1 - image_tokens.len();
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    tokens.push(SPACE.into());
    tokens.extend(('!'..='~').map(String::from));
    tokens.truncate(size);
    let mut known: HashSet<String> = tokens.iter().cloned().collect();
    let mut merges = Vec::new();
    let words = WORDS.split_whitespace().map(|word| format!("{SPACE}{word}"));
    for word in words.chain(ENDINGS.split_whitespace().map(String::from)) {
        let mut piece = String::new();
        for letter in word.chars().map(String::from) {
            let longer = format!("{piece}{letter}");
            if !known.contains(&longer) && tokens.len() < size {
                merges.push(json!([piece, letter]));
                known.insert(longer.clone());
                tokens.push(longer.clone());
            }
            piece = longer;
        }
    }
    let named = tokens.len();
    tokens.extend((named..size).map(|id| format!("{SPACE}p{id}")));

    let ids: Map<String, Value> =
        tokens.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let pad = image_token as usize + 1;
    let rows = vocab.max(pad);
    let special = ["<unk>", "<s>", "</s>"].into_iter().enumerate();
    let special = special.chain(
        image_tokens.iter().copied().chain(["<pad>"]).enumerate().map(|(i, text)| (size + i, text)),
    );
    let special = special.map(|(id, content)| (content.to_owned(), id));
    let spare = (pad + 1..rows).map(|id| (format!("<spare{id}>"), id));
    let added: Vec<Value> = special
        .filter(|(_, id)| *id < rows)
        .chain(spare)
        .map(|(content, id)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let space_for = |from: &str, to: &str| json!({ "type": "Replace", "pattern": { "String": from }, "content": to });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": SPACE },
            space_for(" ", SPACE),
        ] },
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                { "SpecialToken": { "id": "<s>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
            ],
            "pair": [
                { "SpecialToken": { "id": "<s>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "<s>", "type_id": 1 } },
                { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
        },
        "decoder": { "type": "Sequence", "decoders": [
            space_for(SPACE, " "),
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": "<unk>",
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": ids,
            "merges": merges,
        },
    })
    .to_string()
}
