//! Collects the answers of the reference model and the logits of the compared model for them.

use super::args::FidelityArgs;
use super::compare::{Distance, divergence, jaccard};
use crate::cli::Stop;
use crate::cli::eval::{Item, Question};
use crate::cli::files::read_image;
use crate::cli::interrupt::Interrupt;
use crate::cli::progress;
use hired::engine::{Answer, Engine, Image, Prompt, Request};
use hired::select::Selection;
use std::ops::ControlFlow;

/// Limit on the bytes of logits that are kept.
const LARGEST: usize = 8 << 30;

/// Runs both models.
pub struct Collector<'a> {
    pub args: &'a FidelityArgs,
    pub items: &'a [Item],
    pub interrupt: &'a Interrupt,
}

/// The results of the reference model.
pub struct Expected {
    pub vocabulary: usize,
    /// Results by budget, then by question.
    pub by_budget: Vec<Vec<Said>>,
    /// Images that could not be read, with the reason.
    pub unread: Vec<String>,
}

/// The reference's result for one question.
pub struct Said {
    /// Index of its image among the items.
    item: usize,
    /// The prompt, with the image token once.
    prompt: Vec<u32>,
    /// The answer.
    tokens: Vec<u32>,
    /// The logits behind each token of the answer.
    logits: Vec<Vec<f32>>,
    kept: Vec<Vec<u32>>,
    /// Score of the answer, 0 to 1.
    pub score: f64,
}

/// The compared model's result for one question.
pub struct Compared {
    /// The distance at each token of the reference's answer.
    pub distances: Vec<Distance>,
    /// Jaccard index of the patches kept by the two models.
    pub jaccard: f64,
    /// Score of its own answer.
    pub score: f64,
}

impl Collector<'_> {
    /// Fails if the logits to keep might take too much memory.
    pub fn fits(&self, vocabulary: usize) -> Result<(), Stop> {
        let questions: usize = self.items.iter().map(|item| item.questions.len()).sum();
        let tokens = questions * self.args.budgets().count() * self.args.max_new_tokens;
        let bytes = tokens.saturating_mul(vocabulary * size_of::<f32>());
        if bytes > LARGEST {
            let what = format!(
                "the reference's distributions may take {:.1} GiB of memory, of which {} are allowed: lower --limit or \
                 --max-new-tokens",
                bytes as f64 / (1u64 << 30) as f64,
                LARGEST >> 30
            );
            return Err(Stop::Failed(what));
        }
        Ok(())
    }

    /// The reference's answers, with the logits behind them.
    pub fn answers(&self, engine: &mut Engine) -> Result<Expected, Stop> {
        let selections = self.args.selections();
        let mut expected = Expected {
            vocabulary: engine.config().text.vocab,
            by_budget: selections.iter().map(|_| Vec::new()).collect(),
            unread: Vec::new(),
        };
        let image_token = engine.config().image_token;
        let bar = progress::steps(self.items.len());
        bar.begin("reference");
        for (index, item) in self.items.iter().enumerate() {
            let image = match self.image(item)? {
                Ok(image) => image,
                Err(why) => {
                    expected.unread.push(why);
                    bar.end();
                    continue;
                }
            };
            for (selection, all) in selections.iter().zip(&mut expected.by_budget) {
                let answers = self.ask(engine, item, &image, selection)?;
                let mut said: Vec<Said> = answers
                    .into_iter()
                    .zip(&item.questions)
                    .map(|(answer, question)| self.said(index, image_token, answer, question))
                    .collect();
                let logits = self.forced(engine, &image, selection, &said)?;
                said.iter_mut().zip(logits).for_each(|(said, logits)| said.logits = logits);
                all.extend(said);
            }
            bar.end();
        }
        if expected.by_budget.iter().all(Vec::is_empty) {
            let why = expected.unread.first().map_or("there is none", |why| why);
            return Err(Stop::Failed(format!("no image could be read; the first: {why}")));
        }
        Ok(expected)
    }

    /// The compared model's results for the same prompts and answers: by budget, then by question.
    pub fn distances(
        &self,
        engine: &mut Engine,
        expected: &Expected,
    ) -> Result<Vec<Vec<Compared>>, Stop> {
        let selections = self.args.selections();
        let mut found: Vec<Vec<Compared>> = selections.iter().map(|_| Vec::new()).collect();
        let bar = progress::steps(self.items.len());
        bar.begin("comparison");
        for (index, item) in self.items.iter().enumerate() {
            let about = |said: &&Said| said.item == index;
            if !expected.by_budget.iter().flatten().any(|said| about(&said)) {
                bar.end();
                continue;
            }
            let image = self.image(item)?.map_err(Stop::Failed)?;
            for ((selection, all), found) in
                selections.iter().zip(&expected.by_budget).zip(&mut found)
            {
                // Results of one image are adjacent.
                let first = all.iter().position(|said| about(&said)).unwrap_or(all.len());
                let said = &all[first..][..item.questions.len()];
                let answers = self.ask(engine, item, &image, selection)?;
                let logits = self.forced(engine, &image, selection, said)?;
                for (((said, answer), logits), question) in
                    said.iter().zip(answers).zip(logits).zip(&item.questions)
                {
                    let distances = said.logits.iter().zip(&logits).map(|(a, b)| divergence(a, b));
                    found.push(Compared {
                        distances: distances.collect(),
                        jaccard: jaccard(&said.kept, &kept(&answer)),
                        score: self.args.metric.score(&answer.text, &question.right),
                    });
                }
            }
            bar.end();
        }
        Ok(found)
    }

    fn image(&self, item: &Item) -> Result<Result<Image, String>, Stop> {
        match read_image(&item.image, self.args.device.max_pixels) {
            Ok((name, bytes)) => Ok(Ok(Image::encoded(name, bytes))),
            Err(Stop::Failed(why)) => Ok(Err(why)),
            Err(other) => Err(other),
        }
    }

    /// Greedy answers to an image's questions.
    fn ask(
        &self,
        engine: &mut Engine,
        item: &Item,
        image: &Image,
        selection: &Selection,
    ) -> Result<Vec<Answer>, Stop> {
        let requests: Vec<Request> = item
            .questions
            .iter()
            .map(|question| {
                Request::new(&question.prompt[..])
                    .with_max_new_tokens(self.args.max_new_tokens)
                    .with_keep_stages(true)
            })
            .collect();
        self.sweep(engine, image, &requests, selection)
    }

    /// For each question, the logits at each token of the reference's answer, given the tokens before it (teacher
    /// forcing).
    fn forced(
        &self,
        engine: &mut Engine,
        image: &Image,
        selection: &Selection,
        said: &[Said],
    ) -> Result<Vec<Vec<Vec<f32>>>, Stop> {
        said.iter()
            .map(|said| {
                let request = |count: usize| {
                    let ids = [&said.prompt[..], &said.tokens[..count]].concat();
                    Request::new(Prompt::Ids(ids)).with_max_new_tokens(1).with_keep_stages(true)
                };
                let requests: Vec<Request> = (0..said.tokens.len()).map(request).collect();
                let answers = self.sweep(engine, image, &requests, selection)?;
                Ok(answers.into_iter().map(logits).collect())
            })
            .collect()
    }

    fn sweep(
        &self,
        engine: &mut Engine,
        image: &Image,
        requests: &[Request],
        selection: &Selection,
    ) -> Result<Vec<Answer>, Stop> {
        let go_on = || match self.interrupt.raised() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let mut answers = engine.sweep(image, requests, std::slice::from_ref(selection), go_on)?;
        Ok(answers.remove(0))
    }

    fn said(&self, item: usize, image_token: u32, answer: Answer, question: &Question) -> Said {
        let kept = kept(&answer);
        let score = self.args.metric.score(&answer.text, &question.right);
        let mut prompt = answer.stages.expect("asked for").input_ids;
        // The prompt as fed repeats the image token for every row of the image.
        prompt.dedup_by(|a, b| a == b && *a == image_token);
        Said { item, prompt, tokens: answer.token_ids, logits: Vec::new(), kept, score }
    }
}

fn logits(answer: Answer) -> Vec<f32> {
    answer.stages.expect("asked for").prefill_logits
}

fn kept(answer: &Answer) -> Vec<Vec<u32>> {
    answer.visual.as_ref().map_or_else(Vec::new, |visual| visual.kept_indices.clone())
}
