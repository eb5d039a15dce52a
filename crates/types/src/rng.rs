//! Randomness that a seed repeats.
//!
//! Whoever needs chance is handed an [`Rng`]; one seed gives the whole run. Not for secrets.

/// A seeded generator (SplitMix64: Steele, Lea and Flood, OOPSLA 2014).
///
/// ```
/// use racknest_types::rng::Rng;
///
/// let (mut one, mut two) = (Rng::from_seed(7), Rng::from_seed(7));
/// assert_eq!(one.next_u64(), two.next_u64());
/// ```
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of this seed.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for one part of a run, so that one part's draws do not shift
    /// another's.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.next_u64())
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end`, `end` itself not included; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // Lemire's multiplication without rejection: the bias is below 2^-32 for ends below 2^32.
        let wide = u128::from(self.next_u64()) * u128::from(end);
        u64::try_from(wide >> 64).expect("the high half of a product fits in 64 bits")
    }
}
