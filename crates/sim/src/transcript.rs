//! What happened in a run: the lines that a person reads, and one number that says it all.
//!
//! Every event counts into the number; two runs of a seed are the same run if their numbers are.
//! Only the last lines are kept, unless all are asked for: a run of ten simulated minutes has
//! thousands.

use std::collections::VecDeque;
use std::fmt::Write as _;

/// Lines that are kept of a run that is not watched.
const LINES_KEPT: usize = 80;

/// The record of one run.
#[derive(Debug)]
pub struct Transcript {
    hash: u64,
    lines: VecDeque<String>,
    keep: usize,
}

impl Transcript {
    /// An empty one, which keeps all its lines or the last few.
    #[must_use]
    pub fn new(is_whole: bool) -> Self {
        let keep = if is_whole { usize::MAX } else { LINES_KEPT };
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new(), keep }
    }

    /// Counts a number in, without a line.
    pub fn count(&mut self, number: u64) {
        // FNV-1a over eight bytes at once: what is compared are runs of one program, not files.
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    /// Writes a line, for this millisecond of virtual time.
    pub fn line(&mut self, now: u64, text: &str) {
        self.count(now);
        for bytes in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.count(u64::from_le_bytes(word));
        }
        if self.lines.len() >= self.keep {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>6}.{:03} {text}", now / 1000, now % 1000));
    }

    /// The number that two equal runs share.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The lines that were kept, oldest first.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            writeln!(text, "{line}").expect("a string takes what is written");
        }
        text
    }
}
