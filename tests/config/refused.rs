//! Values, and places for them, that no model has.

use std::path::Path;

use hired::config::{Files, from_json};
use serde_json::{Value, json};

use crate::{assert_message, llava15, read, set, vicuna, with};

/// Every value that must be refused, with what the message must name.
#[test]
fn refused_values() {
    let config: &[(&str, Value, &[&str])] = &[
        ("/model_type", json!("llava_llama"), &["model_type", "original", "llava-hf"]),
        ("/model_type", json!("qwen2_vl"), &["model_type", "qwen2_vl", "llava_next"]),
        ("/model_type", json!(3), &["model_type", "string"]),
        ("/model_type", json!("llava\u{7f}\u{85}\u{9b}2J"), &["model_type", "llava   2J"]),
        (
            "/vision_feature_select_strategy",
            json!("full"),
            &["vision_feature_select_strategy", "full"],
        ),
        ("/vision_feature_layer", json!([-2, -5]), &["vision_feature_layer", "[-2,-5]"]),
        ("/vision_feature_layer", json!(1e30), &["vision_feature_layer"]),
        ("/projector_hidden_act", json!("gelu_new"), &["projector_hidden_act", "gelu_new"]),
        ("/image_token_index", json!(32064), &["image_token_index", "32064"]),
        ("/image_token_index", json!(-1), &["image_token_index", "-1"]),
        ("/projector_type", json!("ldp"), &["projector_type", "ldpv2"]),
        ("/projector_type", json!("ldpv2"), &["projector_type", "one whole image", "llava"]),
        ("/multimodal_projector_bias", json!("yes"), &["multimodal_projector_bias"]),
        ("/text_config", json!([]), &["text_config", "object"]),
        ("/text_config/model_type", json!("gemma"), &["text_config.model_type", "gemma"]),
        ("/text_config/hidden_size", json!(0), &["text_config.hidden_size", "0"]),
        ("/text_config/hidden_size", json!(-4096), &["text_config.hidden_size", "-4096"]),
        ("/text_config/hidden_size", json!(1e30), &["text_config.hidden_size", "1e+30"]),
        ("/text_config/hidden_size", json!(u64::MAX), &["text_config.hidden_size"]),
        ("/text_config/hidden_size", json!("4096"), &["text_config.hidden_size"]),
        ("/text_config/hidden_size", json!(4097), &["num_attention_heads", "4097"]),
        ("/text_config/num_hidden_layers", json!(1_000_000), &["num_hidden_layers"]),
        ("/text_config/num_attention_heads", json!(0), &["num_attention_heads"]),
        ("/text_config/num_attention_heads", json!(33), &["33", "does not divide"]),
        ("/text_config/num_attention_heads", json!(8), &["head_dim", "512", "128"]),
        ("/text_config/num_key_value_heads", json!(5), &["num_key_value_heads", "5", "32"]),
        ("/text_config/head_dim", json!(63), &["head_dim", "63", "even"]),
        ("/text_config/head_dim", json!(0), &["head_dim", "0"]),
        ("/text_config/vocab_size", json!(1u64 << 40), &["vocab_size"]),
        ("/text_config/max_position_embeddings", json!(1u64 << 40), &["max_position_embeddings"]),
        ("/text_config/rms_norm_eps", json!(-1e-5), &["rms_norm_eps"]),
        ("/text_config/rope_theta", json!(0), &["rope_theta"]),
        (
            "/text_config/rope_scaling",
            json!({ "type": "longrope", "factor": 2 }),
            &["rope_scaling.type", "longrope", "llama3"],
        ),
        ("/text_config/rope_scaling", json!({ "type": "linear" }), &["rope_scaling.factor"]),
        (
            "/text_config/rope_scaling",
            json!({ "type": "linear", "factor": 0 }),
            &["rope_scaling.factor", "0"],
        ),
        (
            "/text_config/rope_parameters",
            json!({ "rope_type": "llama3", "factor": 8, "low_freq_factor": 4 }),
            &["rope_parameters.high_freq_factor", "low_freq_factor"],
        ),
        ("/text_config/partial_rotary_factor", json!(0.5), &["partial_rotary_factor"]),
        ("/text_config/attention_bias", json!(true), &["attention_bias", "true"]),
        ("/text_config/mlp_bias", json!(true), &["mlp_bias"]),
        ("/text_config/hidden_act", json!("gelu"), &["text_config.hidden_act", "gelu"]),
        (
            "/vision_config/model_type",
            json!("siglip_vision_model"),
            &["vision_feature_select_strategy", "siglip", "first patch", "full"],
        ),
        (
            "/vision_config/model_type",
            json!("dinov2"),
            &["vision_config.model_type", "dinov2", "siglip_vision_model"],
        ),
        ("/vision_config/num_channels", json!(1), &["num_channels"]),
        ("/vision_config/image_size", json!(1_000_000), &["vision_config.image_size"]),
        ("/vision_config/image_size", json!(335), &["patch_size", "335"]),
        ("/vision_config/patch_size", json!(0), &["patch_size"]),
        ("/vision_config/patch_size", json!(1), &["patch", "112896"]),
        ("/vision_config/num_attention_heads", json!(4), &["num_attention_heads", "256"]),
        ("/vision_config/hidden_act", json!("relu"), &["vision_config.hidden_act", "relu"]),
        ("/vision_config/layer_norm_eps", json!(1e30), &["layer_norm_eps"]),
        ("/image_grid_pinpoints", json!([]), &["image_grid_pinpoints"]),
        ("/image_grid_pinpoints", json!([[336]]), &["image_grid_pinpoints", "[height, width]"]),
        ("/image_grid_pinpoints", json!([[336, 0]]), &["image_grid_pinpoints", "multiple"]),
        ("/image_grid_pinpoints", json!([[336, 500]]), &["[336, 500]", "multiple", "336"]),
        ("/image_grid_pinpoints", json!([[336, 336 * 65]]), &["sub-images", "64"]),
        ("/image_grid_pinpoints", json!([[336u64 << 50, 336u64 << 50]]), &["sub-images"]),
        ("/image_grid_pinpoints", json!(vec![[336, 336]; 2000]), &["2000"]),
        (
            "/image_grid_pinpoints",
            json!([[336, 672]]),
            &["preprocessor_config.json", "image_grid_pinpoints", "config.json"],
        ),
    ];
    for (key, value, parts) in config {
        assert_message(with(vicuna(), key, value.clone()), parts);
    }
    let preprocessor: &[(&str, Value, &[&str])] = &[
        ("@/size", json!({ "shortest_edge": 224 }), &["size", "224", "336"]),
        ("@/size", json!({ "height": 336, "width": 224 }), &["size"]),
        ("@/size", json!({ "shortest_edge": 336, "longest_edge": 500 }), &["size"]),
        ("@/size", json!("336"), &["size"]),
        ("@/size", Value::Null, &["size", "224"]),
        ("@/crop_size", json!({ "shortest_edge": 336 }), &["crop_size"]),
        ("@/crop_size", json!(1e30), &["crop_size"]),
        ("@/resample", json!(2), &["resample", "3"]),
        ("@/do_rescale", json!(false), &["do_rescale", "false"]),
        ("@/do_normalize", json!(false), &["do_normalize"]),
        ("@/image_mean", json!([0.5, 0.5]), &["image_mean"]),
        ("@/image_mean", json!([0.5, 0.5, 1e30]), &["image_mean"]),
        ("@/image_std", json!([0.5, 0.5, 0.0]), &["image_std"]),
        ("@/rescale_factor", json!(0), &["rescale_factor"]),
        (
            "@/image_processor_type",
            json!("SiglipImageProcessor"),
            &["image_processor_type", "Siglip"],
        ),
        ("@/image_grid_pinpoints", json!([[1, 2]]), &["image_grid_pinpoints"]),
    ];
    for (key, value, parts) in preprocessor {
        let parts = [parts, &["preprocessor_config.json"][..]].concat();
        assert_message(with(vicuna(), key, value.clone()), &parts);
    }
    for (key, value) in [
        ("@/do_resize", json!(false)),
        ("@/do_center_crop", json!(false)),
        ("@/size", json!({ "height": 336, "width": 336 })),
        ("@/image_processor_type", json!("LlavaNextImageProcessor")),
    ] {
        assert_message(with(llava15(), key, value), &["preprocessor_config.json", &key[2..]]);
    }
}

#[test]
fn files_that_are_no_json() {
    let texts: [&[u8]; 8] =
        [b"", b"[]", b"null", b"{", b"\xff\xfe", b"{\"a\": 1e999}", b"{}x", &[b'['; 100_000]];
    for text in texts {
        let files = Files { config: text, preprocessor: None, processor: None, generation: None };
        assert_message(
            from_json(Path::new("model"), &files),
            &["config.json", "download it again"],
        );
    }
    let files = Files { config: b"{}", preprocessor: None, processor: None, generation: None };
    assert_message(from_json(Path::new("model"), &files), &["config.json: model_type is missing"]);
}

/// Whatever stands in whichever place: a configuration or one line, never a panic.
#[test]
fn anything_anywhere() {
    fn places(value: &Value, at: String, out: &mut Vec<String>) {
        if let Value::Object(map) = value {
            for (key, value) in map {
                places(value, format!("{at}/{key}"), out);
            }
        }
        out.push(at);
    }
    let wild = [
        Value::Null,
        json!(0),
        json!(1),
        json!(-1),
        json!(0.5),
        json!(1e30),
        json!(1e-300),
        json!(16_777_216),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(""),
        json!("a\nb\u{1b}[2J\u{7f}\u{9b}2J"),
        json!("x".repeat(10_000)),
        json!(true),
        json!([]),
        json!([[]]),
        json!([[u64::MAX, u64::MAX]]),
        json!({}),
        json!({ "model_type": "mistral" }),
    ];
    let mut read_well = 0;
    for files in [vicuna(), llava15()] {
        for file in 0..2 {
            let mut pointers = Vec::new();
            places(&files[file], String::new(), &mut pointers);
            for pointer in pointers {
                for value in &wild {
                    let mut files = files.clone();
                    *files[file].pointer_mut(&pointer).unwrap() = value.clone();
                    match read(&files) {
                        Ok(config) => {
                            read_well += 1;
                            let weights = hired::checkpoint::layout(&config);
                            assert!(weights.iter().map(|w| w.elements()).sum::<usize>() < 1 << 60);
                        }
                        Err(e) => {
                            let message = e.to_string();
                            assert!(!message.contains(char::is_control), "{message:?}");
                            assert!(message.len() < 400, "{message}");
                        }
                    }
                }
            }
        }
    }
    assert!(read_well > 100, "{read_well}");
}

/// The largest model that is let in can be planned for in 64 bits.
#[test]
fn largest_numbers_let_in() {
    let mut files = llava15();
    for (key, value) in [
        ("/text_config/hidden_size", 1 << 20),
        ("/text_config/intermediate_size", 1 << 22),
        ("/text_config/num_attention_heads", 1 << 14),
        ("/text_config/num_hidden_layers", 1000),
        ("/text_config/vocab_size", 1 << 24),
        ("/text_config/max_position_embeddings", 1 << 24),
        ("/vision_config/hidden_size", 1 << 20),
        ("/vision_config/intermediate_size", 1 << 22),
        ("/vision_config/num_attention_heads", 1 << 14),
        ("/vision_config/num_hidden_layers", 1000),
        ("/vision_config/image_size", 8192),
        ("/vision_config/patch_size", 32),
    ] {
        set(&mut files[0], key, json!(value));
    }
    set(&mut files[1], "/size", json!({ "shortest_edge": 8192 }));
    set(&mut files[1], "/crop_size", json!(8192));
    let config = read(&files).unwrap();
    let bytes = |n: usize| n.checked_mul(4).unwrap();
    let weights =
        hired::checkpoint::layout(&config).iter().map(|w| bytes(w.elements())).sum::<usize>();
    let text = &config.text;
    let kv = [2, text.layers, text.kv_heads, text.head_dim, text.max_positions]
        .into_iter()
        .try_fold(4usize, usize::checked_mul);
    assert!(weights < 1 << 62 && kv.unwrap() < 1 << 62);
}
