//! The library as an embedder uses it: refusals before any work, stopping, sampling, memory.

mod apart;
mod cache;
#[path = "../common/mod.rs"]
mod common;
mod folder;
#[path = "../support/load.rs"]
mod load;
mod messages;
mod methods;
mod scheduler;
mod sweep;

use common::folder::{edit_json, edit_tensor, model_copy, rename_tensors};
use common::golden::fixture;
use hired::Error;
use hired::engine::{
    Device, Engine, EngineOptions, Event, FinishReason, Image, Limit, Prompt, Request,
};
use hired::ops::sample::Sampling;
use hired::select::Selection;
use std::ops::ControlFlow;

fn go(_: Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn load(model: &str) -> Engine {
    let options = EngineOptions::default().with_device(Device::Cpu);
    Engine::load(fixture("models").join(model), options).unwrap()
}

/// A gradient with some structure.
fn picture(width: usize, height: usize) -> Image {
    let pixels = (0..width * height)
        .flat_map(|i| {
            let (x, y) = (i % width, i / width);
            [(x * 255 / width) as u8, (y * 255 / height) as u8, ((x * y) % 251) as u8]
        })
        .collect();
    Image::Rgb8 { width, height, pixels }
}

fn question() -> Request {
    Request::new("What is shown?").with_max_new_tokens(12).with_image(picture(90, 50))
}

#[test]
fn an_engine_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Engine>();
    let mut engine = load("next-hub");
    let shown = format!("{engine:?}");
    assert!(shown.contains("LlavaNext") && shown.contains("card: None"), "{shown}");
    let here = engine.generate(&question(), go).unwrap();
    let there =
        std::thread::spawn(move || engine.generate(&question(), go).unwrap()).join().unwrap();
    assert_eq!(here.token_ids, there.token_ids);
}

#[test]
fn text_arrives_piece_by_piece_and_adds_up() {
    let mut engine = load("next-hub");
    let (mut text, mut ids, mut progress) = (String::new(), Vec::new(), 0);
    let answer = engine
        .generate(&question(), |event| {
            match event {
                Event::Token { id, text: piece, .. } => {
                    ids.push(id);
                    text.push_str(piece);
                }
                Event::Finished { text: rest, .. } => text.push_str(rest),
                Event::Progress { done, all, .. } => {
                    assert!(done <= all);
                    progress += 1;
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((text, ids), (answer.text.clone(), answer.token_ids.clone()));
    assert!(progress > 0);
    assert!(answer.timings.ttft > 0.0 && answer.timings.vision > 0.0);
}

#[test]
fn stopping_keeps_what_there_is() {
    let mut engine = load("next-hub");
    let whole = engine.generate(&question(), go).unwrap();
    let mut seen = 0;
    let stopped = engine
        .generate(&question(), |event| {
            seen += usize::from(matches!(event, Event::Token { .. }));
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(stopped.finish_reason, FinishReason::Cancelled);
    assert_eq!(stopped.token_ids, whole.token_ids[..3]);
    let early = engine.generate(&question(), |_| ControlFlow::Break(()));
    assert!(matches!(early, Err(Error::Cancelled)));
    // The engine is as good as before.
    assert_eq!(engine.generate(&question(), go).unwrap().token_ids, whole.token_ids);
}

#[test]
fn text_only() {
    let mut engine = load("next-mistral");
    let answer = engine.generate(&Request::new("Good morning"), go).unwrap();
    assert!(answer.visual.is_none());
    assert!(answer.memory.peak <= answer.memory.predicted_peak, "{:?}", answer.memory);
    assert!(answer.prompt_tokens > 2);
}

#[test]
fn a_raw_prompt_needs_one_place_for_each_image() {
    let mut engine = load("next-hub");
    let raw = |text: &str| question().with_prompt(Prompt::Raw(text.into()));
    let answer = engine.generate(&raw("USER: <image>\nWhat is shown? ASSISTANT:"), go).unwrap();
    assert_eq!(answer.token_ids, engine.generate(&question(), go).unwrap().token_ids);
    for text in ["no place", "<image> and <image>"] {
        let error = engine.generate(&raw(text), go).unwrap_err();
        assert!(matches!(error, Error::Request(_)) && error.to_string().contains("<image>"));
    }
    let without = raw("<image> only in words").with_image(None::<Image>);
    assert!(matches!(engine.generate(&without, go), Err(Error::Request(_))));
    // The user's words may not smuggle in another one.
    let smuggled = question().with_prompt(Prompt::User("what <image> is".into()));
    assert!(matches!(engine.generate(&smuggled, go), Err(Error::Request(_))));
}

#[test]
fn what_cannot_fit_is_refused_before_any_work() {
    let mut engine = load("next-hub");
    let limit = engine.config().text.max_positions;
    let mut worked = false;
    let long = question().with_max_new_tokens(limit);
    let error = engine
        .generate(&long, |_| {
            worked = true;
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert!(
        matches!(error, Error::Context { new, limit: all, .. } if new == limit && all == limit)
    );
    let message = error.to_string();
    assert!(message.contains(&limit.to_string()) && !message.contains('\n'), "{message}");
    assert!(!worked);

    let options = EngineOptions::default().with_kv_tokens(64);
    let mut small = Engine::load(fixture("models/next-hub"), options).unwrap();
    let fits = Request::new("Hello").with_max_new_tokens(4);
    let endless = EngineOptions::default().with_kv_tokens(usize::MAX);
    let error = Engine::load(fixture("models/next-hub"), endless).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::Capacity(_)) && message.contains("kv_tokens"), "{message}");
    let answer = small.generate(&fits, go).unwrap();
    assert_eq!(answer.memory.peak, answer.memory.predicted_peak);
    let batch = vec![fits; 5];
    let error = small.generate_batch(&batch, go).unwrap_err();
    assert!(matches!(error, Error::Capacity(_)) && error.to_string().contains("64"), "{error}");
}

#[test]
fn a_batch_of_more_than_a_group_equals_single_runs() {
    let mut engine = load("next-odd");
    let requests: Vec<Request> = (0..11)
        .map(|i| {
            let sampling = Sampling::default().with_temperature(0.9).with_seed(i);
            let request = question().with_sampling(sampling).with_max_new_tokens(3 + i as usize);
            if i % 3 == 0 { request.with_image(None::<Image>) } else { request }
        })
        .collect();
    let together = engine.generate_batch(&requests, go).unwrap();
    for (request, batched) in requests.iter().zip(together) {
        assert!(batched.memory.peak <= batched.memory.predicted_peak, "{:?}", batched.memory);
        let alone = engine.generate(request, go).unwrap();
        assert_eq!(
            (alone.token_ids, alone.text, alone.visual),
            (batched.token_ids, batched.text, batched.visual)
        );
    }
}

#[test]
fn layers_out_of_range_are_named() {
    let mut engine = load("next-hub");
    let layers = engine.config().vision.layers as i32;
    for (init_layer, final_layer) in [(layers, None), (0, Some(layers)), (-layers - 1, None)] {
        let selection =
            Selection::default().with_init_layer(init_layer).with_final_layer(final_layer);
        let error = engine.generate(&question().with_selection(selection), go).unwrap_err();
        assert!(matches!(error, Error::Request(_)), "{error}");
        assert!(error.to_string().contains("layer"), "{error}");
    }
    // The last block is read because a scoring layer asks for it.
    let selection = Selection::default().with_final_layer(-1);
    let answer = engine.generate(&question().with_selection(selection), go).unwrap();
    assert_eq!(answer.memory.peak, answer.memory.predicted_peak);
    let init = Selection::default().with_init_layer(-1).with_final_layer(0);
    engine.generate(&question().with_selection(init), go).unwrap();
}

/// Published folders may lack what nothing needs.
#[test]
fn the_last_block_is_read_only_when_a_scoring_layer_asks_for_it() {
    let folder = model_copy("next-hub");
    let last = load("next-hub").config().vision.layers - 1;
    let file = folder.path().join("model.safetensors");
    rename_tensors(&file, &format!("encoder.layers.{last}."), &format!("encoder.layerz.{last}."));
    let mut engine = Engine::load(folder.path(), EngineOptions::default()).unwrap();
    engine.generate(&question(), go).unwrap();
    let scored_last = Selection::default().with_final_layer(-1);
    let everything = scored_last.clone().with_budget("full".parse().unwrap());
    engine.generate(&question().with_selection(everything), go).unwrap();
    let error = engine.generate(&question().with_selection(scored_last), go).unwrap_err();
    assert!(matches!(error, Error::Model { .. }), "{error}");
    assert!(error.to_string().contains(&format!("layers.{last}.")), "{error}");
}

#[test]
fn select_alone_keeps_what_a_whole_run_keeps() {
    let mut engine = load("next-336");
    let image = picture(500, 333);
    let selection = Selection::default().with_budget("15%".parse().unwrap());
    let visual = engine.select(&image, &selection).unwrap();
    let request = Request::new("?").with_selection(selection).with_max_new_tokens(1);
    let answer = engine.generate(&request.with_image(image), go).unwrap();
    assert_eq!(Some(visual), answer.visual);
}

#[test]
fn the_largest_budget_keeps_its_promise() {
    let mut engine = load("next-336");
    let request = question().with_max_new_tokens(8);
    let with = |count: usize| {
        let selection = Selection::default().with_budget(count.to_string().parse().unwrap());
        request.clone().with_selection(selection)
    };
    let peak = engine.generate(&with(300), go).unwrap().memory.predicted_peak;
    // A larger batch in between leaves a larger cache, which must not count.
    engine.generate_batch(&vec![with(400); 3], go).unwrap();
    let count = engine.largest_budget(std::slice::from_ref(&request), Limit::Memory(peak)).unwrap();
    assert!(count >= 300, "{count}");
    let answer = engine.generate(&with(count), go).unwrap();
    assert!(answer.memory.peak <= peak, "{:?}", answer.memory);
    let error =
        engine.largest_budget(std::slice::from_ref(&request), Limit::Memory(1000)).unwrap_err();
    assert!(matches!(error, Error::Capacity(_)), "{error}");
    let plenty = engine.largest_budget(std::slice::from_ref(&request), Limit::Ttft(1e6)).unwrap();
    assert_eq!(plenty, answer.visual.unwrap().valid);
    assert!(engine.largest_budget(std::slice::from_ref(&request), Limit::Ttft(1e-9)).is_err());
}

#[test]
fn weights_that_are_not_numbers_are_an_error_of_the_request() {
    let nan = f32::NAN;
    for (tensor, budget) in [
        ("language_model.model.norm.weight", "full"),
        ("vision_tower.vision_model.encoder.layers.0.layer_norm1.weight", "20%"),
        ("multi_modal_projector.linear_1.bias", "20%"),
    ] {
        let folder = model_copy("next-hub");
        edit_tensor(folder.path(), tensor, |x| x[0] = nan);
        let mut engine = Engine::load(folder.path(), EngineOptions::default()).unwrap();
        let selection = Selection::default().with_budget(budget.parse().unwrap());
        let error = engine.generate(&question().with_selection(selection), go).unwrap_err();
        assert!(matches!(error, Error::Numeric(_)), "{tensor}: {error}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = model_copy("next-hub");
    edit_json(&folder.path().join("tokenizer.json"), |tokenizer| {
        let mut token = tokenizer["added_tokens"][0].clone();
        token["id"] = 100_000.into();
        token["content"] = "<beyond>".into();
        tokenizer["added_tokens"].as_array_mut().unwrap().push(token);
    });
    // transformers puts the token behind the vocabulary, whatever id it was given; the model has no row for it.
    let mut engine = Engine::load(folder.path(), EngineOptions::default()).unwrap();
    let vocab = engine.config().text.vocab;
    let error = engine.generate(&Request::new("say <beyond>"), go);
    if let Err(error) = error {
        let message = error.to_string();
        assert!(matches!(error, Error::Request(_)), "{message}");
        assert!(message.contains(&vocab.to_string()), "{message}");
    }

    let folder = model_copy("next-hub");
    edit_json(&folder.path().join("config.json"), |config| config["image_token_index"] = 5.into());
    let error = Engine::load(folder.path(), EngineOptions::default()).err().unwrap().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("config.json"), "{error}");
}

#[test]
fn a_prompt_of_nothing_is_refused_also_when_it_turns_out_late() {
    let folder = model_copy("next-hub");
    edit_json(&folder.path().join("tokenizer.json"), |t| t["post_processor"] = ().into());
    let mut engine = Engine::load(folder.path(), EngineOptions::default()).unwrap();
    // Of one token the published rule gives the full image half and loses what it rounds off.
    let selection =
        Selection::default().with_budget("1".parse().unwrap()).with_rule("paper".parse().unwrap());
    let request = question().with_prompt(Prompt::Raw("<image>".into())).with_selection(selection);
    let error = engine.generate(&request, go).unwrap_err();
    assert!(matches!(error, Error::Request(_)), "{error}");
    engine.generate(&question(), go).unwrap();
}

#[test]
fn pages_come_back_after_answers_and_failures() {
    let options = EngineOptions::default().with_kv_tokens(256);
    let folder = model_copy("next-hub");
    edit_tensor(folder.path(), "multi_modal_projector.linear_1.bias", |x| x[0] = f32::NAN);
    let mut engine = Engine::load(folder.path(), options).unwrap();
    let large = Request::new("Hello").with_max_new_tokens(200);
    for _ in 0..3 {
        engine.generate(&large, go).unwrap();
        engine.generate(&question(), go).unwrap_err();
        let stopped = engine.generate(&large, |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(Error::Cancelled)));
    }
}

#[test]
fn sampling_that_is_none_is_refused() {
    let mut engine = load("next-hub");
    for sampling in [
        Sampling::default().with_temperature(f32::NAN),
        Sampling::default().with_temperature(-1.0),
        Sampling::default().with_top_p(f32::NAN),
        Sampling::default().with_top_p(1.5),
    ] {
        let error = engine.generate(&question().with_sampling(sampling), go).unwrap_err();
        assert!(matches!(error, Error::Request(_)), "{error}");
    }
}

#[test]
fn cuda_is_refused_with_a_way_out() {
    let options = EngineOptions::default().with_device(Device::Cuda(None));
    let error = Engine::load(fixture("models/next-hub"), options).err().unwrap();
    assert!(matches!(error, Error::Device(_)) && error.to_string().contains("cpu"), "{error}");
}
