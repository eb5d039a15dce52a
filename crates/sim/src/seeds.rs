//! Which seeds are run, and how a failing one is told.

use std::fmt::Write as _;

use crate::bug::Bug;
use crate::run::{Options, Outcome, run};

/// Seeds that once found a mistake. They are run with every test.
pub const FOUND: &[u64] = &[
    833_788_000_070_739_906,
    1_024_809_230_953_125_688,
    1_687_950_956_392_884_113,
    2_634_055_111_839_995_794,
    4_047_114_054_023_523_321,
    4_358_631_814_559_826_436,
    4_637_935_869_975_359_763,
    4_664_983_867_275_593_998,
    4_991_998_751_273_503_772,
    6_040_663_396_517_816_184,
    6_049_021_687_347_397_249,
    6_800_158_362_289_144_065,
    7_503_872_083_678_829_102,
    7_680_149_857_713_966_037,
    7_953_822_413_725_767_151,
    8_057_314_486_689_362_201,
    8_119_768_772_119_832_980,
    8_335_399_083_907_345_056,
    8_463_500_237_776_481_642,
    8_592_355_058_259_556_798,
    8_745_531_084_617_440_579,
    9_355_042_607_039_934_191,
    10_013_018_624_658_729_821,
    10_297_488_387_894_799_700,
    10_342_472_425_051_750_537,
    10_615_391_314_449_192_840,
    11_983_932_011_059_390_431,
    12_390_117_762_146_509_872,
    12_885_805_795_963_910_086,
    13_532_696_731_327_703_041,
    13_792_091_622_075_029_823,
    14_077_315_051_925_035_173,
    14_427_431_683_600_197_178,
    14_547_174_546_639_757_622,
    14_915_515_093_201_951_820,
    15_212_755_188_474_202_748,
    15_888_667_245_949_719_979,
    15_971_784_362_661_910_727,
    16_325_093_577_346_118_168,
    16_796_926_196_872_330_756,
    16_876_097_063_961_540_401,
    17_238_518_236_089_265_399,
    17_353_095_391_308_288_444,
    17_467_672_546_527_313_335,
    17_491_527_960_818_501_059,
    17_511_437_125_486_707_800,
    17_950_590_248_308_531_501,
    18_298_733_755_172_204_388,
];

/// The seed of this place in a series, so that neighbouring bases share none.
#[must_use]
pub fn nth(base: u64, place: u64) -> u64 {
    base.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The base that a commit hash gives: its first 16 digits.
#[must_use]
pub fn base_of_commit(hash: &str) -> Option<u64> {
    let digits = hash.trim().get(..16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Runs a seed twice.
///
/// # Errors
/// An invariant did not hold, or the runs differ; with all that is needed to look into it.
pub fn check(seed: u64) -> Result<Outcome, String> {
    let outcome = run(seed, Options::default());
    if outcome.violation.is_some() {
        return Err(describe(seed, &outcome));
    }
    let again = run(seed, Options::default());
    if again.hash != outcome.hash {
        return Err(format!("seed {seed}: two runs differ; look for what is not from the seed"));
    }
    Ok(outcome)
}

/// How a failing run is told: seed, invariant, the last lines, and how to have it again.
#[must_use]
pub fn describe(seed: u64, outcome: &Outcome) -> String {
    let mut text = String::new();
    if let Some(violation) = &outcome.violation {
        writeln!(text, "seed {seed}: {}: {}", violation.invariant, violation.what)
            .expect("a string takes what is written");
    }
    writeln!(
        text,
        "{}replay: cargo run -p racknest-sim -- --seed {seed} --transcript",
        outcome.transcript
    )
    .expect("a string takes what is written");
    text
}

/// The first of so many seeds that catches a planted bug, and the invariant that did.
#[must_use]
pub fn first_to_catch(bug: Bug, base: u64, seeds: u64) -> Option<(u64, &'static str)> {
    let emphasis = bug.emphasis();
    let options = Options { bug: Some(bug), emphasis, is_watched: false };
    (0..seeds).find_map(|place| {
        let seed = nth(base, place);
        let violation = run(seed, options).violation?;
        // What fails without the bug too, was not found by way of it.
        let without = Options { bug: None, ..options };
        let holds_without = run(seed, without).violation.is_none();
        holds_without.then_some((place + 1, violation.invariant))
    })
}
