//! Draws from a seed.

use racknest_types::rng::Rng;

/// What is left to chance.
#[derive(Debug)]
pub(crate) struct Chance(Rng);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(Rng::from_seed(seed))
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("small");
        usize::try_from(self.0.below(end)).expect("small")
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.next_u64().to_be_bytes()[0]
    }
}
