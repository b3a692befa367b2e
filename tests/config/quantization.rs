//! `quantization_config`: what is read, and what is refused by its key.

use hired::quant::Packing;
use serde_json::{Value, json};

use crate::{assert_message, set, vicuna, with};

/// As compressed-tensors writes it for int8 weights and activations.
fn int8() -> Value {
    json!({
        "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
        "global_compression_ratio": 1.4, "kv_cache_scheme": null, "sparsity_config": {}, "transform_config": {},
        "version": "0.20.1", "ignore": ["lm_head", "re:.*vision_tower.*"],
        "config_groups": { "group_0": {
            "targets": ["Linear"], "format": null, "output_activations": null,
            "weights": { "num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel", "group_size": null,
                         "dynamic": false, "actorder": null, "observer": "minmax" },
            "input_activations": { "num_bits": 8, "type": "int", "symmetric": true, "strategy": "token", "dynamic": true }
        } }
    })
}

fn int4(group: usize) -> Value {
    let mut config = int8();
    config["format"] = json!("pack-quantized");
    let inner = &mut config["config_groups"]["group_0"];
    inner["input_activations"] = Value::Null;
    inner["weights"]["num_bits"] = json!(4);
    inner["weights"]["strategy"] = json!("group");
    inner["weights"]["group_size"] = json!(group);
    config
}

fn parse(key: &str, config: &Value) -> hired::Result<Option<Packing>> {
    with(vicuna(), key, config.clone()).map(|config| config.quantization)
}

#[test]
fn schemes_are_read() {
    assert_eq!(parse("/quantization_config", &Value::Null).unwrap(), None);
    for key in ["/quantization_config", "/compression_config"] {
        assert_eq!(parse(key, &int8()).unwrap(), Some(Packing::Int8));
        for group in [32, 64, 128] {
            for bits in [4, 8] {
                let mut config = int4(group);
                let weights = &mut config["config_groups"]["group_0"]["weights"];
                weights["num_bits"] = json!(bits);
                let expected = Some(Packing::Packed { bits, group: Some(group) });
                assert_eq!(parse(key, &config).unwrap(), expected);
                let weights = &mut config["config_groups"]["group_0"]["weights"];
                weights["strategy"] = json!("channel");
                let expected = Some(Packing::Packed { bits, group: None });
                assert_eq!(parse(key, &config).unwrap(), expected);
            }
        }
        for config in [
            json!({ "quant_method": "awq" }),
            json!({ "quant_method": "awq", "bits": 4, "group_size": 128, "version": "GEMM",
                    "zero_point": true, "modules_to_not_convert": ["vision_tower"] }),
            json!({ "quant_method": "awq", "w_bit": 4, "q_group_size": 128, "format": "gemm" }),
        ] {
            assert_eq!(parse(key, &config).unwrap(), Some(Packing::Awq { group: 128 }));
        }
    }
}

#[test]
fn what_is_not_computed_is_refused_by_its_key() {
    let at = |base: &Value, pointer: &str, value: Value| {
        let mut config = base.clone();
        set(&mut config, pointer, value);
        config
    };
    let (int8, int4) = (int8(), int4(128));
    let group = "/config_groups/group_0";
    let mut cases: Vec<(Value, &[&str])> = vec![
        (
            json!({ "bits": 4 }),
            &["quantization_config.quant_method", "missing", "--dtype q8 or q4"],
        ),
        (
            json!({ "quant_method": "gptq", "desc_act": true }),
            &["quant_method", "\"gptq\"", "--dtype"],
        ),
        (json!({ "quant_method": "awq", "bits": 8 }), &["bits", "8"]),
        (json!({ "quant_method": "awq", "version": "gemv" }), &["version", "\"gemv\"", "gemm"]),
        (json!({ "quant_method": "awq", "zero_point": false }), &["zero_point"]),
        (json!({ "quant_method": "awq", "group_size": -1 }), &["group_size", "one scale per row"]),
        (json!({ "quant_method": "awq", "q_group_size": 48 }), &["q_group_size", "48"]),
        (json!({ "quant_method": "bitsandbytes" }), &["\"bitsandbytes\""]),
        (json!({ "quant_method": 3 }), &["quant_method", "string"]),
        (json!([]), &["quantization_config", "object"]),
        (
            at(&int8, "/format", json!("float-quantized")),
            &["format", "\"float-quantized\"", "pack-quantized"],
        ),
        (at(&int8, "/kv_cache_scheme", json!({ "num_bits": 8 })), &["kv_cache_scheme"]),
        (at(&int8, "/transform_config", json!({ "r1": {} })), &["transform_config"]),
        (at(&int8, "/quantization_status", json!("frozen")), &["quantization_status"]),
        (at(&int8, "/config_groups", json!(null)), &["config_groups", "missing"]),
        (at(&int8, "/config_groups", json!({})), &["config_groups", "empty"]),
    ];
    for (key, value, named) in [
        ("input_activations", json!(null), "input_activations"),
        ("input_activations/dynamic", json!(false), "input_activations.dynamic"),
        ("input_activations/strategy", json!("tensor"), "input_activations.strategy"),
        ("output_activations", json!({ "num_bits": 8 }), "output_activations"),
        ("weights/num_bits", json!(4), "weights.num_bits"),
        ("weights/symmetric", json!(false), "weights.symmetric"),
        ("weights/actorder", json!("group"), "weights.actorder"),
        ("weights/strategy", json!("group"), "weights.strategy"),
        ("weights/type", json!("float"), "weights.type"),
    ] {
        cases.push((at(&int8, &format!("{group}/{key}"), value), Vec::leak(vec![named])));
    }
    for (key, value, named) in [
        (
            "input_activations",
            int8["config_groups"]["group_0"]["input_activations"].clone(),
            "input_activations",
        ),
        ("weights/num_bits", json!(6), "weights.num_bits"),
        ("weights/group_size", json!(48), "weights.group_size"),
        ("weights/strategy", json!("tensor"), "weights.strategy"),
    ] {
        cases.push((at(&int4, &format!("{group}/{key}"), value), Vec::leak(vec![named])));
    }
    let mut mixed = int4.clone();
    mixed["config_groups"]["group_1"] = int4["config_groups"]["group_0"].clone();
    mixed["config_groups"]["group_1"]["weights"]["group_size"] = json!(64);
    cases.push((mixed, &["config_groups", "different schemes"]));
    for (config, words) in cases {
        assert_message(parse("/quantization_config", &config), words);
    }
}
