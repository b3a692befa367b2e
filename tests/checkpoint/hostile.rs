//! Bytes that are no safetensors file or index, or pretend to be one.

use std::path::Path;

use hired::checkpoint::{Checkpoint, parse_header, parse_index};

use crate::{INDEX, assert_message, file, folder, index, tensors};

#[test]
fn hostile_indexes() {
    let path = Path::new(INDEX);
    for name in [
        "../model.safetensors",
        "/etc/model.safetensors",
        "a/b.safetensors",
        "a\\b.safetensors",
        "C:b.safetensors",
        "..",
        "",
        ".safetensors",
        "model.bin",
        "a\n.safetensors",
        "\u{1b}[2J.safetensors",
        "\u{9b}2J.safetensors",
        &"a".repeat(5000),
    ] {
        assert_message(parse_index(&index(&[("a", name)]), path), &[INDEX, "same folder"]);
    }
    let many: Vec<_> = (0..1001).map(|i| (i.to_string(), format!("{i}.safetensors"))).collect();
    let many: Vec<_> = many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_message(parse_index(&index(&many), path), &["1001 shards"]);
    assert_message(parse_index(&index(&[]), path), &["weight_map is empty"]);
    let long = format!("{{\"weight_map\": \"{}\"}}", "\u{7f}".repeat(5000));
    for text in
        [&long, "", "{}", "[]", "{\"weight_map\": 1}", "{\"weight_map\": {\"a\": 1}}", "\u{0}"]
    {
        assert_message(parse_index(text.as_bytes(), path), &[INDEX, "download it again"]);
    }
}

#[test]
fn hostile_headers() {
    let entry = |shape: &str, begin: u64, end: u64| {
        format!("{{\"dtype\":\"F16\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}")
    };
    let one = |entry: String| format!("{{\"a\":{entry}}}");
    let two = |a: String, b: String| format!("{{\"a\":{a},\"b\":{b}}}");
    let huge = u64::MAX.to_string();
    let sound = tensors(&["a", "b"]);
    let long = [sound.clone(), vec![0]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "0 bytes"),
        ("seven bytes", vec![0; 7], "7 bytes"),
        ("length beyond the file", file("", b"")[..8].iter().map(|_| 1).collect(), "claims"),
        ("largest length", vec![0xff; 64], "claims"),
        ("gigantic header", [&(1u64 << 30).to_le_bytes()[..], &[b' '; 100]].concat(), "claims"),
        ("no header", file("", b""), "header is broken"),
        (
            "not UTF-8",
            file("{}", b"").iter().map(|&b| if b == b'{' { 0xff } else { b }).collect(),
            "broken",
        ),
        ("not an object", file("[]", b""), "broken"),
        ("deep", file(&"[".repeat(10_000), b""), "broken"),
        ("truncated", sound[..sound.len() - 1].to_vec(), "truncated"),
        ("cut in the header", sound[..40].to_vec(), "claims"),
        ("too long", long, "too long"),
        ("out of range", file(&one(entry("[2]", 4, 8)), &[0; 4]), "broken"),
        ("beyond the end", file(&one(entry("[200]", 0, 400)), &[0; 4]), "truncated"),
        ("backwards", file(&one(entry("[2]", 4, 0)), &[0; 4]), "broken"),
        ("overlap", file(&two(entry("[2]", 0, 4), entry("[2]", 2, 6)), &[0; 6]), "broken"),
        ("same bytes", file(&two(entry("[2]", 0, 4), entry("[2]", 0, 4)), &[0; 4]), "broken"),
        ("hole", file(&two(entry("[2]", 0, 4), entry("[2]", 8, 12)), &[0; 12]), "broken"),
        ("shape and size", file(&one(entry("[3]", 0, 4)), &[0; 4]), "broken"),
        (
            "product overflows",
            file(&one(entry(&format!("[{huge},{huge}]"), 0, 4)), &[0; 4]),
            "broken",
        ),
        ("bytes overflow", file(&one(entry(&format!("[{huge}]"), 0, 4)), &[0; 4]), "broken"),
        (
            "an exabyte",
            file(
                &format!(
                    "{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[0,{}]}}}}",
                    1u64 << 60,
                    1u64 << 60
                ),
                &[0; 4],
            ),
            "truncated",
        ),
        (
            "negative",
            file("{\"a\":{\"dtype\":\"F16\",\"shape\":[-2],\"data_offsets\":[0,4]}}", &[0; 4]),
            "broken",
        ),
        (
            "unknown type",
            file(
                "{\"a\":{\"dtype\":\"a\\n\\u001b[2Jb\",\"shape\":[2],\"data_offsets\":[0,4]}}",
                &[0; 4],
            ),
            "broken",
        ),
        (
            "line break in a name",
            file("{\"a\\nb\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[2,6]}}", &[0; 6]),
            "broken",
        ),
        (
            "pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n".to_vec(),
            "Git LFS",
        ),
    ];
    for (name, bytes, part) in cases {
        println!("{name}");
        assert_message(parse_header(&bytes, Path::new("x.safetensors")), &["x.safetensors", part]);
        let dir = folder(&[("model.safetensors", &bytes)]);
        assert_message(Checkpoint::open(dir.path()), &["model.safetensors", part]);
    }
}

/// A name twice in one header is one tensor, and only if both say the same of all bytes.
#[test]
fn name_twice_in_one_header() {
    let entry = |begin, end| {
        format!("\"a\":{{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[{begin},{end}]}}")
    };
    let path = Path::new("x.safetensors");
    let header = format!("{{{},{}}}", entry(0, 4), entry(4, 8));
    assert_message(parse_header(&file(&header, &[0; 8]), path), &["broken"]);
    let header = format!("{{{},{}}}", entry(0, 4), entry(0, 4));
    assert_eq!(parse_header(&file(&header, &[0; 4]), path).unwrap().len(), 1);
}

/// What a file calls and claims of its tensors is quoted briefly and without control characters.
#[test]
fn names_and_shapes_in_messages() {
    let name = "\u{7f}\u{9b}".repeat(1000);
    let bytes = tensors(&[&name, &format!("model.{name}")]);
    let dir = folder(&[("model.safetensors", &bytes)]);
    assert_message(Checkpoint::open(dir.path()), &["model.safetensors", "a second tensor"]);

    let shape = format!("[{}2]", "1,".repeat(100_000));
    let entry = format!("{{\"dtype\":\"F16\",\"shape\":{shape},\"data_offsets\":[0,4]}}");
    let bytes = file(&format!("{{\"lm_head.weight\":{entry}}}"), &[0; 4]);
    let dir = folder(&[("model.safetensors", &bytes)]);
    let head = Checkpoint::open(dir.path()).unwrap().get("lm_head.weight").unwrap();
    assert_message(head.expect_shape(&[2]), &["model.safetensors", "lm_head.weight", "[2]"]);
}

/// Every prefix of a sound file is refused; with one bit changed a file may still be one, but no
/// tensor of it leads out of the file.
#[test]
fn truncations_and_flips() {
    let sound = tensors(&["a", "bc"]);
    let path = Path::new("x.safetensors");
    for end in 0..sound.len() {
        assert_message(parse_header(&sound[..end], path), &["x.safetensors"]);
    }
    for i in 0..sound.len() {
        for bit in 0..8 {
            let mut bytes = sound.clone();
            bytes[i] ^= 1 << bit;
            if let Ok(stored) = parse_header(&bytes, path) {
                assert!(stored.iter().all(|tensor| tensor.range.end <= bytes.len()));
            }
        }
    }
}
