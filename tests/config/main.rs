//! The JSON files of a model folder: defaults, spellings, and what is refused.

mod internvl;
mod quantization;
mod refused;
mod siglip;

use std::path::Path;

use hired::config::{
    Activation, Architecture, Family, Files, ModelConfig, ModelFolder, Rope, RopeScaling, from_json,
};
use serde_json::{Value, json};

/// The published LLaVA-v1.6-vicuna-7b: hardly anything about the decoder is spelled out.
fn vicuna() -> [Value; 2] {
    let grids = json!([[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]);
    let config = json!({
        "architectures": ["LlavaNextForConditionalGeneration"], "model_type": "llava_next",
        "image_grid_pinpoints": grids, "image_token_index": 32000, "projector_hidden_act": "gelu",
        "text_config": {
            "_name_or_path": "vicuna", "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096, "model_type": "llama", "pad_token_id": 0,
            "rms_norm_eps": 1e-5, "torch_dtype": "float16", "vocab_size": 32064
        },
        "torch_dtype": "float16", "use_image_newline_parameter": true,
        "vision_config": {
            "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
            "model_type": "clip_vision_model", "num_attention_heads": 16,
            "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768, "vocab_size": 32000
        },
        "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "vocab_size": 32064
    });
    let preprocessor = json!({
        "crop_size": { "height": 336, "width": 336 }, "do_center_crop": true, "do_pad": true,
        "do_normalize": true, "do_rescale": true, "do_resize": true, "image_grid_pinpoints": grids,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "LlavaNextImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3,
        "rescale_factor": 0.00392156862745098, "size": { "shortest_edge": 336 }
    });
    [config, preprocessor]
}

/// LLaVA-1.5-7b.
fn llava15() -> [Value; 2] {
    let [mut config, mut preprocessor] = vicuna();
    set(&mut config, "/model_type", json!("llava"));
    config.as_object_mut().unwrap().remove("image_grid_pinpoints");
    set(&mut preprocessor, "/image_processor_type", json!("CLIPImageProcessor"));
    preprocessor
        .as_object_mut()
        .unwrap()
        .retain(|key, _| key != "image_grid_pinpoints" && key != "do_pad");
    [config, preprocessor]
}

/// Sets the value at a JSON pointer whose parent exists.
fn set(value: &mut Value, pointer: &str, new: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.into(), new);
}

fn read(files: &[Value; 2]) -> hired::Result<ModelConfig> {
    let [config, preprocessor] = files.each_ref().map(Value::to_string);
    let files = Files {
        config: config.as_bytes(),
        preprocessor: Some(preprocessor.as_bytes()),
        processor: None,
        generation: None,
    };
    from_json(Path::new("model"), &files)
}

/// Reads with `new` at `pointer` of `config.json` (or of the preprocessor's file after `@`).
fn with(mut files: [Value; 2], pointer: &str, new: Value) -> hired::Result<ModelConfig> {
    match pointer.strip_prefix('@') {
        Some(pointer) => set(&mut files[1], pointer, new),
        None => set(&mut files[0], pointer, new),
    }
    read(&files)
}

/// The one line an error must be, with all of `parts` in it.
#[track_caller]
fn assert_message<T: std::fmt::Debug>(result: hired::Result<T>, parts: &[&str]) {
    let message = result.expect_err("this must be refused").to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.chars().count() < 1000, "{message}");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn published_vicuna() {
    let model = read(&vicuna()).unwrap();
    assert_eq!(model.architecture, Architecture::LlavaNext);
    assert_eq!(model.feature_blocks, 23);
    assert_eq!(
        (model.vision.hidden, model.vision.patches(), model.vision.head_dim()),
        (1024, 576, 64)
    );
    assert_eq!(model.vision.activation, Activation::QuickGelu);
    assert_eq!(model.vision.eps, 1e-5);
    let text = &model.text;
    assert_eq!(text.family, Family::Llama);
    assert_eq!((text.hidden, text.intermediate, text.layers), (4096, 11008, 32));
    assert_eq!((text.heads, text.kv_heads, text.head_dim), (32, 32, 128));
    assert_eq!((text.vocab, text.max_positions, text.rope.theta), (32064, 4096, 1e4));
    assert_eq!((text.eps, text.tied), (1e-5, false));
    assert_eq!(model.image.pinpoints.as_ref().unwrap()[3], (1008, 336));
    assert_eq!(model.image.mean[0], 0.48145466);
    assert_eq!((model.projector_activation, model.projector_bias), (Activation::Gelu, true));
    assert_eq!((model.image_token, model.eos), (32000, vec![2]));
}

#[test]
fn published_mistral() {
    let mut files = vicuna();
    let text = json!({
        "architectures": ["MistralForCausalLM"], "intermediate_size": 14336,
        "max_position_embeddings": 32768, "model_type": "mistral", "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": null,
        "torch_dtype": "bfloat16", "vocab_size": 32064
    });
    set(&mut files[0], "/text_config", text);
    let text = read(&files).unwrap().text;
    assert_eq!(text.family, Family::Mistral);
    assert_eq!((text.heads, text.kv_heads, text.head_dim), (32, 8, 128));
    assert_eq!((text.max_positions, text.rope.theta), (32768, 1e6));
}

/// What is absent is as transformers' Qwen2Config, Qwen3Config, Phi3Config and PhiConfig have it.
#[test]
fn decoders_have_their_classes_defaults() {
    let decoder = |text: Value| {
        let mut files = vicuna();
        set(&mut files[0], "/text_config", text);
        set(&mut files[0], "/image_token_index", json!(7));
        read(&files)
    };
    let model = decoder(json!({ "model_type": "qwen2" })).unwrap();
    let text = &model.text;
    assert_eq!((text.family, text.hidden, text.intermediate), (Family::Qwen2, 4096, 22016));
    assert_eq!((text.heads, text.kv_heads, text.head_dim), (32, 32, 128));
    assert_eq!((text.vocab, text.max_positions, text.eps), (151_936, 32768, 1e-6));
    assert_eq!((text.qkv_bias, text.head_norm, text.fused), (true, false, false));
    assert_eq!(model.eos, [0u32; 0]);
    // A window that is not in use is none.
    let window = |used: bool| {
        let text =
            json!({ "model_type": "qwen2", "sliding_window": 1000, "use_sliding_window": used });
        decoder(text).unwrap().text.max_positions
    };
    assert_eq!((window(false), window(true)), (32768, 1000));

    let qwen3 = json!({ "model_type": "qwen3", "hidden_size": 1000, "num_attention_heads": 16,
        "num_key_value_heads": 8 });
    let text = decoder(qwen3).unwrap().text;
    assert_eq!(
        (text.family, text.heads, text.kv_heads, text.head_dim),
        (Family::Qwen3, 16, 8, 128)
    );
    assert_eq!((text.qkv_bias, text.head_norm, text.fused), (false, true, false));

    let model = decoder(json!({ "model_type": "phi3" })).unwrap();
    let text = &model.text;
    assert_eq!((text.family, text.hidden, text.intermediate), (Family::Phi3, 3072, 8192));
    assert_eq!((text.heads, text.kv_heads, text.head_dim), (32, 32, 96));
    assert_eq!((text.vocab, text.max_positions, text.eps), (32064, 4096, 1e-5));
    assert_eq!((text.qkv_bias, text.head_norm, text.fused), (false, false, true));
    assert_eq!(model.eos, [32000]);
    let window = json!({ "model_type": "phi3", "sliding_window": 2047 });
    assert_eq!(decoder(window).unwrap().text.max_positions, 2047);

    let model = decoder(json!({ "model_type": "phi" })).unwrap();
    let text = &model.text;
    assert_eq!((text.family, text.hidden, text.intermediate), (Family::Phi, 2048, 8192));
    assert_eq!((text.layers, text.heads, text.kv_heads, text.head_dim), (24, 32, 32, 64));
    assert_eq!((text.vocab, text.max_positions, text.eps), (51200, 2048, 1e-5));
    assert_eq!((text.qkv_bias, text.parallel, text.head_bias), (true, true, true));
    assert_eq!((text.rope.width, model.eos), (32, vec![2]));
    let turned = |share: Value| {
        let text =
            json!({ "model_type": "phi", "hidden_size": 2560, "partial_rotary_factor": share });
        decoder(text).map(|model| model.text.rope.width)
    };
    // The product of the shares as doubles, rounded down: 0.4 of 80.
    assert_eq!([turned(json!(0.4)).unwrap(), turned(json!(1.0)).unwrap()], [32, 80]);
    let newer = json!({ "model_type": "phi", "hidden_size": 2560,
        "rope_parameters": { "partial_rotary_factor": 0.4, "rope_theta": 1e4, "rope_type": "default" } });
    assert_eq!(decoder(newer).unwrap().text.rope.width, 32);
    for share in [0.0, 0.02, 0.3126] {
        let words = ["text_config.partial_rotary_factor", "even number"];
        assert_message(turned(json!(share)).map(|_| ()), &words);
    }
    let phi = |key: &str, value: Value| decoder(json!({ "model_type": "phi", key: value }));
    assert_message(phi("qk_layernorm", json!(true)), &["text_config.qk_layernorm", "only false"]);
    assert_message(phi("hidden_act", json!("silu")), &["hidden_act", "gelu_new"]);
}

/// MobileVLM V2's projector is one of a whole image of CLIP's patches.
#[test]
fn a_pooling_projector_makes_a_token_of_four_patches() {
    let pooling = |change: &[(&str, Value)]| {
        let mut files = llava15();
        set(&mut files[0], "/projector_type", json!("ldpv2"));
        change.iter().for_each(|(key, value)| set(&mut files[0], key, value.clone()));
        read(&files)
    };
    let model = pooling(&[]).unwrap();
    assert_eq!((model.pooled, model.cell, model.tokens(), model.token_size()), (true, 2, 144, 28));
    let plain = read(&llava15()).unwrap();
    assert_eq!((plain.pooled, plain.cell, plain.tokens()), (false, 1, 576));
    let side = pooling(&[("/vision_config/image_size", json!(224))]);
    assert_message(side, &["projector_type", "24 x 24", "gives 16 x 16"]);
    let siglip = [
        ("/vision_config", json!({ "model_type": "siglip_vision_model" })),
        ("/vision_feature_select_strategy", json!("full")),
    ];
    assert_message(pooling(&siglip), &["projector_type", "clip_vision_model"]);
}

#[test]
fn published_llava15() {
    let model = read(&llava15()).unwrap();
    assert_eq!(model.architecture, Architecture::Llava);
    assert_eq!(model.image.pinpoints, None);
    assert_eq!(model.image.side, 336);
}

#[test]
fn absent_sections_have_the_classes_defaults() {
    let mut files = vicuna();
    files[0] = json!({ "model_type": "llava_next" });
    let model = read(&files).unwrap();
    assert_eq!((model.vision.hidden, model.vision.layers), (1024, 24));
    assert_eq!((model.text.vocab, model.text.max_positions), (32000, 2048));
    assert_eq!(model.text.eps, 1e-6);
    assert_eq!(model.image.pinpoints.unwrap().len(), 5);

    // A tower that is there defaults as CLIPVisionConfig, not as LLaVA's.
    files[0] = json!({ "model_type": "llava_next", "vision_config": { "image_size": 336, "patch_size": 14 } });
    let vision = read(&files).unwrap().vision;
    assert_eq!(
        (vision.hidden, vision.intermediate, vision.layers, vision.heads),
        (768, 3072, 12, 12)
    );

    // MistralConfig shares keys and values and slides its window unless told otherwise.
    files[0] = json!({ "model_type": "llava_next", "text_config": { "model_type": "mistral" } });
    let text = read(&files).unwrap().text;
    assert_eq!((text.intermediate, text.kv_heads, text.max_positions), (14336, 8, 4096));
}

#[test]
fn both_spellings_and_values_that_read_as_absent() {
    let mut files = vicuna();
    files[0].as_object_mut().unwrap().remove("image_token_index");
    set(&mut files[0], "/image_token_id", json!(77));
    assert_eq!(read(&files).unwrap().image_token, 77);

    let rope = json!({ "rope_theta": 5e5, "rope_type": "default" });
    let text = with(vicuna(), "/text_config/rope_parameters", rope).unwrap().text;
    assert_eq!(text.rope.theta, 5e5);
    let scaling = json!({ "type": "default" });
    with(vicuna(), "/text_config/rope_scaling", scaling).unwrap();
    // "dynamic" begins behind the last position that is allowed here.
    let dynamic = json!({ "type": "dynamic", "factor": 2.0 });
    let text = with(vicuna(), "/text_config/rope_scaling", dynamic).unwrap().text;
    assert_eq!((text.rope.scaling, text.max_positions), (RopeScaling::Default, 4096));
    let linear = json!({ "type": "linear", "factor": 4 });
    let text = with(vicuna(), "/text_config/rope_scaling", linear).unwrap().text;
    let expected = Rope { theta: 1e4, width: 128, scaling: RopeScaling::Linear { factor: 4.0 } };
    assert_eq!(text.rope, expected);
    let llama3 = json!({ "rope_type": "llama3", "factor": 8, "rope_theta": 5e5 });
    let text = with(vicuna(), "/text_config/rope_parameters", llama3).unwrap().text;
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_positions: 4096.0,
    };
    assert_eq!(text.rope, Rope { theta: 5e5, width: 128, scaling });

    for absent in ["head_dim", "num_key_value_heads", "rope_theta", "rope_scaling", "hidden_size"] {
        let model = with(vicuna(), &format!("/text_config/{absent}"), Value::Null).unwrap();
        assert_eq!(model, read(&vicuna()).unwrap(), "{absent}");
    }
    let mut mistral = vicuna();
    set(&mut mistral[0], "/text_config/model_type", json!("mistral"));
    let text = with(mistral.clone(), "/text_config/num_key_value_heads", Value::Null).unwrap().text;
    assert_eq!(text.kv_heads, 32);
    let window = |value| with(mistral.clone(), "/text_config/sliding_window", value).unwrap();
    assert_eq!(window(Value::Null).text.max_positions, 4096);
    assert_eq!(window(json!(1000)).text.max_positions, 1000);
    assert_eq!(window(json!(100_000)).text.max_positions, 4096);
    // LLaMA has no window.
    let text = with(vicuna(), "/text_config/sliding_window", json!(16)).unwrap().text;
    assert_eq!(text.max_positions, 4096);
}

#[test]
fn tied_embeddings() {
    assert!(with(vicuna(), "/tie_word_embeddings", json!(true)).unwrap().text.tied);
    // LlavaNextConfig does not take the decoder's setting over, but its files may hold no head all the same.
    assert!(with(vicuna(), "/text_config/tie_word_embeddings", json!(true)).unwrap().text.tied);
    assert!(with(llava15(), "/text_config/tie_word_embeddings", json!(true)).unwrap().text.tied);
}

#[test]
fn feature_layer_counts_hidden_states() {
    let blocks = |layer: i64| {
        with(vicuna(), "/vision_feature_layer", json!(layer)).map(|m| m.feature_blocks)
    };
    assert_eq!(blocks(-1).unwrap(), 24);
    assert_eq!(blocks(-24).unwrap(), 1);
    assert_eq!(blocks(24).unwrap(), 24);
    assert_eq!(blocks(1).unwrap(), 1);
    for wrong in [0, -25, -26, 25, i64::MIN, i64::MAX] {
        assert_message(blocks(wrong), &["config.json: vision_feature_layer", "24 blocks"]);
    }
}

#[test]
fn end_of_answer() {
    let eos = |generation: Option<Value>, text: Value| {
        let [mut config, preprocessor] = vicuna();
        set(&mut config, "/text_config/eos_token_id", text);
        let [config, preprocessor] = [config, preprocessor].map(|v| v.to_string());
        let generation = generation.map(|v| v.to_string());
        let files = Files {
            config: config.as_bytes(),
            preprocessor: Some(preprocessor.as_bytes()),
            processor: None,
            generation: generation.as_deref().map(str::as_bytes),
        };
        from_json(Path::new("model"), &files).map(|model| model.eos)
    };
    assert_eq!(eos(Some(json!({ "eos_token_id": [7, 9] })), json!(5)).unwrap(), [7, 9]);
    assert_eq!(eos(Some(json!({ "eos_token_id": 7 })), json!(5)).unwrap(), [7]);
    assert_eq!(eos(Some(json!({ "eos_token_id": null })), json!([5])).unwrap(), [5]);
    assert_eq!(eos(None, Value::Null).unwrap(), [2]);
    for wrong in [json!(-1), json!([]), json!("2"), json!([2, 1e30]), json!(4_294_967_296u64)] {
        let generation = Some(json!({ "eos_token_id": wrong }));
        assert_message(eos(generation, json!(2)), &["generation_config.json: eos_token_id"]);
    }
}

#[test]
fn preprocessing_in_every_spelling() {
    let expected = read(&vicuna()).unwrap().image;
    let same = [
        ("@/size", json!(336)),
        ("@/size", json!({ "height": 336, "width": 336 })),
        ("@/size", json!({ "shortest_edge": 336, "longest_edge": null })),
        ("@/crop_size", json!(336)),
        ("@/image_grid_pinpoints", Value::Null),
        ("@/image_processor_type", json!("LlavaNextImageProcessorFast")),
        ("@/image_processor_type", Value::Null),
        ("@/resample", Value::Null),
        ("@/rescale_factor", json!(1.0 / 255.0)),
        // Sub-images have their size already; padding is for batches.
        ("@/do_resize", json!(false)),
        ("@/do_center_crop", json!(false)),
        ("@/do_pad", json!(false)),
    ];
    for (key, value) in same {
        assert_eq!(with(vicuna(), key, value.clone()).unwrap().image, expected, "{key} {value}");
    }
    let mean = with(vicuna(), "@/image_mean", json!([0.5, 0.25, 0])).unwrap().image.mean;
    assert_eq!(mean, [0.5, 0.25, 0.0]);
    with(llava15(), "@/image_processor_type", json!("LlavaImageProcessor")).unwrap();
}

#[test]
fn nested_image_processor_goes_first() {
    let [config, mut preprocessor] = vicuna();
    set(&mut preprocessor, "/image_std", json!([0.5, 0.5, 0.5]));
    let config = config.to_string();
    let processor = json!({ "image_processor": preprocessor, "patch_size": 14 }).to_string();
    let older = vicuna()[1].to_string();
    let read = |processor: &str, preprocessor| {
        let files = Files {
            config: config.as_bytes(),
            preprocessor,
            processor: Some(processor.as_bytes()),
            generation: None,
        };
        from_json(Path::new("model"), &files).map(|model| model.image.std[0])
    };
    assert_eq!(read(&processor, None).unwrap(), 0.5);
    assert_eq!(read(&processor, Some(older.as_bytes())).unwrap(), 0.5);
    assert_eq!(read("{}", Some(older.as_bytes())).unwrap(), 0.26862954);
    assert_message(
        read("{}", None),
        &["preprocessor_config.json", "processor_config.json", "download"],
    );
}

#[test]
fn folders() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    assert_message(ModelFolder::open(&path.join("none")), &["none", "no such folder"]);
    assert_message(ModelFolder::open(path), &["no config.json"]);

    let [config, preprocessor] = vicuna().map(|v| v.to_string());
    std::fs::write(path.join("config.json"), &config).unwrap();
    assert_message(ModelFolder::open(path), &["preprocessor_config.json", "download"]);
    std::fs::write(path.join("preprocessor_config.json"), &preprocessor).unwrap();
    let folder = ModelFolder::open(path).unwrap();
    assert_eq!((folder.dir.as_path(), folder.config.eos), (path, vec![2]));
    assert_message(ModelFolder::open(&path.join("config.json")), &["this is a file", "folder"]);

    std::fs::write(path.join("generation_config.json"), "{").unwrap();
    assert_message(ModelFolder::open(path), &["generation_config.json", "JSON"]);
    let huge = std::fs::File::create(path.join("generation_config.json")).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert_message(ModelFolder::open(path), &["generation_config.json", "larger than 16 MiB"]);
    std::fs::remove_file(path.join("config.json")).unwrap();
    std::fs::create_dir(path.join("config.json")).unwrap();
    assert_message(ModelFolder::open(path), &["config.json", "not a regular file"]);
}
