//! Towers without a class token, alone and in LLaVA-OneVision.

use super::*;

/// What is absent is as transformers' SiglipVisionConfig has it.
#[test]
fn siglip_has_no_class_token() {
    let siglip = |mut files: [Value; 2]| {
        set(&mut files[0], "/vision_config", json!({ "model_type": "siglip_vision_model" }));
        set(&mut files[0], "/vision_feature_select_strategy", json!("full"));
        files
    };
    let mut files = siglip(llava15());
    let size = json!({ "height": 224, "width": 224 });
    files[1] = json!({ "image_processor_type": "SiglipImageProcessor", "size": size });
    let model = read(&files).unwrap();
    let vision = &model.vision;
    assert_eq!((vision.hidden, vision.intermediate, vision.layers), (768, 3072, 12));
    assert_eq!((vision.heads, vision.patches(), vision.eps), (12, 196, 1e-6));
    assert_eq!(vision.activation, Activation::GeluTanh);
    assert!(!vision.class_token() && !vision.pre_norm() && vision.patch_bias());
    assert!(model.image.squash);
    assert_eq!((model.image.mean, model.image.std), ([0.5; 3], [0.5; 3]));
    // 27 patches of 14 pixels in 384: what is left over is not looked at.
    set(&mut files[0], "/vision_config/image_size", json!(384));
    set(&mut files[0], "/vision_config/patch_size", json!(14));
    set(&mut files[1], "/size", json!({ "height": 384, "width": 384 }));
    assert_eq!(read(&files).unwrap().vision.patches(), 729);
    // With sub-images the picture is cut as LLaVA-NeXT's.
    let mut next = siglip(vicuna());
    set(&mut next[0], "/vision_config/image_size", json!(336));
    assert!(!read(&next).unwrap().image.squash);
    for (key, value, parts) in [
        ("/vision_feature_select_strategy", json!("default"), &["first patch", "full"][..]),
        ("/vision_config/patch_size", json!(400), &["patch_size", "400", "384"]),
        ("/vision_config/hidden_act", json!("quick_gelu"), &["hidden_act", "gelu_pytorch_tanh"]),
        ("@/image_processor_type", json!("CLIPImageProcessor"), &["SiglipImageProcessor"]),
        ("@/do_center_crop", json!(true), &["do_center_crop"]),
    ] {
        assert_message(with(files.clone(), key, value), parts);
    }
}

/// What is absent is as transformers' LlavaOnevisionConfig and its image processor have it.
#[test]
fn onevision_has_six_by_six_canvases() {
    let processor = json!({ "image_processor_type": "LlavaOnevisionImageProcessor" });
    let files = [json!({ "model_type": "llava_onevision" }), processor];
    let model = read(&files).unwrap();
    assert_eq!(model.architecture, Architecture::OneVision);
    let vision = &model.vision;
    assert_eq!((vision.hidden, vision.intermediate, vision.layers), (1152, 4304, 26));
    assert_eq!((vision.heads, vision.patches(), model.feature_blocks), (16, 729, 26));
    assert_eq!((model.text.family, model.image_token), (Family::Qwen2, 151_646));
    assert_eq!(model.most_patches, Some(9 * 729));
    let pinpoints = model.image.pinpoints.clone().unwrap();
    assert_eq!((pinpoints.len(), pinpoints[1], pinpoints[35]), (36, (384, 768), (2304, 2304)));
    assert!(model.image.mean[0] < 0.49 && !model.image.squash);
    let other = with(files.clone(), "/vision_aspect_ratio", json!("anyres_max_4"));
    assert_eq!(other.unwrap().most_patches, Some(4 * 729));
    for (key, value, parts) in [
        ("/vision_aspect_ratio", json!("pad"), &["vision_aspect_ratio", "pad", "anyres_max_"][..]),
        ("/vision_aspect_ratio", json!("anyres_max_0"), &["vision_aspect_ratio"]),
        ("/vision_feature_select_strategy", json!("default"), &["first patch", "full"]),
        ("@/image_processor_type", json!("LlavaNextImageProcessor"), &["LlavaOnevisionImage"]),
        ("@/size", json!({ "height": 336, "width": 336 }), &["size", "384"]),
    ] {
        assert_message(with(files.clone(), key, value), parts);
    }
}
