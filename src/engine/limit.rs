//! The largest budget that keeps a promise.

use super::Engine;
use super::request::Request;
use crate::select::{Budget, Selection};
use crate::{Error, Result};
use std::time::Instant;

/// What a budget must keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Bytes that the engine may take at one moment (mapped weights are not taken).
    Memory(usize),
    /// Seconds to the first token, estimated from this machine's measured rate of matrix products.
    Ttft(f64),
}

impl Engine {
    /// The largest count budget for the request's image that keeps `limit`; the request's own budget plays no part.
    ///
    /// # Errors
    /// [`Error::Capacity`] when even one token breaks the limit, and what [`Engine::generate`] says of the request.
    pub fn largest_budget(&mut self, request: &Request, limit: Limit) -> Result<usize> {
        if request.image.is_none() {
            return Err(Error::Request("a budget needs an image: give one".into()));
        }
        let with = |count| Selection { budget: Budget::Count(count), ..request.selection.clone() };
        let smallest = Request { selection: with(1), ..request.clone() };
        let mut prepared = self.preparer.prepare(&smallest)?;
        let valid = prepared.image.as_ref().map_or(0, |i| i.plan.geometry.valid());
        let rate = match limit {
            Limit::Memory(_) => f64::INFINITY,
            Limit::Ttft(_) => self.measured_rate()?,
        };
        let mut cost = |count| -> Result<f64> {
            self.preparer.plan_again(&mut prepared, &with(count))?;
            let (need, flops) = self.need(std::slice::from_ref(&prepared))?;
            Ok(match limit {
                Limit::Memory(_) => need.peak as f64,
                Limit::Ttft(_) => prepared.took.as_secs_f64() + flops as f64 / rate,
            })
        };
        let (most, unit) = match limit {
            Limit::Memory(bytes) => (bytes as f64, "bytes"),
            Limit::Ttft(seconds) => (seconds, "seconds to the first token"),
        };
        let least = cost(1)?;
        if least > most {
            return Err(Error::Capacity(format!(
                "even one visual token needs {least:.1} {unit}, the limit is {most:.1}: raise the limit"
            )));
        }
        // The cost does not fall when the budget grows.
        let (mut fits, mut beyond) = (1, valid + 1);
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            match cost(middle).map(|cost| cost <= most) {
                Ok(true) => fits = middle,
                Ok(false) | Err(Error::Capacity(_)) => beyond = middle,
                Err(error) => return Err(error),
            }
        }
        Ok(fits)
    }

    /// Operations per second of the decoder's own matrix products on this machine, now.
    fn measured_rate(&mut self) -> Result<f64> {
        const ROWS: usize = 128;
        let tokens = vec![0; ROWS];
        let (runner, text) = (&mut self.runner, &self.preparer.config.text);
        let flops = (2 * 2 * ROWS * text.hidden * text.intermediate) as f64;
        let rows = runner.model.embed_tokens(&mut runner.ops, &tokens)?;
        let mut best = 0.0f64;
        for _ in 0..3 {
            let start = Instant::now();
            runner.model.probe(&mut runner.ops, &rows)?;
            best = best.max(flops / start.elapsed().as_secs_f64());
        }
        Ok(best)
    }
}
