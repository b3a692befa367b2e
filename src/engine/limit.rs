//! Finds the largest budget that stays within a limit of memory or time, on this machine as measured or on a planned
//! GPU.

use super::predict::Need;
use super::request::Request;
use super::runner::room_for;
use super::session::Session;
use crate::ops::Ops;
use crate::ops::clock::Stage;
use crate::ops::cost::{Roof, Roofs};
use crate::ops::count::Counter;
use crate::ops::memory::{Purpose, Size};
use crate::ops::shares::Shares;
use crate::select::{Budget, Method, Selection};
use crate::{Error, Result};
use std::time::Instant;

/// A limit that a budget must stay within.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// Peak memory of the engine in bytes, without mapped weights.
    Memory(usize),
    /// Seconds to the first token of the last request, estimated from the measured rate of matrix products on this
    /// machine plus a quarter for everything else.
    Ttft(f64),
}

/// The estimated cost of a budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Peak memory in bytes.
    pub peak: usize,
    /// Seconds to the first token.
    pub ttft: f64,
}

impl Limit {
    fn keeps(self, estimate: &Estimate) -> bool {
        match self {
            Self::Memory(bytes) => estimate.peak <= bytes,
            Self::Ttft(seconds) => estimate.ttft <= seconds,
        }
    }

    /// The error for a model that exceeds the limit even with the smallest budget.
    fn refusal(self, &Estimate { peak, ttft }: &Estimate) -> Error {
        Error::Capacity(match self {
            Self::Memory(bytes) => format!(
                "does not fit: {} are needed even with one image token, {} more than the limit: raise the limit",
                Size(peak as u64),
                Size(peak.saturating_sub(bytes) as u64)
            ),
            Self::Ttft(seconds) => format!(
                "too slow: even with one image token the first token is expected after {ttft:.2} s, the limit is \
                 {seconds} s: raise the limit"
            ),
        })
    }
}

/// The speed at which a device is expected to reach the first token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// The device's peak rates.
    pub roofs: Roofs,
    /// The share of these rates that its kernels are expected to reach.
    pub shares: Shares,
    /// Seconds of host work in addition to the device's.
    pub host: f64,
}

/// Norms, softmax and copies take a quarter of the time of the matrix products, so products reach this share of their
/// measured speed overall.
const MEASURED_SHARE: f64 = 0.8;

/// Seconds after which launch and wait times are negligible.
const LONG_ENOUGH: f64 = 3e-3;

impl Pace {
    /// Seconds from the requests to the first token of the last one, for the counted work.
    pub(super) fn first_token(&self, counter: &Counter) -> f64 {
        self.host + self.expected(counter, false)
    }

    /// Seconds of one decode step on the device, for the counted work.
    pub(super) fn step(&self, counter: &Counter) -> f64 {
        self.expected(counter, true)
    }

    /// Seconds of the device's work: either of the decode steps or of everything before them.
    fn expected(&self, counter: &Counter, steps: bool) -> f64 {
        let counted = counter.costs().filter(|(stage, ..)| (*stage == Stage::Decode) == steps);
        let time =
            |(_, kind, cost)| self.roofs.kind(kind).time(cost) / self.shares.kind(kind, steps);
        counted.map(time).sum()
    }
}

/// Lower bound, in seconds, on the device's time for the counted work of some stages.
///
/// Kernels run one after the other, so the times of the kinds of work add up: the memory traffic of norms is not
/// hidden behind the arithmetic of products. Within one kind only sums are known, so small memory-bound products are
/// hidden behind large ones. What this leaves out can only make the bound lower.
pub fn floor(counter: &Counter, roofs: &Roofs, stages: impl Fn(Stage) -> bool) -> f64 {
    let counted = counter.costs().filter(|(stage, ..)| stages(*stage));
    counted.map(|(_, kind, cost)| roofs.kind(kind).time(cost)).sum()
}

/// The largest count from 1 to `most` to which `against` has no objection, and the objection to the next larger count
/// (`None` if `most` is reached). 0 if there is no such count. An objection to a count must hold for every larger
/// one.
pub fn largest<R>(
    most: usize,
    mut against: impl FnMut(usize) -> Result<Option<R>>,
) -> Result<(usize, Option<R>)> {
    let (mut fits, mut beyond, mut reason) = (0, most + 1, None);
    while beyond - fits > 1 {
        let middle = fits + (beyond - fits) / 2;
        match against(middle)? {
            None => fits = middle,
            found => (beyond, reason) = (middle, found),
        }
    }
    Ok((fits, reason))
}

/// The reason why a budget is too large.
#[derive(Debug)]
pub enum TooMuch {
    /// It exceeds a limit.
    For(Limit, Estimate),
    /// There is not enough memory for it.
    Refused(Error),
}

/// The largest budget, as a count up to `most`, that stays within all limits, and the reason why one more token would
/// not. The cost grows with the budget, except for a few KiB of scratch memory at the first tokens.
///
/// # Errors
/// [`Error::Capacity`] if even one token is too much; the errors of `cost`, where [`Error::Capacity`] and
/// [`Error::Context`] mean that the budget is too large.
pub fn largest_budget(
    most: usize,
    limits: &[Limit],
    mut cost: impl FnMut(usize) -> Result<Estimate>,
) -> Result<(usize, Option<TooMuch>)> {
    let found = largest(most, |count| match cost(count) {
        Ok(estimate) => {
            let broken = limits.iter().find(|limit| !limit.keeps(&estimate));
            Ok(broken.map(|&limit| TooMuch::For(limit, estimate)))
        }
        Err(error @ (Error::Capacity(_) | Error::Context { .. })) => {
            Ok(Some(TooMuch::Refused(error)))
        }
        Err(error) => Err(error),
    })?;
    match found {
        (0, Some(TooMuch::For(limit, estimate))) => Err(limit.refusal(&estimate)),
        (0, Some(TooMuch::Refused(error))) => Err(error),
        found => Ok(found),
    }
}

/// Refuses methods that take no budget.
///
/// # Errors
/// [`Error::Request`].
pub fn check_method(selection: &Selection) -> Result<()> {
    match selection.method {
        Method::Full => Err(Error::Request(
            "the method full keeps everything, whatever the budget: use another method".into(),
        )),
        _ => Ok(()),
    }
}

impl<O: Ops> Session<O> {
    /// See [`super::Engine::largest_budget`].
    pub fn budget_within(&mut self, requests: &[Request], limit: Limit) -> Result<usize> {
        if requests.is_empty() || requests.iter().any(|r| r.images().is_empty()) {
            return Err(Error::Request("a budget needs an image: give one".into()));
        }
        if requests.iter().any(|r| r.budget_total.is_some()) {
            return Err(Error::Request(
                "a budget is chosen for each image, so there is none for all together: leave out budget_total".into(),
            ));
        }
        requests.iter().try_for_each(|r| check_method(&r.selection))?;
        if self.kv_tokens.is_none() {
            // Memory of an earlier batch must not count towards this one.
            self.release_memory()?;
        }
        let with = |request: &Request, count| Selection {
            budget: Budget::Count(count),
            ..request.selection.clone()
        };
        let mut batch = requests
            .iter()
            .map(|r| self.preparer.prepare(&Request { selection: with(r, 1), ..r.clone() }))
            .collect::<Result<Vec<_>>>()?;
        let images = batch.iter().flat_map(|p| &p.images);
        let most = images.map(|i| i.plan.most()).max().unwrap_or(0);
        let host = batch.iter().map(|p| p.took.as_secs_f64()).sum();
        let pace = match limit {
            Limit::Memory(_) => None,
            Limit::Ttft(_) => Some(Pace {
                roofs: Roofs::all(self.measured_roof()?),
                shares: Shares::all(MEASURED_SHARE),
                host,
            }),
        };
        let (count, _) = largest_budget(most, &[limit], |count| {
            for (prepared, request) in batch.iter_mut().zip(requests) {
                self.preparer.plan_again(prepared, &with(request, count))?;
            }
            let room = self.granted(room_for([&batch[..]].into_iter()))?;
            let Need { peak, .. } = self.need(&batch, &room)?;
            let ttft = pace.map_or(0.0, |pace| pace.first_token(self.predictor.counter()));
            Ok(Estimate { peak, ttft })
        })?;
        Ok(count)
    }

    /// The measured speed of the decoder's matrix products on this machine, memory traffic included.
    fn measured_roof(&mut self) -> Result<Roof> {
        let mut flops = 0.0f64;
        // Increases the size until launching and waiting are negligible in the measurement.
        for rows in [128, 256, 512, 1024] {
            let tokens = vec![0; rows];
            let workspace = self.predictor.probe_need(&tokens)?;
            let counted = self.predictor.counter().costs();
            let work = counted.map(|(.., cost)| cost.flops).sum::<u64>() as f64;
            let runner = &mut self.runner;
            runner.ops.reserve(Purpose::Workspace, workspace)?;
            let mut least = f64::INFINITY;
            for _ in 0..3 {
                let start = Instant::now();
                runner.model.probe(&mut runner.ops, &tokens)?;
                least = least.min(start.elapsed().as_secs_f64());
            }
            flops = flops.max(work / least);
            if least > LONG_ENOUGH {
                break;
            }
        }
        // The measurement's workspace is not part of what an answer needs.
        self.runner.ops.reserve(Purpose::Workspace, 0)?;
        Ok(Roof { flops, bandwidth: f64::INFINITY })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_ends_where_something_speaks_against_more() {
        for (most, last, wanted) in [(10, 7, 7), (10, 0, 0), (10, 10, 10), (1, 1, 1), (0, 5, 0)] {
            let mut asked = Vec::new();
            let against = |count| {
                asked.push(count);
                Ok((count > last).then_some(count))
            };
            let (count, reason) = largest(most, against).unwrap();
            assert_eq!(count, wanted);
            assert_eq!(reason, (wanted < most).then_some(wanted + 1));
            assert!(asked.iter().all(|count| (1..=most).contains(count)), "{asked:?}");
        }
    }

    #[test]
    fn every_limit_is_kept_and_the_first_broken_one_is_told() {
        let cost = |count: usize| match count {
            90.. => Err(Error::Capacity("no positions".into())),
            _ => Ok(Estimate { peak: 1000 * count, ttft: 0.1 * count as f64 }),
        };
        let find = |limits: &[Limit]| largest_budget(100, limits, cost);
        let (count, why) = find(&[Limit::Memory(50_500), Limit::Ttft(7.05)]).unwrap();
        let Some(TooMuch::For(Limit::Memory(_), estimate)) = why else { panic!("{why:?}") };
        assert_eq!((count, estimate.peak), (50, 51_000));
        let (count, why) = find(&[Limit::Memory(80_000), Limit::Ttft(7.05)]).unwrap();
        assert!(count == 70 && matches!(why, Some(TooMuch::For(Limit::Ttft(_), _))), "{why:?}");
        let (count, why) = find(&[Limit::Ttft(1e3)]).unwrap();
        assert!(count == 89 && matches!(why, Some(TooMuch::Refused(_))), "{why:?}");
        let refused = find(&[Limit::Ttft(1e3), Limit::Memory(999)]).unwrap_err().to_string();
        assert!(refused.contains("1000 B") && refused.contains("1 B more"), "{refused}");
        let refused = find(&[Limit::Ttft(0.05)]).unwrap_err().to_string();
        assert!(refused.contains("0.10 s") && refused.contains("0.05 s"), "{refused}");
        assert!(largest_budget(5, &[], |_| Err(Error::Cancelled)).is_err());
    }
}
