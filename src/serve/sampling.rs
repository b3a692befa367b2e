//! Reads the fields for the length, the end and the sampling of an answer.

use super::ask::Terms;
use super::error::ApiError;
use super::fields::Fields;
use hired::Request;
use hired::ops::sample::Sampling;
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};

/// Largest number of stop texts in a request.
const STOPS: usize = 16;

/// Applies the fields for length, stop texts and sampling to a request.
pub fn sampled(body: &mut Fields, request: Request, terms: &Terms) -> Result<Request, ApiError> {
    let old = body.whole("max_tokens", 1)?;
    let field = "max_completion_tokens";
    let asked = body.whole(field, 1)?.or(old).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    if let Some((most, asked)) = terms.most_tokens.zip(asked).filter(|(most, asked)| asked > most) {
        return Err(body.wrong(
            "max_tokens",
            format!("{asked} tokens are requested, but this server allows at most {most}"),
        ));
    }
    let mut sampling = Sampling::default();
    if let Some(t) =
        body.number("temperature", "a number from 0 to 2", |t| (0.0..=2.0).contains(&t))?
    {
        sampling = sampling.with_temperature(t as f32);
    }
    let share = |p: f64| (0.0..=1.0).contains(&p);
    if let Some(p) = body.number("top_p", "a number from 0 to 1", share)? {
        sampling = sampling.with_top_p(p as f32);
    }
    if let Some(p) = body.number("min_p", "a number from 0 to 1", share)? {
        sampling = sampling.with_min_p(p as f32);
    }
    // Other servers use -1 for "all tokens".
    let all = |k: f64| k >= -1.0 && k.fract() == 0.0;
    if let Some(k) = body.number("top_k", "a whole number, 0 for all tokens", all)? {
        sampling = sampling.with_top_k(k.max(0.0) as usize);
    }
    let above = |f: f64| f > 0.0 && f <= 1e3;
    if let Some(f) = body.number("repetition_penalty", "a number above 0", above)? {
        sampling = sampling.with_repetition_penalty(f as f32);
    }
    let seed = body.typed_seed()?;
    // If no seed is given, one is chosen and returned, so that the client can repeat the request.
    sampling = sampling.with_seed(seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 11));
    Ok(request
        .with_max_new_tokens(asked.unwrap_or(terms.default_tokens))
        .with_sampling(sampling)
        .with_stop(stops(body)?))
}

impl Fields {
    /// A seed; negative ones are allowed.
    fn typed_seed(&mut self) -> Result<Option<u64>, ApiError> {
        match self.take("seed") {
            None => Ok(None),
            Some(value) => match value.as_u64().or(value.as_i64().map(|seed| seed as u64)) {
                Some(seed) => Ok(Some(seed)),
                None => Err(self.wrong("seed", "give a whole number")),
            },
        }
    }
}

fn stops(body: &mut Fields) -> Result<Vec<String>, ApiError> {
    let texts = match body.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(body.wrong("stop", "give a string or an array of strings")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(body.wrong("stop", "give a string or an array of strings")),
    };
    if texts.len() > STOPS {
        return Err(body.wrong("stop", format!("give at most {STOPS} texts")));
    }
    if texts.iter().any(String::is_empty) {
        return Err(body.wrong("stop", "a text is empty: leave it out"));
    }
    Ok(texts)
}
