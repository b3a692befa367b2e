//! Prints an answer as JSON or as one line of statistics.

use super::devices::Cpu;
use super::select::counted;
use hired::engine::{Answer, CardInfo, Engine, FinishReason, Memory, Request, Timings, Visual};
use hired::select::Selection;
use serde::Serialize;

/// The JSON object of an answer.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    schema: u32,
    text: &'a str,
    token_ids: &'a [u32],
    finish_reason: FinishReason,
    prompt_tokens: usize,
    visual: Option<&'a Visual>,
    /// The selection of each image, if a prompt has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    visuals: Option<&'a [Visual]>,
    host_round_trip: bool,
    #[serde(flatten)]
    how: How,
    #[serde(flatten)]
    asked: Asked<'a>,
    timings: Timings,
    memory: Memory,
    device: &'a Device<'a>,
}

/// The request, and the model that answered it.
#[derive(Debug, Serialize)]
pub struct Asked<'a> {
    /// The model as given on the command line.
    model: &'a str,
    /// The image's name as in error messages.
    image: Option<&'a str>,
    /// The images' names, if a prompt has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    /// The text of the prompt before the chat template; `None` if messages were given.
    prompt: Option<&'a str>,
    /// The total budget as given on the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_total: Option<String>,
    /// The seed; `None` if nothing is random.
    seed: Option<u64>,
    dtype: &'a str,
}

impl<'a> Asked<'a> {
    pub fn new(
        model: &'a str,
        images: &'a [String],
        prompt: Option<&'a str>,
        system: Option<&'a str>,
        request: &Request,
        dtype: &'a str,
    ) -> Self {
        let sampling = &request.sampling;
        let seed = (sampling.temperature > 0.0).then_some(sampling.seed);
        let image = images.first().map(String::as_str);
        let images = (images.len() > 1).then_some(images);
        let budget_total = request.budget_total.map(|budget| budget.to_string());
        Self { model, image, images, system, prompt, budget_total, seed, dtype }
    }
}

/// The device that computed.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Device<'a> {
    Cpu {
        /// The backend of large matrix multiplications: the program's own kernels or cuBLAS.
        gemm: &'static str,
        #[serde(flatten)]
        cpu: Cpu,
    },
    Cuda(&'a CardInfo),
}

impl<'a> Device<'a> {
    pub fn of(engine: &'a Engine) -> Self {
        match engine.card() {
            None => Self::Cpu { gemm: "own", cpu: Cpu::here() },
            Some(card) => Self::Cuda(card),
        }
    }
}

/// The options of the selection that had an effect.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct How {
    method: Option<String>,
    rule: Option<String>,
    alpha: Option<f64>,
}

impl How {
    pub fn new(selection: &Selection, visual: Option<&Visual>) -> Self {
        let Some(visual) = visual else { return Self::default() };
        let parts = selection.parts();
        let shares = parts.shares && visual.grid.is_some();
        Self {
            method: Some(selection.method.to_string()),
            rule: parts.rule.then(|| selection.rule.to_string()),
            alpha: shares.then(|| selection.alpha.value()),
        }
    }
}

impl<'a> Report<'a> {
    pub fn new(
        answer: &'a Answer,
        asked: Asked<'a>,
        selection: &Selection,
        device: &'a Device<'a>,
    ) -> Self {
        Self {
            schema: 1,
            text: &answer.text,
            token_ids: &answer.token_ids,
            finish_reason: answer.finish_reason,
            prompt_tokens: answer.prompt_tokens,
            visual: answer.visual.as_ref(),
            visuals: Some(&answer.visuals[..]).filter(|visuals| visuals.len() > 1),
            host_round_trip: answer.host_round_trip,
            how: How::new(selection, answer.visual.as_ref()),
            asked,
            timings: answer.timings,
            memory: answer.memory,
            device,
        }
    }
}

/// The cost of an answer, on one line.
pub fn statistics(answer: &Answer) -> String {
    let Timings { ttft, decode_tokens_per_second: rate, .. } = answer.timings;
    let tokens = match answer.token_ids.len() {
        1 => "1 token".into(),
        tokens => format!("{tokens} tokens"),
    };
    let mut line = format!("{tokens}, first token {ttft:.2} s");
    if let Some(rate) = rate {
        line += &format!(", {rate:.1} tokens/s");
    }
    match answer.visuals.as_slice() {
        [] => {}
        [visual] => {
            line += &format!(", kept {} of {} image tokens", counted(visual), visual.valid);
        }
        visuals => {
            let kept: usize = visuals.iter().map(|visual| visual.kept + visual.merged).sum();
            let valid: usize = visuals.iter().map(|visual| visual.valid).sum();
            let images = visuals.len();
            line += &format!(", kept {kept} of {valid} image tokens of {images} images");
        }
    }
    if answer.host_round_trip {
        line += "; the GPU had to wait for the host to select them";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use hired::select::{Budget, Method};

    fn visual(grid: Option<[usize; 2]>) -> Visual {
        let mut visual = Visual::default();
        visual.grid = grid;
        visual
    }

    #[test]
    fn what_plays_no_part_is_not_told() {
        let hired = Selection::default();
        let everything = hired.clone().with_budget(Budget::Full);
        let full = hired.clone().with_method(Method::Full);
        let told = |selection, grid: Option<[usize; 2]>| {
            let How { method, rule, alpha } = How::new(selection, Some(&visual(grid)));
            (method.unwrap_or_default(), rule.unwrap_or_default(), alpha)
        };
        let words = |method: &str, rule: &str, alpha| (method.into(), rule.into(), alpha);
        assert_eq!(told(&hired, Some([2, 2])), words("hired", "exact", Some(0.5)));
        assert_eq!(told(&hired, None), words("hired", "exact", None));
        assert_eq!(told(&everything, Some([2, 2])), words("hired", "", None));
        assert_eq!(told(&full, Some([2, 2])), words("full", "", None));
        assert_eq!(How::new(&hired, None), How::default());
    }
}
