//! The exponential's constants: exp(x) = 2ⁿ · exp(r) with n = x/ln 2 rounded and |r| ≤ ln 2 / 2, exp(r) by a polynomial.

/// Below the first the result is 0, above the second it is infinite. A NaN passes both comparisons and stays.
pub const LEAST: f32 = -104.0;
pub const MOST: f32 = 89.0;
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts, so that x − n·ln 2 is accurate: the first part times n is subtracted in one fused operation.
pub const LN2: f32 = std::f32::consts::LN_2;
pub const LN2_REST: f32 = -1.904_654_3e-9;
/// exp(r) ≈ 1 + r + r² · Σ, the highest power first (the coefficients of Moshier's Cephes library).
pub const POWERS: [f32; 6] =
    [1.987_569_2e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5];
