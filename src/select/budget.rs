//! Parses budgets and shares from decimal text to integers, without floating-point arithmetic.

use super::Geometry;
use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use crate::error::{QUOTED, excerpt};
use crate::{Error, Result};

const MILLION: u32 = 1_000_000;

/// The number of image tokens that may enter the decoder, over all partitions, without row separators. For methods
/// that drop tokens inside the decoder: the number that may stay of those that entered, row separators included.
///
/// Parses from `576`, `20%` and `full`, and prints the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// This many tokens, at least 1.
    Count(usize),
    /// A share of all P·T patches, padding included, in millionths of a percent: 1 to 10⁸.
    Percent(u32),
    /// Every valid patch.
    Full,
}

impl Budget {
    /// The budget *B* as a number of tokens, for an image of `partitions` · `patches` patches of which `valid` are
    /// valid. A share of Q millionths of a percent gives ⌊P·T·Q / 10⁸⌋; B may exceed `valid`.
    ///
    /// # Errors
    /// [`Error::Request`] for a budget out of range, or a share that rounds to no token on this image.
    pub fn tokens(self, partitions: usize, patches: usize, valid: usize) -> Result<usize> {
        if let Some(why) = self.fault() {
            return Err(wrong(&self.to_string(), why));
        }
        let all = partitions * patches;
        match self {
            Budget::Count(count) => Ok(count),
            Budget::Full => Ok(valid),
            Budget::Percent(share) => match all as u128 * u128::from(share) / 100_000_000 {
                0 => Err(Error::Request(format!(
                    "budget {self} rounds to no token on this image, which has only {all} patches \
                     ({partitions} partitions of {patches}): give a larger share or a count"
                ))),
                count => Ok(count as usize),
            },
        }
    }

    /// Splits the budget for several images into one budget per image. A share refers to P·T summed over all images.
    /// The tokens are split in proportion to the images' valid patches, rounded by largest remainders (ties go to the
    /// earlier image), with at least 1 each.
    ///
    /// # Errors
    /// As [`Budget::tokens`]; [`Error::Request`] if there are fewer tokens than images.
    pub fn shared(self, images: &[Geometry]) -> Result<Vec<Budget>> {
        let all: usize = images.iter().map(Geometry::all).sum();
        let valid: usize = images.iter().map(Geometry::valid).sum();
        if self == Budget::Full || images.is_empty() {
            return Ok(vec![self; images.len()]);
        }
        let total = self.tokens(1, all, valid)?;
        if total < images.len() {
            return Err(Error::Request(format!(
                "budget {self} for all images together comes to {total} of {all} patches, but there are {} images: \
                 give at least one token per image",
                images.len()
            )));
        }
        let part = |image: &Geometry| image.valid() as u128 * total as u128;
        let mut counts: Vec<usize> =
            images.iter().map(|image| (part(image) / valid as u128) as usize).collect();
        let mut order: Vec<usize> = (0..images.len()).collect();
        // The sort is stable, so ties go to the earlier image.
        order.sort_by_key(|&i| Reverse(part(&images[i]) % valid as u128));
        let left = total - counts.iter().sum::<usize>();
        order[..left].iter().for_each(|&i| counts[i] += 1);
        while let Some(none) = counts.iter().position(|&count| count == 0) {
            let most = (0..counts.len()).rev().max_by_key(|&i| counts[i]);
            counts[most.unwrap_or(none)] -= 1;
            counts[none] = 1;
        }
        Ok(counts.into_iter().map(Budget::Count).collect())
    }

    /// The reason why the budget is invalid for any image.
    fn fault(self) -> Option<&'static str> {
        match self {
            Budget::Count(0) | Budget::Percent(0) => Some("keeps no token"),
            Budget::Percent(share) if share > 100 * MILLION => Some("is more than 100%"),
            _ => None,
        }
    }
}

fn wrong(text: &str, why: &str) -> Error {
    let text = excerpt(text, QUOTED);
    Error::Request(format!(
        "budget `{text}` {why}: give a count from 1 (576), a share above 0% and up to 100% (20%), or full"
    ))
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_suffix('%').unwrap_or(text);
        let budget = if text == "full" {
            Ok(Budget::Full)
        } else if number.starts_with('-') && millionths(number).is_some() {
            Err("keeps no token")
        } else if number != text {
            let share = millionths(number).ok_or("is not a number");
            share.map(|share| Budget::Percent(u32::try_from(share).unwrap_or(u32::MAX)))
        } else if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            // Parsing digits can only fail by overflow, and such a count is larger than any image.
            Ok(Budget::Count(text.parse().unwrap_or(usize::MAX)))
        } else {
            Err("is not a whole number")
        };
        match budget {
            Ok(budget) => budget.fault().map_or(Ok(budget), |why| Err(wrong(text, why))),
            Err(why) => Err(wrong(text, why)),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Budget::Count(count) => write!(f, "{count}"),
            Budget::Percent(share) => write!(f, "{}%", Decimal(share)),
            Budget::Full => f.write_str("full"),
        }
    }
}

/// The full image's share of the budget: 0 to 1 in integer millionths. Parses from `0.5`, which is also the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alpha(u32);

impl Alpha {
    /// The share in millionths, *A* = 10⁶·alpha: 0 to 10⁶.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// The share as a floating-point number, for reports only.
    pub fn value(self) -> f64 {
        f64::from(self.0) / f64::from(MILLION)
    }

    /// ⌊A·count / 10⁶⌋.
    pub(super) fn of(self, count: usize) -> usize {
        // The result is at most `count`, because A ≤ 10⁶.
        (count as u128 * u128::from(self.0) / u128::from(MILLION)) as usize
    }

    /// ⌊(10⁶ − A)·count / 10⁶⌋.
    pub(super) fn rest_of(self, count: usize) -> usize {
        Alpha(MILLION - self.0).of(count)
    }
}

impl Alpha {
    /// The share `count` / `of`, where `of` divides a million.
    pub(super) const fn parts(count: u32, of: u32) -> Self {
        Alpha(MILLION / of * count)
    }
}

impl Default for Alpha {
    fn default() -> Self {
        Alpha(MILLION / 2)
    }
}

impl FromStr for Alpha {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A negative number that rounds to zero is still refused.
        let negative = text.starts_with('-') && text.bytes().any(|b| matches!(b, b'1'..=b'9'));
        let value = millionths(text).filter(|_| !negative).and_then(|v| u32::try_from(v).ok());
        value.filter(|&value| value <= MILLION).map(Alpha).ok_or_else(|| {
            let text = excerpt(text, QUOTED);
            Error::Request(format!(
                "alpha `{text}` is not a number from 0 to 1: it is the full image's share of the budget"
            ))
        })
    }
}

impl fmt::Display for Alpha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal(self.0).fmt(f)
    }
}

/// A number of at least 0 in integer millionths. Parses from `1.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor(u32);

impl Factor {
    /// The number `tenths` / 10.
    pub(super) const fn tenths(tenths: u32) -> Self {
        Self(tenths * MILLION / 10)
    }

    /// The number in floating point.
    pub fn value(self) -> f64 {
        f64::from(self.0) / f64::from(MILLION)
    }
}

impl FromStr for Factor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // A negative number that rounds to zero is still refused.
        let negative = text.starts_with('-') && text.bytes().any(|b| matches!(b, b'1'..=b'9'));
        let value = millionths(text).filter(|_| !negative);
        value.and_then(|value| u32::try_from(value).ok()).map(Self).ok_or_else(|| {
            let text = excerpt(text, QUOTED);
            Error::Request(format!(
                "factor `{text}` is not a number from 0 to {}",
                u32::MAX / MILLION
            ))
        })
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal(self.0).fmt(f)
    }
}

/// Prints millionths as a decimal number without trailing zeros.
struct Decimal(u32);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / MILLION, self.0 % MILLION);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Parses a decimal number (`20`, `.5`, `-1.25`, `1e-3`) into integer millionths, rounding half to even. `None` if it
/// is not a number. Saturates beyond 64 bits.
fn millionths(text: &str) -> Option<i64> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_start_matches('0').as_bytes();
    if significant.is_empty() {
        return Some(0);
    }
    // The number of significant digits, padded with zeros, that make up the integer millionths.
    let leading_zeros = digits.len() - significant.len();
    let kept = whole.len() as i64 - leading_zeros as i64 + i64::from(exponent) + 6;
    let kept = match kept {
        ..0 => return Some(0),
        0..=18 => kept as usize,
        _ => return Some(sign * i64::MAX),
    };
    let (head, tail) = significant.split_at(kept.min(significant.len()));
    let appended = 10i64.pow((kept - head.len()) as u32);
    let floor = head.iter().fold(0, |value, b| 10 * value + i64::from(b - b'0')) * appended;
    let up = match tail {
        [b'5', rest @ ..] => floor % 2 == 1 || rest.iter().any(|&b| b != b'0'),
        [first, ..] => *first > b'5',
        [] => false,
    };
    Some(sign * (floor + i64::from(up)))
}

#[cfg(test)]
mod tests {
    use super::millionths;

    #[test]
    fn decimals_round_half_to_even() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1_000_000),
            ("+.5", 500_000),
            ("5.", 5_000_000),
            ("-1.25", -1_250_000),
            ("0.0000005", 0),
            ("0.0000015", 2),
            ("0.0000025", 2),
            ("0.00000250000000000000000000000000001", 3),
            ("0.00000249999999999999999999999999999", 2),
            ("0.9999995", 1_000_000),
            ("0.00000004", 0),
            ("33.3333335", 33_333_334),
            ("00020", 20_000_000),
            ("1e-6", 1),
            ("2.5E-6", 2),
            ("5e-7", 0),
            ("6e-7", 1),
            ("9e-8", 0),
            ("0.00002e3", 20_000),
            ("1e2", 100_000_000),
            ("0e2000000000", 0),
            ("1e2000000000", i64::MAX),
            ("-1e2000000000", -i64::MAX),
            ("1e-2000000000", 0),
            ("123456789012.3456785", 123_456_789_012_345_678),
        ] {
            assert_eq!(millionths(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_number() {
        let numbers = "|.|-|+|e5|1e|1e1.5|1.2.3|0x10|nan|inf| 1|1_000|--1|٣|1e99999999999";
        for text in numbers.split('|') {
            assert_eq!(millionths(text), None, "{text}");
        }
    }
}
