//! The demo model reads what is in the demo's pictures: true answers, from files as users have them.

use hired::engine::{Device, Engine, EngineOptions, Image, Request};
use hired::select::{Method, Selection};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

fn go() -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo")
}

#[test]
fn it_answers_what_is_in_the_pictures() {
    let options = EngineOptions::default().with_device(Device::Cpu);
    let mut engine = Engine::load(demo().join("model"), options).unwrap();
    let lines = std::fs::read_to_string(demo().join("questions.jsonl")).unwrap();
    let under = |method: Method, budget: &str| {
        Selection::default().with_method(method).with_budget(budget.parse().unwrap())
    };
    let selections =
        [under(Method::Full, "full"), under(Method::Hired, "20%"), under(Method::Spatial, "20%")];
    let mut right = [0; 3];
    let mut asked = 0;
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap();
        let name = text("image").to_owned();
        let bytes = std::fs::read(demo().join(&name)).unwrap();
        let request = Request::new(text("prompt")).with_max_new_tokens(8);
        let answers =
            engine.sweep(&Image::encoded(name, bytes), &[request], &selections, go).unwrap();
        for (right, answers) in right.iter_mut().zip(&answers) {
            *right += usize::from(answers[0].text.trim() == text("answer"));
        }
        asked += 1;
    }
    let [full, hired, spatial] = right;
    println!(
        "of {asked}: {full} with all tokens, {hired} with HiRED's fifth, {spatial} with any fifth"
    );
    assert!(asked == 20 && full >= 18, "of {asked} with all tokens: {full}");
    assert!(hired >= 12 && hired > spatial, "of {asked}: {hired}, by even distances {spatial}");
}
