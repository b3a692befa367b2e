//! Folders that are something else than a model's, told by name.

use super::*;

#[track_caller]
fn refused(folder: &Path, words: &[&str]) {
    let told = answer(folder).expect_err("this must be refused").to_string();
    assert!(!told.contains(char::is_control), "{told:?}");
    for word in words {
        assert!(told.contains(word), "no {word:?} in: {told}");
    }
}

#[test]
fn an_adapter_is_refused_by_name() {
    for remove in [None, Some("model.safetensors")] {
        let dir = model_copy("next-hub");
        fs::write(dir.path().join("adapter_config.json"), "{\"peft_type\": \"LORA\"}").unwrap();
        if let Some(name) = remove {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        refused(dir.path(), &["adapter_config.json", "LoRA", "merge_and_unload"]);
    }
}

#[test]
fn errors_say_what_the_folder_is() {
    let original = [
        ("config.json", "/model_type", json!("llava")),
        ("config.json", "/mm_vision_tower", json!("openai/clip-vit-large-patch14-336")),
        ("config.json", "/vision_config", Value::Null),
    ];
    refused(edited("next-hub", &original).path(), &["llava-hf", "original"]);
    let mistral = [("config.json", "/model_type", json!("llava_mistral"))];
    refused(edited("next-hub", &mistral).path(), &["llava-hf", "original"]);
    let shards = [("model.safetensors.index.json", "", Value::Null)];
    refused(edited("next-mistral", &shards).path(), &["index.json is missing", "model-00001"]);
    for prefix in ["module.", "base_model.model."] {
        let dir = model_copy("next-hub");
        rename_prefix(&dir.path().join("model.safetensors"), prefix);
        refused(dir.path(), &[prefix, "prefix", "PEFT"]);
    }
    let dir = model_copy("next-hub");
    let told = ask(dir.path(), Prompt::User("<image>\nWhat is it?".into())).unwrap_err();
    assert!(told.to_string().contains("leave it out of the question"), "{told}");
}

#[test]
fn a_folder_of_the_hubs_cache_stands_for_its_snapshot() {
    let (cache, model) = (tempfile::tempdir().unwrap(), model_copy("next-hub"));
    let snapshots = cache.path().join("snapshots");
    let add = |revision: &str| {
        fs::create_dir_all(snapshots.join(revision)).unwrap();
        for entry in fs::read_dir(model.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), snapshots.join(revision).join(entry.file_name())).unwrap();
        }
    };
    add("0123abcd");
    assert_eq!(answer(cache.path()).unwrap(), OWN);
    // Of two, the one that `main` names.
    add("4567ef");
    refused(cache.path(), &["2 snapshots", "refs/main"]);
    fs::create_dir(cache.path().join("refs")).unwrap();
    fs::write(cache.path().join("refs/main"), "0123abcd\n").unwrap();
    assert_eq!(answer(cache.path()).unwrap(), OWN);
    fs::write(snapshots.join("0123abcd/config.json"), "{}").unwrap();
    refused(cache.path(), &["snapshots", "0123abcd", "model_type"]);
}
