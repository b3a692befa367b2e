//! Sampling on the CPU.

use super::buffer::Buffer;
use super::{Cpu, NUMBER};
use crate::ops::cost::Cost;
use crate::ops::sample::{self, Sampling};
use crate::ops::{Extent, SampleOps};
use crate::{Error, Result};

impl SampleOps for Cpu {
    fn sample(&mut self, logits: &Buffer, how: &[(Sampling, usize)]) -> Result<Vec<u32>> {
        let draw = |(row, (sampling, step)): (usize, &(Sampling, usize))| {
            sample::draw(logits.row(row), sampling, *step).ok_or_else(|| {
                Error::Numeric(
                    "the logits are not finite: the checkpoint's weights hold NaN or infinity, \
                     or overflow"
                        .into(),
                )
            })
        };
        let bytes = how.len() * logits.cols() * NUMBER;
        self.timed("sample", || Cost::bytes(bytes), |_| how.iter().enumerate().map(draw).collect())
    }
}
