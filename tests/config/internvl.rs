//! InternVL's configuration.

use super::{assert_message, read, with};
use hired::config::{Activation, Architecture};
use serde_json::{Value, json};

/// InternVL3-1B's files, less what is at its default.
fn internvl() -> [Value; 2] {
    let text = json!({
        "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 32768,
        "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
        "num_key_value_heads": 2, "rope_scaling": { "factor": 2.0, "rope_type": "dynamic" },
        "rope_theta": 1e6, "sliding_window": null, "vocab_size": 151674
    });
    let vision = json!({
        "attention_bias": true, "hidden_size": 1024, "image_size": [448, 448],
        "model_type": "internvl_vision", "patch_size": [14, 14]
    });
    [
        json!({
            "image_token_id": 151667, "model_type": "internvl", "text_config": text,
            "vision_config": vision
        }),
        json!({
            "crop_to_patches": false, "image_mean": [0.485, 0.456, 0.406],
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "image_std": [0.229, 0.224, 0.225], "size": { "height": 448, "width": 448 }
        }),
    ]
}

#[test]
fn published_internvl() {
    let model = read(&internvl()).unwrap();
    assert_eq!(model.architecture, Architecture::InternVl);
    let vision = &model.vision;
    assert_eq!((vision.patches(), vision.layers, vision.heads), (1024, 24, 16));
    assert_eq!((vision.eps, vision.activation), (1e-6, Activation::Gelu));
    assert!(vision.class_token() && vision.patch_bias() && vision.layer_scale());
    assert!(!vision.pre_norm() && vision.qkv_bias && !vision.qk_norm);
    assert_eq!((model.cell, model.tokens(), model.token_size()), (2, 256, 28));
    // All layers run, and no file says whether the embeddings are tied: the weights do.
    assert_eq!((model.feature_blocks, model.text.tied), (24, true));
    let image = &model.image;
    assert_eq!((image.side, image.sub_images, image.torchvision), (448, Some((1, 12)), true));
    let six = with(internvl(), "@/max_patches", json!(6)).unwrap();
    assert_eq!(six.image.sub_images, Some((1, 6)));
    let slow = with(internvl(), "@/image_processor_type", json!("GotOcr2ImageProcessor"));
    assert!(!slow.unwrap().image.torchvision);
    let plain = with(internvl(), "/vision_config/image_size", json!(448)).unwrap();
    assert_eq!(plain, model);
    for (key, value, parts) in [
        ("/model_type", json!("internvl_chat"), &["model_type", "-hf"][..]),
        ("/vision_config/norm_type", json!("rms_norm"), &["norm_type", "layer_norm"]),
        ("/vision_config/image_size", json!([448, 224]), &["image_size", "one number twice"]),
        ("/vision_config/patch_size", json!(64), &["7 x 7", "two by two"]),
        ("/vision_config/model_type", json!("clip_vision_model"), &["internvl_vision"]),
        ("/downsample_ratio", json!(0.25), &["downsample_ratio"]),
        ("/vision_feature_select_strategy", json!("full"), &["class token", "default"]),
        ("@/min_patches", json!(13), &["min_patches", "max_patches 12"]),
        ("@/max_patches", json!(1000), &["max_patches", "64"]),
        ("@/image_processor_type", json!("CLIPImageProcessor"), &["GotOcr2ImageProcessor"]),
        ("@/size", json!({ "height": 336, "width": 336 }), &["size", "448"]),
    ] {
        assert_message(with(internvl(), key, value), parts);
    }
}
