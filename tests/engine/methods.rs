//! Each method, score and way to join heads, by the engine.

use super::*;
use hired::select::{Counting, Heads, Method, Score, Tuning};

/// Methods that look at the class token are refused by name.
#[test]
fn a_tower_without_a_class_token_has_methods_of_its_own() {
    let mut engine = load("next-siglip");
    let by_class = [Method::VisionZip, Method::GlobalCom2, Method::PruMerge, Method::PruMergePlus];
    for method in by_class {
        let selection = Selection::default().with_method(method);
        let error = engine.generate(&question().with_selection(selection), go).unwrap_err();
        assert!(matches!(error, Error::Request(_)), "{error}");
        let told = error.to_string();
        assert!(told.starts_with(&method.to_string()) && told.contains("class token"), "{told}");
        assert!(told.contains("hired, fastervlm"), "{told}");
    }
}

/// What patches receive can score them in every tower, the class token's attention only where there is one.
#[test]
fn scores_can_be_what_patches_receive() {
    let received = |method| Selection::default().with_method(method).with_score(Score::Received);
    let mut engine = load("next-hub");
    let (heads, patches) = (engine.config().vision.heads, engine.config().vision.patches());
    for method in [Method::Hired, Method::FasterVlm, Method::Scope, Method::VisionZip] {
        let by = |engine: &mut Engine, selection: Selection| {
            let request = question().with_selection(selection).with_keep_stages(true);
            let answer = engine.generate(&request, go).unwrap();
            assert_eq!(answer.memory.peak, answer.memory.predicted_peak, "{method}");
            (answer.visual.unwrap(), answer.stages.unwrap().cls_attention_final.unwrap())
        };
        let (by_class, class) = by(&mut engine, Selection::default().with_method(method));
        let (by_all, all) = by(&mut engine, received(method));
        assert_eq!(by_class.kept, by_all.kept, "{method}");
        assert_ne!(class, all, "{method}");
        // The rest of what is given goes to the class token.
        for scores in all.chunks_exact(patches) {
            let sum: f32 = scores.iter().sum();
            assert!(sum > 0.0 && sum < heads as f32, "{method}: {sum} of {heads}");
        }
    }
    let mut siglip = load("next-siglip");
    let default = siglip.generate(&question(), go).unwrap();
    let named = question().with_selection(received(Method::Hired));
    assert_eq!(siglip.generate(&named, go).unwrap().visual, default.visual);
    let cls = Selection::default().with_score(Score::Cls);
    let error = siglip.generate(&question().with_selection(cls), go).unwrap_err().to_string();
    assert!(error.contains("score cls") && error.contains("use received"), "{error}");
}

#[test]
fn every_method_answers_within_its_budget_and_its_memory() {
    for model in ["next-hub", "llava15", "next-siglip"] {
        let mut engine = load(model);
        for &method in Method::ALL {
            let merges = ["prumerge", "prumerge+", "visionzip"].contains(&&*method.to_string());
            if (merges || method == Method::GlobalCom2) && model == "next-siglip" {
                continue;
            }
            for count in [Counting::Adaptive, Counting::Budget] {
                let tuning = Tuning::default().with_prumerge(count).with_fastv_layer(1);
                let selection = Selection::default().with_method(method).with_tuning(tuning);
                let answer = engine.generate(&question().with_selection(selection), go).unwrap();
                let visual = answer.visual.unwrap();
                let rows = visual.kept + visual.merged;
                if method == Method::FastV {
                    // All of it enters; what stays, newlines among it, is the budget.
                    assert!(answer.prompt_tokens >= visual.valid + text_tokens(model));
                    assert_eq!(rows + visual.newlines, visual.budget, "{model} {method}");
                    assert_eq!(answer.memory.peak, answer.memory.predicted_peak, "{model}");
                    continue;
                }
                assert_eq!(answer.prompt_tokens, visual.newlines + rows + text_tokens(model));
                assert_eq!(visual.merged > 0, merges, "{model} {method}: {visual:?}");
                assert!(!answer.host_round_trip);
                let (peak, predicted) = (answer.memory.peak, answer.memory.predicted_peak);
                if count == Counting::Adaptive && method.to_string().starts_with("prumerge") {
                    assert!(rows <= visual.budget && peak <= predicted, "{model} {method}");
                } else {
                    let wanted = if method == Method::Full { visual.valid } else { visual.budget };
                    assert_eq!(rows, wanted.min(visual.valid), "{model} {method}");
                    assert_eq!(peak, predicted, "{model} {method}");
                }
            }
        }
    }
}

/// Of the question, beside its image.
fn text_tokens(model: &str) -> usize {
    let answer = load(model).generate(&question(), go).unwrap();
    answer.prompt_tokens - answer.visual.unwrap().kept
}

#[test]
fn heads_and_layers_that_are_not_there_are_named() {
    let mut engine = load("next-hub");
    let heads = engine.config().vision.heads;
    for (what, selection) in [
        ("head ", Selection::default().with_heads(Heads::One(heads))),
        ("key layer", Selection::default().with_tuning(Tuning::default().with_key_layer(-99))),
    ] {
        let error = engine.generate(&question().with_selection(selection), go).unwrap_err();
        assert!(matches!(error, Error::Request(_)), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    let last = Selection::default().with_heads(Heads::One(heads - 1));
    engine.generate(&question().with_selection(last), go).unwrap();
}
