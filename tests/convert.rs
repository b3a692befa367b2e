//! `tools/convert`: fixtures taken back to the layout of LLaVA's own code, converted, and asked the same as before.

use hired::{Device, Engine, EngineOptions, Image, Prompt, Request};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Words of the fixtures' tokenizers without those of images and padding.
const WORDS: usize = 359;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/models").join(name)
}

fn read_json(path: PathBuf) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn write_json(path: PathBuf, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    serialize_to_file(views, None, path).unwrap();
}

/// Whose own layout a fixture is taken back to.
#[derive(Clone, Copy, PartialEq)]
enum Maker {
    Llava,
    LlavaPhi,
    MobileVlm,
}

impl Maker {
    fn of(model: &str) -> Self {
        match model {
            "llava-phi" => Self::LlavaPhi,
            "mobilevlm" => Self::MobileVlm,
            _ => Self::Llava,
        }
    }
}

/// What the maker's code calls a tensor of the hub.
fn original_name(maker: Maker, name: &str) -> String {
    let own: &[(&str, &str)] = match maker {
        Maker::Llava => &[],
        Maker::LlavaPhi => &[("vision_tower.vision_model.", "model.vision_tower.vision_model.")],
        Maker::MobileVlm => &[
            ("multi_modal_projector.linear_1.", "model.mm_projector.mlp.mlp.0."),
            ("multi_modal_projector.linear_2.", "model.mm_projector.mlp.mlp.2."),
            ("multi_modal_projector.peg.", "model.mm_projector.peg.peg.0."),
        ],
    };
    let llavas = [
        ("vision_tower.vision_model.", "model.vision_tower.vision_tower.vision_model."),
        ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
        ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
        ("image_newline", "model.image_newline"),
        ("language_model.lm_head.", "lm_head."),
        ("language_model.model.", "model."),
    ];
    for (hub, original) in own.iter().chain(&llavas) {
        if let Some(rest) = name.strip_prefix(hub) {
            return format!("{original}{rest}");
        }
    }
    panic!("{name}")
}

/// A fixture as LLaVA's own code would have saved it; its tower alone in `tower`, if that is given.
fn original(model: &str, out: &Path, tower: Option<&Path>) {
    let (source, maker) = (fixture(model), Maker::of(model));
    std::fs::create_dir_all(out).unwrap();
    let bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let (mut tensors, mut of_tower) = (Tensors::new(), Tensors::new());
    for (name, tensor) in stored.tensors() {
        if name.ends_with("position_ids") || name.ends_with("inv_freq") {
            continue;
        }
        let (mut shape, mut data) = (tensor.shape().to_vec(), tensor.data().to_vec());
        if ["embed_tokens.weight", "lm_head.weight", "lm_head.bias"]
            .iter()
            .any(|n| name.ends_with(n))
        {
            data.truncate(data.len() / shape[0] * WORDS);
            shape[0] = WORDS;
        }
        let entry = (tensor.dtype(), shape, data);
        match name.strip_prefix("vision_tower.").filter(|_| tower.is_some()) {
            Some(name) => of_tower.insert(name.to_owned(), entry),
            None => tensors.insert(original_name(maker, &name), entry),
        };
    }
    write(&out.join("model.safetensors"), &tensors);
    if let Some(tower) = tower {
        std::fs::create_dir_all(tower).unwrap();
        // The half that reads text has no part in it.
        let text = (Dtype::F16, vec![2], vec![0; 4]);
        of_tower.insert("text_model.final_layer_norm.weight".into(), text);
        write(&tower.join("model.safetensors"), &of_tower);
    }

    let config = read_json(source.join("config.json"));
    if let Some(tower) = tower {
        write_json(tower.join("config.json"), &json!({ "vision_config": config["vision_config"] }));
    }
    let mut flat = config["text_config"].clone();
    flat["model_type"] = "llava_llama".into();
    flat["vocab_size"] = WORDS.into();
    flat["mm_vision_tower"] = "openai/clip-vit-large-patch14-336".into();
    flat["mm_vision_select_layer"] = config["vision_feature_layer"].clone();
    flat["mm_vision_select_feature"] = "patch".into();
    flat["mm_projector_type"] = "mlp2x_gelu".into();
    match maker {
        Maker::Llava => {}
        Maker::MobileVlm => {
            flat["model_type"] = "mobilevlm".into();
            flat["mm_projector_type"] = "ldpnetv2".into();
            flat["vision_tower_type"] = "clip".into();
        }
        Maker::LlavaPhi => {
            flat["model_type"] = "llava_phi".into();
            let mut tower = config["vision_config"].clone();
            tower["model_type"] = "llava_phi_clip_vision_model".into();
            tower["mm_vision_select_layer"] = config["vision_feature_layer"].clone();
            tower["mm_vision_select_feature"] = "patch".into();
            let projector =
                json!({ "mm_projector_type": "mlp2x_gelu", "model_type": "llava_phi_projector" });
            flat["vision_config"] = json!({ "vision_tower": tower, "mm_projector": projector });
            for key in [
                "mm_vision_tower",
                "mm_vision_select_layer",
                "mm_vision_select_feature",
                "mm_projector_type",
            ] {
                flat.as_object_mut().unwrap().remove(key);
            }
        }
    }
    if let Some(points) = config["image_grid_pinpoints"].as_array() {
        let swapped = points.iter().map(|point| json!([point[1], point[0]]));
        flat["image_grid_pinpoints"] = swapped.collect();
        flat["image_aspect_ratio"] = "anyres".into();
        flat["mm_patch_merge_type"] = "spatial_unpad".into();
    }
    write_json(out.join("config.json"), &flat);
    let mut tokenizer = read_json(source.join("tokenizer.json"));
    let words = tokenizer["added_tokens"].as_array_mut().unwrap();
    words.retain(|word| word["id"].as_u64().unwrap() < WORDS as u64);
    write_json(out.join("tokenizer.json"), &tokenizer);
    let generation = source.join("generation_config.json");
    if generation.exists() {
        std::fs::copy(generation, out.join("generation_config.json")).unwrap();
    }
}

/// The folder's tensors by other names.
fn renamed(folder: &Path, name: &dyn Fn(&str) -> String) {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Tensors = (stored.tensors().into_iter())
        .map(|(old, t)| (name(&old), (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    write(&folder.join("model.safetensors"), &tensors);
}

/// Runs the tool; `None` where there is no Python.
fn convert(model: &Path, out: &Path, more: &[&str]) -> Option<Output> {
    let mut command = Command::new("python3");
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(root().join("tools/convert"));
    command.arg("--model").arg(model).arg("--out").arg(out).args(more);
    match command.output() {
        Ok(output) => Some(output),
        Err(_) => {
            eprintln!("skipped: no python3");
            None
        }
    }
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Tokens, and the logits of the words that were there before.
fn answer(folder: &Path, prompt: Prompt) -> (Vec<u32>, Vec<f32>) {
    let options = EngineOptions::default().with_device(Device::Cpu);
    let mut engine = Engine::load(folder, options).unwrap();
    let picture = root().join("tests/fixtures/images/portrait-70x110.png");
    let request = Request::new(prompt)
        .with_image(Image::encoded("portrait.png", std::fs::read(picture).unwrap()))
        // Longer answers of the fixtures have words of rows that pad the vocabulary, which the originals lack.
        .with_max_new_tokens(8)
        .with_keep_stages(true);
    let answer = engine.generate(&request, |_| ControlFlow::Continue(())).unwrap();
    let mut logits = answer.stages.unwrap().prefill_logits;
    logits.truncate(WORDS);
    (answer.token_ids, logits)
}

const PROMPT: &str = "USER: <image>\nWhat is it? ASSISTANT:";

#[test]
fn converted_folders_answer_as_the_models_they_are() {
    let dir = tempfile::tempdir().unwrap();
    for (model, heads) in [("next-hub", "4"), ("llava15", "2")] {
        for separate in [false, true] {
            let [from, to, tower] = ["from", "to", "tower"]
                .map(|name| dir.path().join(format!("{model}-{separate}-{name}")));
            original(model, &from, separate.then_some(tower.as_path()));
            // A tower's own folder knows its heads.
            let more = match separate {
                true => ["--tower", tower.to_str().unwrap()],
                false => ["--tower-heads", heads],
            };
            let Some(output) = convert(&from, &to, &more) else { return };
            done(&output);
            let expected = answer(&fixture(model), Prompt::Raw(PROMPT.into()));
            assert_eq!(answer(&to, Prompt::Raw(PROMPT.into())), expected, "{model} {separate}");
        }
    }
}

/// LLaVA-Phi describes its tower, of MobileVLM's nobody knows the heads.
#[test]
fn folders_of_llava_phi_and_mobilevlm_answer_as_the_models_they_are() {
    let dir = tempfile::tempdir().unwrap();
    for (model, more) in [("llava-phi", &[][..]), ("mobilevlm", &["--tower-heads", "4"])] {
        let [from, to] = ["from", "to"].map(|name| dir.path().join(format!("{model}-{name}")));
        original(model, &from, None);
        let Some(output) = convert(&from, &to, more) else { return };
        done(&output);
        let expected = answer(&fixture(model), Prompt::Raw(PROMPT.into()));
        assert_eq!(answer(&to, Prompt::Raw(PROMPT.into())), expected, "{model}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let chat = if model == "llava-phi" { "chat template phi" } else { "chat template vicuna" };
        assert!(said.contains(chat), "{said}");
    }
    let config = read_json(dir.path().join("mobilevlm-to/config.json"));
    assert_eq!(config["projector_type"], "ldpv2");
    let inspected = hired::inspect(
        dir.path().join("llava-phi-to"),
        &EngineOptions::default(),
        &hired::Selection::default(),
    );
    let prompt = inspected.unwrap().template.replace("{question}", "What?");
    assert!(prompt.ends_with("questions. USER: <image>\nWhat? ASSISTANT:"), "{prompt:?}");
}

#[test]
fn templates_are_those_of_the_original_code() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    original("next-hub", &from, None);
    for (chat, begins, ends) in [
        ("vicuna", "A chat between a curious user", "questions. USER: <image>\nWhat? ASSISTANT:"),
        ("mistral", "[INST] <image>\nWhat? [/INST]", "[INST] <image>\nWhat? [/INST]"),
        (
            "chatml",
            "<|im_start|>system\nAnswer the questions.<|im_end|><|im_start|>user\n<image>\nWhat?",
            "<|im_end|><|im_start|>assistant\n",
        ),
        (
            "llama3",
            "<|start_header_id|>system<|end_header_id|>\n\nYou are a helpful language",
            "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat?<|eot_id|>\
             <|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
    ] {
        let to = dir.path().join(chat);
        let Some(output) = convert(&from, &to, &["--tower-heads", "4", "--chat", chat]) else {
            return;
        };
        done(&output);
        let inspected =
            hired::inspect(&to, &EngineOptions::default(), &hired::Selection::default()).unwrap();
        let prompt = inspected.template.replace("{question}", "What?");
        assert!(prompt.starts_with(begins) && prompt.ends_with(ends), "{chat}: {prompt:?}");
    }
    // By default as the name of the folder and the decoder say.
    let to = dir.path().join("default");
    let output = convert(&from, &to, &["--tower-heads", "4"]).unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("chat template vicuna"));
}

#[test]
fn what_is_not_converted_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let refused_of = |model: &str, name: &str, words: &[&str], change: &dyn Fn(&Path)| {
        let (from, to) = (dir.path().join(name), dir.path().join(format!("{name}-out")));
        original(model, &from, None);
        change(&from);
        let Some(output) = convert(&from, &to, &[]) else { return };
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("convert: ") && said.trim_end().lines().count() == 1, "{said}");
        for word in words {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(!to.exists(), "{name}: something stays");
    };
    let refused = |name: &str, words: &[&str], change: &dyn Fn(&Path)| {
        refused_of("next-hub", name, words, change);
    };
    let set = |key: &'static str, value: Value| {
        move |folder: &Path| {
            let mut config = read_json(folder.join("config.json"));
            config[key] = value.clone();
            write_json(folder.join("config.json"), &config);
        }
    };
    refused("mpt", &["llava_mpt", "MPT"], &set("model_type", "llava_mpt".into()));
    let first = set("mm_projector_type", "ldpnet".into());
    refused_of("mobilevlm", "first", &["mm_projector_type", "'ldpnet'", "'ldpnetv2'"], &first);
    let side = ["LDPv2", "24 x 24", "4 x 4"];
    refused_of("llava15", "side", &side, &|folder| {
        let mut config = read_json(folder.join("config.json"));
        config["model_type"] = "mobilevlm".into();
        config["mm_projector_type"] = "ldpnetv2".into();
        write_json(folder.join("config.json"), &config);
        renamed(folder, &|name| match name {
            "model.mm_projector.0.weight" => "model.mm_projector.peg.peg.0.weight".into(),
            "model.mm_projector.0.bias" => "model.mm_projector.mlp.mlp.0.weight".into(),
            name => name.into(),
        });
    });
    let fused = ["layers.0.self_attn.query_key_value", "4.36"];
    refused_of("llava-phi", "fused", &fused, &|folder| {
        renamed(folder, &|name| {
            name.replace("layers.0.self_attn.q_proj", "layers.0.self_attn.query_key_value")
        });
    });
    refused_of(
        "llava-phi",
        "section",
        &["mm_projector_type", "linear"],
        &set("vision_config", json!({})),
    );
    refused("linear", &["mm_projector_type", "linear"], &set("mm_projector_type", "linear".into()));
    refused("start", &["mm_use_im"], &set("mm_use_im_start_end", true.into()));
    refused("point", &["pinpoint", "28"], &set("image_grid_pinpoints", json!([[30, 28]])));
    refused("tensor", &["lora_A", "LoRA"], &|folder| {
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let stored = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Tensors = (stored.tensors().into_iter())
            .map(|(name, t)| (name, (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
            .collect();
        tensors.insert("base_model.q_proj.lora_A".into(), (Dtype::F16, vec![1], vec![0, 0]));
        write(&folder.join("model.safetensors"), &tensors);
    });
    refused("short", &["model.safetensors", "download"], &|folder| {
        let file = folder.join("model.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 10]).unwrap();
    });
    refused("words", &["tokenizer.json", "--tokenizer"], &|folder| {
        std::fs::remove_file(folder.join("tokenizer.json")).unwrap();
    });
    refused("json", &["config.json", "no JSON"], &|folder| {
        std::fs::write(folder.join("config.json"), "{").unwrap();
    });
    // The tower is missing, and what is there already is left alone.
    let [from, tower, out] = ["from", "tower", "out"].map(|name| dir.path().join(name));
    original("llava15", &from, Some(&tower));
    std::fs::create_dir(&out).unwrap();
    let Some(output) = convert(&from, &out, &[]) else { return };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--tower") && said.contains("openai/clip"), "{said}");
    assert!(out.exists());
    std::fs::write(out.join("mine"), "x").unwrap();
    let output = convert(&from, &out, &["--tower", tower.to_str().unwrap()]).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("not empty"));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
}

/// Files of torch.save, where there is torch: both layouts.
#[test]
fn pickled_weights_are_converted() {
    const PICKLE: &str = "import sys, pathlib, torch\n\
        from safetensors.torch import load_file\n\
        folder = pathlib.Path(sys.argv[1])\n\
        found = load_file(folder / 'model.safetensors')\n\
        names = sorted(found)\n\
        for number, part in enumerate((names[::2], names[1::2]), 1):\n\
        \x20   torch.save({n: found[n] for n in part}, folder / f'pytorch_model-0000{number}-of-00002.bin')\n\
        (folder / 'model.safetensors').unlink()";
    let dir = tempfile::tempdir().unwrap();
    let [from, to] = ["from", "to"].map(|name| dir.path().join(name));
    original("next-hub", &from, None);
    let python = |folder: &Path| {
        Command::new("python3")
            .args(["-c", PICKLE])
            .arg(folder)
            .output()
            .is_ok_and(|o| o.status.success())
    };
    if !python(&from) {
        eprintln!("skipped: no python3 with torch and safetensors");
        return;
    }
    done(&convert(&from, &to, &["--tower-heads", "4"]).unwrap());
    let expected = answer(&fixture("next-hub"), Prompt::Raw(PROMPT.into()));
    assert_eq!(answer(&to, Prompt::Raw(PROMPT.into())), expected);

    let [hub, out] = ["hub", "hub-out"].map(|name| dir.path().join(name));
    std::fs::create_dir(&hub).unwrap();
    for entry in std::fs::read_dir(fixture("next-hub")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, hub.join(path.file_name().unwrap())).unwrap();
    }
    assert!(python(&hub));
    done(&convert(&hub, &out, &[]).unwrap());
    assert_eq!(
        answer(&out, Prompt::User("What is it?".into())),
        answer(&fixture("next-hub"), Prompt::User("What is it?".into()))
    );
    let said = convert(&fixture("next-hub"), &dir.path().join("again"), &[]).unwrap().stderr;
    assert!(String::from_utf8_lossy(&said).contains("reads it as it is"));
}
