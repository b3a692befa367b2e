//! The largest budget that keeps a promise.

use super::request::Request;
use super::session::Session;
use crate::ops::Ops;
use crate::ops::memory::Purpose;
use crate::select::{Budget, Method, Selection};
use crate::{Error, Result};
use std::time::Instant;

/// What a budget must keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Bytes that the engine may take at one moment (mapped weights are not taken).
    Memory(usize),
    /// Seconds to the first token (of the last request), estimated from this machine's measured rate of matrix
    /// products and a quarter more for everything else.
    Ttft(f64),
}

/// Norms, softmax and copies beside the matrix products.
const BESIDES: f64 = 1.25;

impl<O: Ops> Session<O> {
    /// See [`super::Engine::largest_budget`].
    pub fn budget_within(&mut self, requests: &[Request], limit: Limit) -> Result<usize> {
        if requests.is_empty() || requests.iter().any(|r| r.image.is_none()) {
            return Err(Error::Request("a budget needs an image: give one".into()));
        }
        if requests.iter().any(|r| r.selection.method == Method::Full) {
            return Err(Error::Request(
                "the method full keeps everything, whatever the budget: use another method".into(),
            ));
        }
        if self.kv_tokens.is_none() {
            // What an earlier batch needed is no part of what this one will need.
            self.runner.free_cache();
            self.runner.ops.reserve(Purpose::Workspace, 0)?;
        }
        let with = |request: &Request, count| Selection {
            budget: Budget::Count(count),
            ..request.selection.clone()
        };
        let mut batch = requests
            .iter()
            .map(|r| self.preparer.prepare(&Request { selection: with(r, 1), ..r.clone() }))
            .collect::<Result<Vec<_>>>()?;
        let images = batch.iter().filter_map(|p| p.image.as_ref());
        let valid = images.map(|i| i.plan.geometry.valid()).max().unwrap_or(0);
        let rate = match limit {
            Limit::Memory(_) => f64::INFINITY,
            Limit::Ttft(_) => self.measured_rate()?,
        };
        let mut cost = |count| -> Result<f64> {
            for (prepared, request) in batch.iter_mut().zip(requests) {
                self.preparer.plan_again(prepared, &with(request, count))?;
            }
            let (need, flops) = self.need(&batch)?;
            let prepared: f64 = batch.iter().map(|p| p.took.as_secs_f64()).sum();
            Ok(match limit {
                Limit::Memory(_) => need.peak as f64,
                Limit::Ttft(_) => prepared + BESIDES * flops as f64 / rate,
            })
        };
        let most = match limit {
            Limit::Memory(bytes) => bytes as f64,
            Limit::Ttft(seconds) => seconds,
        };
        let least = cost(1)?;
        if least > most {
            return Err(Error::Capacity(match limit {
                Limit::Memory(bytes) => format!(
                    "even one visual token needs {least} bytes at one moment, the limit is {bytes}: raise the limit"
                ),
                Limit::Ttft(_) => format!(
                    "even one visual token takes an estimated {least:.2} s to the first token, the limit is {most} s: \
                     raise the limit"
                ),
            }));
        }
        // The cost grows with the budget, but for some KiB of scratch at the first tokens.
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
        let workspace = self.predictor.probe_need(&tokens)?;
        runner.ops.reserve(Purpose::Workspace, workspace)?;
        let mut best = 0.0f64;
        for _ in 0..3 {
            let start = Instant::now();
            runner.model.probe(&mut runner.ops, &tokens)?;
            best = best.max(flops / start.elapsed().as_secs_f64());
        }
        Ok(best)
    }
}
