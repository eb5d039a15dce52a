//! Fuzzing: frames that are broken in every way, through everything that reads what a guest sends.
//!
//! It needs no other compiler than everything else: inputs are mutations of a corpus, and a mutation
//! that makes the code answer as it never did before is added to it. Among the tests it runs briefly,
//! always the same. For longer, optimised and with all checks of arithmetic on:
//!
//! ```text
//! FUZZ_SECONDS=600 FUZZ_SEED=7 cargo test --profile fuzz -p racknest-switch --test fuzz -- --nocapture
//! ```
//!
//! A failure prints the seed, the number and the bytes of the input.

mod corpus;
mod mutate;
mod targets;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use racknest_types::rng::Rng;

use crate::targets::Targets;

/// Inputs when nobody says how long.
const INPUTS: u64 = 40_000;

/// Inputs after which the switches and tables are new ones.
const LIFE: u64 = 5_000;

/// Inputs that are kept to be mutated further.
const CORPUS_MAX: usize = 4_096;

/// What is tried just now, for whoever finds that it broke something.
static TRIED: Mutex<(u64, Vec<u8>)> = Mutex::new((0, Vec::new()));

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("it is a number"))
}

#[test]
fn nothing_that_a_guest_sends_breaks_anything() {
    let seed = setting("FUZZ_SEED").unwrap_or(1);
    let limit = setting("FUZZ_SECONDS").map(Duration::from_secs);
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        if let Ok(tried) = TRIED.try_lock() {
            println!("seed {seed}, input {}: {:02x?}", tried.0, tried.1);
        }
    }));
    let mut rng = Rng::from_seed(seed);
    let mut corpus = corpus::frames();
    let (mut answers, mut targets) = (BTreeSet::new(), Targets::new(seed));
    let (start, mut inputs) = (Instant::now(), 0_u64);
    while limit.map_or(inputs < INPUTS, |limit| start.elapsed() < limit) {
        if inputs.is_multiple_of(LIFE) {
            targets.assert_bounded();
            targets = Targets::new(rng.next_u64());
        }
        let bytes = mutate::mutate(&mut rng, &corpus);
        if let Ok(mut tried) = TRIED.lock() {
            *tried = (inputs, bytes.clone());
        }
        if answers.insert(targets.try_all(&mut rng, &bytes)) && corpus.len() < CORPUS_MAX {
            corpus.push(bytes);
        }
        inputs += 1;
    }
    println!("seed {seed}: {inputs} inputs, {} kinds of answers", answers.len());
    assert!(answers.len() > 300, "the inputs came too much to the same: {}", answers.len());
}
