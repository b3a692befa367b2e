//! Synthetic checkpoints, and the sizes of the published ones they stand for.

use std::ops::ControlFlow;
use std::path::Path;

use hired::checkpoint::synth::{self, Preset};
use hired::checkpoint::{Checkpoint, Part, layout};

use crate::{assert_message, folder};

/// Names and parameter counts of the published checkpoints.
#[test]
fn published_sizes() {
    let expected = [
        (Preset::Next7b, 687, 7_063_431_168),
        (Preset::Next13b, 759, 13_351_499_776),
        (Preset::NextMistral7b, 687, 7_566_747_648),
        (Preset::NextLlama8b, 687, 8_355_276_800),
        (Preset::NextQwen7b, 735, 7_936_108_544),
        (Preset::Next34b, 939, 34_752_083_968),
        (Preset::OneVision05b, 716, 893_675_552),
        (Preset::OneVision7b, 765, 8_030_807_584),
        (Preset::Interleave05b, 715, 864_031_264),
        (Preset::JoyCaption, 743, 8_479_990_848),
        (Preset::LlavaTinyLlama, 596, 1_410_113_536),
        (Preset::Llava7b, 686, 7_063_427_072),
        (Preset::Llava13b, 758, 13_351_494_656u64),
        (Preset::LlavaPhi, 848, 3_092_371_456),
        (Preset::MobileVlm17b, 616, 1_674_383_360),
        (Preset::InternVl3x1b, 733, 938_193_024),
        (Preset::InternVl3x2b, 781, 2_088_957_440),
        (Preset::InternVl3x8b, 781, 7_944_373_760),
        (Preset::InternVl35x2b, 753, 2_348_347_392),
        (Preset::InternVl35x4b, 841, 4_732_489_216),
        (Preset::InternVl35x8b, 841, 8_528_318_464),
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
    synth::write(Preset::Tiny, dir, seed, "{}", &mut |done, total| {
        last = (done, total);
        ControlFlow::Continue(())
    })?;
    Ok(last)
}

#[test]
fn a_stopped_checkpoint_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny");
    let stopped = synth::write(Preset::Tiny, &path, 0, "{}", &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(hired::Error::Cancelled)));
    assert!(!path.exists());
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
    assert_message(checkpoint.verify(&config), &["embed_tokens", "[32064, 128]", "[32065, 128]"]);
}

/// An engine that makes the weights where it needs them answers as one that reads them from the files.
#[test]
fn weights_need_no_files() {
    use hired::engine::{Engine, EngineOptions, Image, Request};
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tiny");
    let tokenizer =
        hired::text::synth::tokenizer_json(Preset::Tiny.vocab(), Preset::Tiny.image_token());
    synth::write(Preset::Tiny, &folder, 5, &tokenizer, &mut |_, _| ControlFlow::Continue(()))
        .unwrap();
    let go = |_: usize, _: usize| ControlFlow::Continue(());
    let made = Engine::synthetic(Preset::Tiny, 5, EngineOptions::default(), go).unwrap();
    let other = Engine::synthetic(Preset::Tiny, 6, EngineOptions::default(), go).unwrap();
    let read = Engine::load(&folder, EngineOptions::default()).unwrap();
    let pixels = (0..3 * 90 * 60).map(|i| (i * 7 % 256) as u8).collect();
    let request = Request::new("What is it?")
        .with_keep_stages(true)
        .with_max_new_tokens(6)
        .with_image(Image::Rgb8 { width: 90, height: 60, pixels });
    let [read, made, other] = [read, made, other].map(|mut engine| {
        let answer = engine.generate(&request, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(answer.memory.peak, answer.memory.predicted_peak);
        answer
    });
    assert_eq!(read.token_ids, made.token_ids);
    // Scores have NaN where there are none.
    let numbers = |answer: hired::engine::Answer| {
        let stages = answer.stages.unwrap();
        (stages.visual_tokens, stages.prefill_logits)
    };
    let read = numbers(read);
    assert_eq!(read, numbers(made));
    assert_ne!(read, numbers(other));
}
