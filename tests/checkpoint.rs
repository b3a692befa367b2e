//! Safetensors folders: the four spellings, shards, damaged and hostile files, synthetic ones.

use std::collections::BTreeMap;
use std::path::Path;

use hired::checkpoint::synth::{self, Preset};
use hired::checkpoint::{Checkpoint, DType, Part, canonical, layout, parse_header, parse_index};
use serde_json::{Value, json};

/// A safetensors file around a hand-written header.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A sound file with one two-element f16 tensor for each name; the bytes count up.
fn tensors(names: &[&str]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    for (i, name) in names.iter().enumerate() {
        let entry = json!({ "dtype": "F16", "shape": [2], "data_offsets": [4 * i, 4 * i + 4] });
        header.insert((*name).to_owned(), entry);
    }
    let data: Vec<u8> = (0..4 * names.len() as u8).collect();
    file(&Value::from(header).to_string(), &data)
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn index(map: &[(&str, &str)]) -> Vec<u8> {
    let map: BTreeMap<_, _> = map.iter().copied().collect();
    json!({ "metadata": { "total_size": 0 }, "weight_map": map }).to_string().into()
}

#[track_caller]
fn assert_message<T: std::fmt::Debug>(result: hired::Result<T>, parts: &[&str]) {
    let message = result.expect_err("this must be refused").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(!message.contains('\u{1b}'), "{message:?}");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn four_spellings_have_one_name() {
    let spellings = [
        (
            "vision_tower.embeddings.class_embedding",
            &[
                "vision_tower.vision_model.embeddings.class_embedding",
                "vision_tower.embeddings.class_embedding",
                "model.vision_tower.vision_model.embeddings.class_embedding",
                "model.vision_tower.embeddings.class_embedding",
            ][..],
        ),
        (
            "language_model.layers.3.mlp.up_proj.weight",
            &[
                "language_model.model.layers.3.mlp.up_proj.weight",
                "model.language_model.layers.3.mlp.up_proj.weight",
            ],
        ),
        (
            "language_model.norm.weight",
            &["language_model.model.norm.weight", "model.language_model.norm.weight"],
        ),
        ("lm_head.weight", &["language_model.lm_head.weight", "lm_head.weight"]),
        (
            "multi_modal_projector.linear_1.bias",
            &["multi_modal_projector.linear_1.bias", "model.multi_modal_projector.linear_1.bias"],
        ),
        ("image_newline", &["image_newline", "model.image_newline"]),
    ];
    for (name, stored) in spellings {
        for stored in stored {
            assert_eq!(canonical(stored), name, "{stored}");
        }
    }
}

#[test]
fn one_file() {
    let file = tensors(&["model.image_newline", "language_model.lm_head.weight", "junk"]);
    let dir = folder(&[("model.safetensors", &file)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let head = checkpoint.get("lm_head.weight").unwrap();
    assert_eq!((head.dtype, head.elements(), head.shape.as_slice()), (DType::F16, 2, &[2][..]));
    assert_eq!(head.bytes(), [4, 5, 6, 7]);
    assert_eq!(
        checkpoint.tensors().map(|t| t.name.as_str()).collect::<Vec<_>>(),
        ["image_newline", "junk", "lm_head.weight"]
    );
    assert!(checkpoint.contains("junk") && !checkpoint.contains("language_model.lm_head.weight"));
    // A tensor outlives its checkpoint and goes to other threads.
    drop(checkpoint);
    let head = std::thread::spawn(move || head.clone()).join().unwrap();
    head.expect_shape(&[2]).unwrap();
    assert_message(
        head.expect_shape(&[2, 1]),
        &["model.safetensors", "lm_head.weight", "[2]", "[2, 1]", "config.json"],
    );
}

#[test]
fn every_stored_type() {
    let header = json!({
        "a": { "dtype": "BF16", "shape": [2], "data_offsets": [0, 4] },
        "b": { "dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8] },
        "c": { "dtype": "I8", "shape": [3], "data_offsets": [8, 11] },
        "d": { "dtype": "F16", "shape": [0, 7], "data_offsets": [11, 11] },
        "__metadata__": { "format": "pt" }
    });
    let bytes = file(&header.to_string(), &[0; 11]);
    let dir = folder(&[("model.safetensors", &bytes)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.get("a").unwrap().dtype, DType::BF16);
    assert_eq!(checkpoint.get("b").unwrap().dtype, DType::F32);
    assert_eq!(checkpoint.get("d").unwrap().elements(), 0);
    assert_message(checkpoint.get("c"), &["tensor c", "I8", "quantized"]);
    assert_message(checkpoint.get("e"), &["tensor e", "incomplete"]);
    assert!(checkpoint.contains("c"));
    assert_eq!(checkpoint.tensors().count(), 3);
}

#[test]
fn shards() {
    let (first, second) = (tensors(&["a", "b", "extra"]), tensors(&["c", "b"]));
    let map =
        index(&[("a", "one.safetensors"), ("b", "two.safetensors"), ("c", "two.safetensors")]);
    let files: [(&str, &[u8]); 3] =
        [(INDEX, &map), ("one.safetensors", &first), ("two.safetensors", &second)];
    let dir = folder(&files);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    // The index decides between two copies; what it does not list is there all the same.
    assert_eq!(checkpoint.get("b").unwrap().bytes(), [4, 5, 6, 7]);
    assert_eq!(checkpoint.get("a").unwrap().bytes(), [0, 1, 2, 3]);
    assert!(checkpoint.contains("extra"));

    // A whole file makes the index a leftover, even a broken one.
    std::fs::write(dir.path().join("model.safetensors"), tensors(&["z"])).unwrap();
    std::fs::write(dir.path().join(INDEX), "{").unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert!(checkpoint.contains("z") && !checkpoint.contains("a"));
}

#[test]
fn folders_without_sound_weights() {
    let good = tensors(&["a"]);
    let open = |files: &[(&str, &[u8])]| Checkpoint::open(folder(files).path());
    assert_message(open(&[]), &["neither model.safetensors nor", "download"]);
    assert_message(open(&[("pytorch_model.bin", b"")]), &["pytorch_model.bin", "convert"]);
    assert_message(Checkpoint::open(Path::new("/none/such")), &["no such folder"]);
    let missing = index(&[("a", "one.safetensors"), ("b", "two.safetensors")]);
    assert_message(
        open(&[(INDEX, &missing), ("one.safetensors", &good)]),
        &["two.safetensors", "missing", INDEX],
    );
    let lies = index(&[("a", "one.safetensors"), ("b", "one.safetensors")]);
    assert_message(
        open(&[(INDEX, &lies), ("one.safetensors", &good)]),
        &[INDEX, "2 tensors", "one.safetensors", "1 of them"],
    );
    let twice = tensors(&["lm_head.weight", "language_model.lm_head.weight"]);
    assert_message(
        open(&[("model.safetensors", &twice)]),
        &["model.safetensors", "lm_head", "second"],
    );
    let both = index(&[("a", "one.safetensors"), ("model.a", "two.safetensors")]);
    let other = tensors(&["model.a"]);
    assert_message(
        open(&[(INDEX, &both), ("one.safetensors", &good), ("two.safetensors", &other)]),
        &["two.safetensors", "\"model.a\"", "second"],
    );
    let dir = folder(&[]);
    std::fs::create_dir(dir.path().join("model.safetensors")).unwrap();
    assert_message(Checkpoint::open(dir.path()), &["model.safetensors", "not a regular file"]);
}

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
    ] {
        assert_message(parse_index(&index(&[("a", name)]), path), &[INDEX, "same folder"]);
    }
    let many: Vec<_> = (0..1001).map(|i| (i.to_string(), format!("{i}.safetensors"))).collect();
    let many: Vec<_> = many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_message(parse_index(&index(&many), path), &["1001 shards"]);
    assert_message(parse_index(&index(&[]), path), &["no tensor"]);
    for text in ["", "{}", "[]", "{\"weight_map\": 1}", "{\"weight_map\": {\"a\": 1}}", "\u{0}"] {
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

/// Every prefix of a sound file is refused, and so is every file with one byte of the header changed
/// unless it still describes its data exactly.
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

/// Names and parameter counts of the published checkpoints.
#[test]
fn published_sizes() {
    let expected = [
        (Preset::Next7b, 687, 7_063_431_168),
        (Preset::Next13b, 759, 13_351_499_776),
        (Preset::NextMistral7b, 687, 7_566_747_648),
        (Preset::Llava7b, 686, 7_063_427_072),
        (Preset::Llava13b, 758, 13_351_494_656u64),
    ];
    for (preset, tensors, parameters) in expected {
        let weights = layout(&preset.config().unwrap());
        assert_eq!(weights.len(), tensors, "{preset}");
        assert_eq!(
            weights.iter().map(|w| w.elements() as u64).sum::<u64>(),
            parameters,
            "{preset}"
        );
    }
    let weights = layout(&Preset::Next7b.config().unwrap());
    let spare = weights.iter().filter(|w| w.optional).map(|w| w.elements()).sum::<usize>();
    assert_eq!(spare, 12_598_272);
    let vision: usize =
        weights.iter().filter(|w| w.part == Part::Vision).map(|w| w.elements()).sum();
    assert_eq!(vision, 303_507_456);
    let projector: usize =
        weights.iter().filter(|w| w.part == Part::Projector).map(|w| w.elements()).sum();
    assert_eq!(projector, 20_979_712 + 4096);
}

#[test]
fn presets_by_name() {
    for preset in Preset::ALL {
        assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
        let config = preset.config().unwrap();
        assert_eq!((config.text.vocab, config.image_token), (preset.vocab(), preset.image_token()));
    }
    assert_message("llava-9b".parse::<Preset>(), &["llava-9b", "tiny", "llava-1.5-13b"]);
}

fn synth_tiny(dir: &Path, seed: u64) -> hired::Result<(u64, u64)> {
    let mut last = (0, 0);
    synth::write(Preset::Tiny, dir, seed, "{}", &mut |done, total| last = (done, total))?;
    Ok(last)
}

#[test]
fn synthetic_checkpoint_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new").join("tiny");
    let (done, total) = synth_tiny(&path, 0).unwrap();
    let config = hired::config::ModelFolder::open(&path).unwrap().config;
    assert_eq!(config, Preset::Tiny.config().unwrap());
    let checkpoint = Checkpoint::open(&path).unwrap();
    checkpoint.verify(&config).unwrap();
    let weights = layout(&config);
    assert_eq!(checkpoint.tensors().count(), weights.len());
    let bytes: usize = checkpoint.tensors().map(|t| t.bytes().len()).sum();
    assert_eq!((done, total), (bytes as u64, bytes as u64));
    for weight in &weights {
        let tensor = checkpoint.get(&weight.name).unwrap();
        tensor.expect_shape(&weight.shape).unwrap();
        let values: Vec<f32> = tensor
            .bytes()
            .chunks_exact(2)
            .map(|pair| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32())
            .collect();
        assert!(values.iter().all(|x| x.is_finite() && x.abs() < 4.0), "{}", weight.name);
        assert!(values.iter().any(|x| *x != values[0]), "{}", weight.name);
    }
    // Another reader of the format agrees.
    let whole = std::fs::read(path.join("model.safetensors")).unwrap();
    let other = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let newline = other.tensor("image_newline").unwrap();
    assert_eq!(newline.data(), checkpoint.get("image_newline").unwrap().bytes());
    assert!(other.tensor("language_model.lm_head.weight").is_ok());
    let names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 8, "{names:?}");
}

#[test]
fn synthetic_weights_depend_on_the_seed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let weights = |name: &str, seed, threads| {
        let path = dir.path().join(name);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| synth_tiny(&path, seed)).unwrap();
        std::fs::read(path.join("model.safetensors")).unwrap()
    };
    let one = weights("a", 5, 1);
    assert!(one == weights("b", 5, 3));
    assert!(one != weights("c", 6, 1));
}

#[test]
fn synth_refuses_a_folder_in_use() {
    let dir = folder(&[("notes.txt", b"mine")]);
    assert_message(synth_tiny(dir.path(), 0), &["not empty", "new one"]);
    assert_message(synth_tiny(&dir.path().join("notes.txt"), 0), &["this is a file"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn verify_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny");
    synth_tiny(&path, 0).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let mut config = Preset::Tiny.config().unwrap();
    config.text.layers += 1;
    assert_message(
        checkpoint.verify(&config),
        &["language_model.layers.4.self_attn.q_proj", "incomplete"],
    );
    let mut config = Preset::Tiny.config().unwrap();
    config.text.vocab += 1;
    assert_message(checkpoint.verify(&config), &["embed_tokens", "[2048, 128]", "[2049, 128]"]);
}
