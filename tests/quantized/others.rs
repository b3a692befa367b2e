//! Folders that other tools have quantised: `tests/fixtures/integers`, made by tools/fixtures/integers.py with answers of
//! transformers for the same numbers. A new layout is a kind there and a name in [`KINDS`].

use super::common::integers::{Stored, folder};
use super::{ask, root};
use hired::{Budget, Device, Engine, EngineOptions, Request, Selection};
use serde_json::Value;

/// Kinds, and their names in reports.
const KINDS: [(&str, &str); 5] = [
    ("awq", "awq"),
    ("awq-fused", "awq"),
    ("int4-channel", "q4"),
    ("int8-group", "w8a16"),
    ("int8-channel", "w8a16"),
];

pub fn cpu() -> EngineOptions {
    EngineOptions::default().with_device(Device::Cpu)
}

#[test]
fn answers_are_those_of_transformers_with_the_same_numbers() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, name) in KINDS {
        let (path, golden) = folder(dir.path(), kind, |_, _| {});
        let mut engine = Engine::load(&path, cpu()).unwrap();
        assert_eq!(engine.config().quantization.unwrap().name(), name);
        let request = Request::new(golden.prompt)
            .with_image(golden.image)
            .with_selection(Selection::default().with_budget(Budget::Full))
            .with_max_new_tokens(golden.tokens.len())
            .with_ignore_eos(true)
            .with_keep_stages(true);
        let answer = ask(&mut engine, &request);
        assert_eq!(answer.token_ids, golden.tokens, "{kind}");
        assert_eq!(answer.memory.peak, answer.memory.predicted_peak, "{kind}");
        let logits = answer.stages.unwrap().prefill_logits;
        let largest = golden.logits.iter().fold(0f32, |l, x| l.max(x.abs()));
        let off = logits.iter().zip(&golden.logits).fold(0f32, |o, (a, b)| o.max((a - b).abs()));
        assert!(off <= 1e-4 * largest, "{kind}: {off} of {largest}");
        // Few rows are multiplied in another way than many: the same request in a batch, at another budget.
        let fewer = request.clone().with_selection(Selection::default());
        let alone = ask(&mut engine, &fewer).token_ids;
        let go = |_: hired::Event<'_>| std::ops::ControlFlow::Continue(());
        let both = engine.generate_batch(&[request, fewer], go).unwrap();
        assert_eq!(both[0].token_ids, golden.tokens, "{kind}");
        assert_eq!(both[1].token_ids, alone, "{kind}");
    }
}

#[test]
fn inspection_counts_numbers_once() {
    let dir = tempfile::tempdir().unwrap();
    let selection = Selection::default();
    for (kind, _) in KINDS {
        let base = if kind == "awq-fused" { "llava-phi3" } else { "next-hub" };
        let dense = root().join("tests/fixtures/models").join(base);
        let dense = hired::inspect(dense, &cpu(), &selection).unwrap();
        let (path, _) = folder(dir.path(), kind, |_, _| {});
        let found = hired::inspect(&path, &cpu(), &selection).unwrap();
        assert_eq!(found.parameters, dense.parameters, "{kind}");
        assert!(found.bytes < dense.bytes, "{kind}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |kind, words: &[&str], change: &dyn Fn(&mut Stored, &mut Value)| {
        let (path, _) = folder(dir.path(), kind, |tensors, config| change(tensors, config));
        let message = Engine::load(&path, cpu()).map(|_| ()).unwrap_err().to_string();
        for word in words {
            assert!(message.contains(word), "{word}: {message}");
        }
        assert!(!message.contains('\n'));
    };
    let layer = "language_model.model.layers.1.mlp.up_proj";
    let name = "layers.1.mlp.up_proj";
    for part in ["scales", "qzeros"] {
        let words = [&format!("{name}.{part} is missing")[..]];
        refused("awq", &words, &|t, _| drop(t.remove(&format!("{layer}.{part}"))));
        let words = [&format!("{name}.{part}")[..], "it must be [2, "];
        refused("awq", &words, &|t, _| {
            let (_, shape, data) = t.get_mut(&format!("{layer}.{part}")).unwrap();
            shape[0] = 1;
            data.truncate(data.len() / 2);
        });
    }
    refused("awq", &[name, "none of the *.safetensors"], &|t, _| {
        drop(t.remove(&format!("{layer}.qweight")));
    });
    for (value, said) in [(half::f16::NAN, "NaN"), (half::f16::ZERO, "scale 0")] {
        // [groups, rows] = [2, 96]: the scale of the second group of row 5.
        refused("awq", &[&format!("{name}.scales"), "row 5 ", said], &|t, _| {
            let (.., data) = t.get_mut(&format!("{layer}.scales")).unwrap();
            data[2 * (96 + 5)..][..2].copy_from_slice(&value.to_le_bytes());
        });
    }
    let quantization = "quantization_config";
    refused("awq", &["integers under other names", quantization], &|_, config| {
        config.as_object_mut().unwrap().remove(quantization);
    });
    refused("awq", &["group size 128", "64 numbers"], &|_, config| {
        config[quantization]["group_size"] = 128.into();
    });
    refused("int8-group", &["_packed", "_shape asks for"], &|_, config| {
        config[quantization]["config_groups"]["group_0"]["weights"]["num_bits"] = 4.into();
    });
    refused("int8-channel", &["_scale", "[64, 1]"], &|t, _| {
        let name = "language_model.model.layers.0.self_attn.q_proj.weight_scale";
        let (_, shape, data) = t.get_mut(name).unwrap();
        shape[0] = 32;
        data.truncate(64);
    });
}

/// The folder decides: another wish is refused with both names.
#[test]
fn another_wish_than_the_folders_is_refused() {
    use hired::quant::{Quantization, Scheme, Scope};
    let dir = tempfile::tempdir().unwrap();
    for (kind, named) in [("awq", "AWQ, groups of 32"), ("int8-group", "int8 in groups of 32")] {
        let (path, _) = folder(dir.path(), kind, |_, _| {});
        let wish = Quantization { scheme: Scheme::Q4 { group: 32 }, scope: Scope::Llm };
        let message = Engine::load(&path, cpu().with_quantization(wish)).map(|_| ()).unwrap_err();
        let message = message.to_string();
        assert!(message.contains(named) && message.contains("q4, groups of 32"), "{message}");
    }
}
