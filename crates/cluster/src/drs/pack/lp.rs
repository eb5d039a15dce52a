//! The configuration linear program, by the revised simplex method with column generation.
//!
//! The only floats in this crate's planners. A simplex needs exact fractions (which grow without
//! bound) or floats; and nothing follows from its figures alone: patterns are whole numbers made by
//! the caller, how often each is used is rounded down, and the bound is proved from the prices rounded
//! to integers. Another machine's rounding could at most cost a host. Only `+ - * /` is used, which
//! IEEE 754 defines to the last bit.

use alloc::vec::Vec;

use super::PRICE_UNIT;

/// Rounds of column generation at most; it takes a few dozen.
const ROUNDS_MAX: usize = 2000;

/// How much better than its cost a pattern must be.
const GAIN: f64 = 1e-7;

/// What the program says.
pub(super) struct Solution {
    /// The patterns in use, and on how many whole hosts each.
    pub(super) patterns: Vec<(Vec<u64>, u64)>,
    /// What a VM of each batch is worth.
    pub(super) prices: Vec<u64>,
}

/// Solves for these counts; `best_pattern` finds the pattern worth most at given prices.
pub(super) fn solve(counts: &[u64], best_pattern: &mut dyn FnMut(&[u64]) -> Vec<u64>) -> Solution {
    let size = counts.len();
    let mut basis = Basis::of_single_patterns(counts, best_pattern);
    for _ in 0..ROUNDS_MAX {
        let prices = basis.prices();
        let pattern = best_pattern(&whole(&prices));
        let column = pattern.iter().map(|count| float(*count)).collect::<Vec<_>>();
        let worth = prices.iter().zip(&column).map(|(price, count)| price * count).sum::<f64>();
        if worth <= 1.0 + GAIN || !basis.enter(pattern, &column) {
            break;
        }
    }
    let prices = whole(&basis.prices());
    let patterns = basis.patterns.into_iter().zip(basis.amounts);
    let patterns = patterns.take(size).map(|(pattern, amount)| (pattern, floor(amount))).collect();
    Solution { patterns, prices }
}

/// A basis of the program: as many patterns as batches, and the inverse of their matrix.
struct Basis {
    patterns: Vec<Vec<u64>>,
    inverse: Vec<Vec<f64>>,
    amounts: Vec<f64>,
}

impl Basis {
    /// Hosts filled with VMs of one batch each.
    fn of_single_patterns(
        counts: &[u64],
        best_pattern: &mut dyn FnMut(&[u64]) -> Vec<u64>,
    ) -> Self {
        let size = counts.len();
        let mut basis = Self { patterns: Vec::new(), inverse: Vec::new(), amounts: Vec::new() };
        for at in 0..size {
            let mut prices = alloc::vec![0; size];
            prices[at] = PRICE_UNIT;
            let mut pattern = best_pattern(&prices);
            // A batch with nothing left still needs its row.
            pattern[at] = pattern[at].max(1);
            let in_one = float(pattern[at]);
            let mut row = alloc::vec![0.0; size];
            row[at] = 1.0 / in_one;
            basis.patterns.push(pattern);
            basis.inverse.push(row);
            basis.amounts.push(float(counts[at]) / in_one);
        }
        basis
    }

    /// What a VM of each batch is worth: the sums of the inverse's columns, as each host costs one.
    fn prices(&self) -> Vec<f64> {
        (0..self.amounts.len())
            .map(|column| self.inverse.iter().map(|row| row[column]).sum::<f64>().max(0.0))
            .collect()
    }

    /// Takes a pattern in, and the one out that is used up first.
    fn enter(&mut self, pattern: Vec<u64>, column: &[f64]) -> bool {
        let dot = |row: &Vec<f64>| row.iter().zip(column).map(|(one, other)| one * other).sum();
        let change = self.inverse.iter().map(dot).collect::<Vec<f64>>();
        let ratio = |at: usize| self.amounts[at] / change[at];
        let leaving = (0..change.len()).filter(|at| change[*at] > GAIN);
        let leaving = leaving.min_by(|one, other| ratio(*one).total_cmp(&ratio(*other)));
        let Some(leaving) = leaving else {
            return false;
        };
        let pivot = change[leaving];
        for value in &mut self.inverse[leaving] {
            *value /= pivot;
        }
        self.amounts[leaving] /= pivot;
        let (row, amount) = (self.inverse[leaving].clone(), self.amounts[leaving]);
        for at in (0..change.len()).filter(|at| *at != leaving) {
            for (value, pivot) in self.inverse[at].iter_mut().zip(&row) {
                *value -= change[at] * pivot;
            }
            self.amounts[at] -= change[at] * amount;
        }
        self.patterns[leaving] = pattern;
        true
    }
}

fn whole(prices: &[f64]) -> Vec<u64> {
    prices.iter().map(|price| floor(price * float(PRICE_UNIT) + 0.5)).collect()
}

fn float(count: u64) -> f64 {
    // Counts of VMs and prices stay far below 2^32, up to which floats hold every integer.
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The whole part, with a hair's breadth of rounding forgiven.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "there is no checked conversion from floats; `as` saturates, and negative becomes 0"
)]
fn floor(value: f64) -> u64 {
    (value + GAIN) as u64
}
