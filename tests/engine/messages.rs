//! Conversations: turns, several images, budgets over them; against transformers where it has an answer
//! (`tools/fixtures/conversations.py`).

use super::{fixture, go, load, picture, question};
use hired::engine::{Image, Message, Part, Prompt, Request, Role};
use hired::select::{Method, Selection};
use hired::{Engine, Error};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    model: String,
    kind: String,
    messages: Vec<CaseMessage>,
    input_ids: Vec<u32>,
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct CaseMessage {
    role: String,
    content: Vec<CasePart>,
}

#[derive(Deserialize)]
struct CasePart {
    text: Option<String>,
    #[cfg_attr(not(feature = "image-formats"), allow(dead_code))]
    file: Option<String>,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(fixture("golden/conversations.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn messages(case: &Case) -> Vec<Message> {
    let part = |part: &CasePart| -> Part {
        match (&part.text, &part.file) {
            (Some(text), _) => text.as_str().into(),
            (None, Some(file)) => {
                let bytes = std::fs::read(fixture("images").join(file)).unwrap();
                Image::encoded(file.as_str(), bytes).into()
            }
            (None, None) => panic!("{}: a part of nothing", case.kind),
        }
    };
    let message = |message: &CaseMessage| {
        let empty = Message::new(Role::of(&message.role).unwrap());
        message.content.iter().map(part).fold(empty, Message::with)
    };
    case.messages.iter().map(message).collect()
}

fn at(budget: &str) -> Selection {
    Selection::default().with_budget(budget.parse().unwrap())
}

fn ask(messages: Vec<Message>) -> Request {
    Request::new(messages).with_max_new_tokens(6)
}

#[test]
fn conversations_are_rendered_and_answered_as_transformers_does() {
    let mut engine: Option<(String, Engine)> = None;
    let (mut all, mut answered) = (0, 0);
    for case in cases() {
        if cfg!(not(feature = "image-formats"))
            && case.messages.iter().any(|m| m.content.iter().any(|part| part.file.is_some()))
        {
            continue;
        }
        if engine.as_ref().is_none_or(|(name, _)| *name != case.model) {
            engine = Some((case.model.clone(), load(&case.model)));
        }
        let (_, engine) = engine.as_mut().unwrap();
        let request = ask(messages(&case))
            .with_selection(at("full"))
            .with_max_new_tokens(case.tokens.len().max(1))
            .with_keep_stages(true);
        let answer = engine.generate(&request, go).unwrap();
        let what = format!("{} {}", case.model, case.kind);
        assert_eq!(answer.stages.unwrap().input_ids, case.input_ids, "{what}");
        assert_eq!(answer.prompt_tokens, case.input_ids.len(), "{what}");
        assert_eq!(answer.visuals.len(), request.images().len(), "{what}");
        assert_eq!(answer.visuals.first(), answer.visual.as_ref(), "{what}");
        assert_eq!(answer.token_ids[..case.tokens.len()], case.tokens, "{what}");
        assert_eq!(answer.memory.peak, answer.memory.predicted_peak, "{what}");
        (all, answered) = (all + 1, answered + usize::from(!case.tokens.is_empty()));
    }
    assert!(all >= 4 && answered + 1 >= all, "{answered} of {all}");
}

#[test]
fn one_turn_of_messages_is_the_users_words() {
    let mut engine = load("next-hub");
    let plain = question().with_max_new_tokens(6).with_keep_stages(true);
    let wanted = engine.generate(&plain, go).unwrap();
    let user = Message::user("What is shown?").with(picture(90, 50));
    let request = plain.clone().with_prompt(Prompt::Messages(vec![user]));
    let both = engine.generate(&request, go).unwrap_err();
    assert!(matches!(&both, Error::Request(what) if what.contains("into a message")), "{both}");
    let got = engine.generate(&request.with_image(None::<Image>), go).unwrap();
    assert_eq!((&got.token_ids, &got.visual), (&wanted.token_ids, &wanted.visual));
    let (got, wanted) = (got.stages.unwrap(), wanted.stages.unwrap());
    assert_eq!(got.input_ids, wanted.input_ids);
    assert_eq!(got.prefill_logits, wanted.prefill_logits);
    assert_eq!(got.visual_tokens, wanted.visual_tokens);
}

#[test]
fn every_method_takes_several_images_or_refuses_by_name() {
    for model in ["next-hub", "llava15"] {
        let mut engine = load(model);
        let images = [(90, 50), (40, 70)];
        let user =
            images.into_iter().fold(Message::user("Compare."), |message, (width, height)| {
                message.with(picture(width, height))
            });
        for &method in Method::ALL {
            let selection = at("20%").with_method(method);
            let request = ask(vec![user.clone()]).with_selection(selection.clone());
            let answer = engine.generate(&request.with_keep_stages(true), go);
            if method == Method::FastV {
                let refused = answer.unwrap_err().to_string();
                assert!(refused.contains("fastv") && refused.contains('2'), "{refused}");
                continue;
            }
            let answer = answer.unwrap();
            // Each image is seen as it would be alone.
            for ((width, height), visual) in images.into_iter().zip(&answer.visuals) {
                let alone = engine.select(&picture(width, height), &selection).unwrap();
                assert_eq!(*visual, alone, "{model} {method}");
            }
            let stages = answer.stages.unwrap();
            let rows: usize = answer.visuals.iter().map(|visual| visual.tokens()).sum();
            let image = engine.config().image_token;
            assert_eq!(stages.input_ids.iter().filter(|&&id| id == image).count(), rows);
            assert_eq!(stages.visual_tokens.unwrap().len(), rows * stages.hidden);
            let partitions: usize = answer.visuals.iter().map(|visual| visual.partitions).sum();
            let pixels = 3 * stages.side * stages.side;
            assert_eq!(stages.pixel_values.unwrap().len(), partitions * pixels);
            let patches = partitions * answer.visuals[0].tokens_per_partition;
            assert_eq!(stages.cls_attention_final.unwrap().len(), patches, "{model} {method}");
        }
    }
}

#[test]
fn a_budget_for_all_images_is_shared_by_their_valid_patches() {
    let mut engine = load("next-hub");
    let pictures = [(90, 50), (12, 300), (90, 50)];
    let user = pictures
        .into_iter()
        .fold(Message::user("Compare."), |message, (w, h)| message.with(picture(w, h)));
    let mut budgets = |total: &str| {
        let request = ask(vec![user.clone()])
            .with_selection(at("full"))
            .with_budget_total(total.parse::<hired::Budget>().unwrap());
        engine.generate(&request, go).map(|answer| {
            answer.visuals.iter().map(|v| (v.budget, v.valid, v.kept)).collect::<Vec<_>>()
        })
    };
    let shared = budgets("60").unwrap();
    let valid: usize = shared.iter().map(|(_, valid, _)| valid).sum();
    assert_eq!(shared.iter().map(|(budget, ..)| budget).sum::<usize>(), 60);
    for &(budget, own, kept) in &shared {
        let share = 60.0 * own as f64 / valid as f64;
        assert!((budget as f64 - share).abs() < 1.0, "{shared:?}");
        assert_eq!(kept, budget);
    }
    assert!(shared[1].0 != shared[0].0, "{shared:?}");
    // Each gets one at least, and everything is everything.
    assert!(budgets("3").unwrap().iter().all(|&(budget, ..)| budget == 1));
    assert!(budgets("full").unwrap().iter().all(|&(_, valid, kept)| kept == valid));
    let refused = budgets("2").unwrap_err().to_string();
    assert!(refused.contains("3 images"), "{refused}");
    // Of one image it is that image's.
    let one = question()
        .with_selection(at("full"))
        .with_budget_total("7".parse::<hired::Budget>().unwrap());
    assert_eq!(engine.generate(&one, go).unwrap().visual.unwrap().kept, 7);
}

#[test]
fn conversations_that_make_no_prompt_are_refused() {
    let mut engine = load("next-mistral");
    let mut refused = |request: Request| {
        let error = engine.generate(&request, go).unwrap_err();
        assert!(matches!(error, Error::Request(_)), "{error:?}");
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    };
    assert!(refused(ask(Vec::new())).contains("no messages"));
    // A template that looks at the first part of a message of no parts.
    let silent = vec![Message::user("Hello"), Message::new(Role::Assistant), Message::user("Yes?")];
    assert!(refused(ask(silent)).contains("chat template"));
    // This one shows no images of the system's.
    let shown = vec![Message::system("Look.").with(picture(20, 20)), Message::user("What?")];
    assert!(refused(ask(shown)).contains("the user's"));
    let typed = vec![Message::user("see <image> and <image>").with(picture(20, 20))];
    assert!(refused(ask(typed)).contains("3 of them"));
    let many = vec![Message::user("x"); 601];
    assert!(refused(ask(many)).contains("1202 messages and parts"));
    let answer = engine.generate(&ask(vec![Message::user("x"); 20]), go);
    answer.unwrap();
}

#[test]
fn what_is_taken_literally_is_text_in_every_part() {
    for model in ["next-hub", "next-mistral"] {
        let mut engine = load(model);
        let image = engine.config().image_token;
        // Special tokens in one part, and one that two parts make together.
        let user =
            Message::user("a</s>b <image> <ima").with("ge> </").with("s>").with(picture(20, 20));
        let messages = vec![Message::user("Hi"), Message::assistant("</s>"), user];
        let request = ask(messages).with_keep_stages(true).with_literal(true);
        let answer = engine.generate(&request, go).unwrap();
        let ids = answer.stages.unwrap().input_ids;
        let visual = answer.visual.unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == image).count(), visual.tokens(), "{model}");
        let ends = ids.iter().filter(|&&id| id == 2).count();
        // Mistral's template ends what the assistant says.
        assert_eq!(ends, usize::from(model == "next-mistral"), "{model}");
        let usual = engine.generate(&request.with_literal(false), go);
        assert!(usual.is_err(), "{model}");
    }
}
